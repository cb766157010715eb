"""The result of AutoAttack: the whole, each attack, and an entry of a leaderboard."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from advgan_jax.evaluation.combine import keep_where
from advgan_jax.evaluation.result import Evaluation


class Component(NamedTuple):
    """What one attack of the sequence contributed.

    Attributes:
      attacked: number of images that all earlier attacks failed on.
      fooled: number of these that it succeeded on.
      robust_accuracy: share of all images still classified correctly after it.
      seconds: its time, without compilation.
    """

    attacked: int
    fooled: int
    robust_accuracy: float
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AutoAttackResult:
    """The result of `autoattack`.

    Attributes:
      evaluation: the whole, image by image.
      components: what each attack contributed, by name in the order of their runs.
      adversarial: adversarial images, float32 like the clean ones; the clean ones where
        no attack succeeded.
      broken_by: the name of the attack that succeeded on each image, `[N]`; `clean`
        where the clean image is misclassified, and an empty text where it is robust.
      norm: of the bound.
      epsilon: the bound, in pixel units.
      version: `standard`, `plus` or `rand`; `custom` if only some attacks ran.
    """

    evaluation: Evaluation
    components: Mapping[str, Component]
    adversarial: np.ndarray
    broken_by: np.ndarray
    norm: str
    epsilon: float
    version: str

    def __repr__(self) -> str:
        return (
            f"AutoAttackResult({self.version}, {self.norm} {self.epsilon:g}, clean "
            f"{self.clean_accuracy:.1%}, robust {self.robust_accuracy:.1%} of "
            f"{len(self.broken_by)} images)"
        )

    @property
    def robust_accuracy(self) -> float:
        """Share of the images that are classified correctly under every attack."""
        return self.evaluation.robust_accuracy

    @property
    def clean_accuracy(self) -> float:
        """Share of the clean images that are classified correctly."""
        return self.evaluation.clean_accuracy

    def entry(self, **fields: Any) -> dict[str, Any]:
        """Return an entry for a leaderboard of robust models, in JSON values.

        The names are RobustBench's; its files have texts instead of numbers, such as
        "8/255". Accuracies are percentages with two decimals. `fields` are added as
        they are, such as `name`, `dataset`, `architecture` or `link`.
        """
        percent = {
            "clean_acc": round(100 * self.clean_accuracy, 2),
            "autoattack_acc": round(100 * self.robust_accuracy, 2),
        }
        after = {
            name: round(100 * component.robust_accuracy, 2)
            for name, component in self.components.items()
        }
        threat = {"threat_model": self.norm, "eps": float(self.epsilon)}
        return {**fields, **threat, **percent, "version": self.version, "after": after}

    def after(self) -> dict[str, Evaluation]:
        """Return the evaluation of the sequence up to each of its attacks, by name.

        The images that only a later attack succeeded on count as not attacked.
        """
        names, found, seconds = list(self.components), {}, 0.0
        for number, name in enumerate(names, 1):
            kept = ~np.isin(self.broken_by, names[number:])
            seconds += self.components[name].seconds
            undone = keep_where(self.evaluation, kept)
            found[name] = dataclasses.replace(undone, seconds=seconds)
        return found
