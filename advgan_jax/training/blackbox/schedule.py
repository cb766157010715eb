"""The length of each network's training, its queries and its images."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.training.blackbox.choice import CHOICES
from advgan_jax.training.classifier import check_shift
from advgan_jax.types import Array

DISTILLATIONS = ("dynamic", "static")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The order and length of the trainings, and their numbers of queries.

    Attributes:
      num_rounds: R. Static distillation trains as long as dynamic distillation of as
        many rounds.
      generator_steps: of G and D in each round.
      distilled_steps: of f in each round but the last.
      initial_epochs: f's training before the first round, in units of
        `distilled_steps`.
      clean_queries: images queried before the first round.
      perturbed_queries: perturbed images queried in each round but the last.
      dynamic: whether f learns from perturbed images too. Static distillation makes
        the same number of queries, all of them of clean images before it begins.
      replay: whether f continues to learn from perturbed images of earlier rounds.
      choice: of the perturbed images to query: `random`, or those of all images about
        which f is the most uncertain, by `margin` or `entropy`; see `uncertainty`.
      max_shift: f's images are shifted by up to so many pixels, see
        `classifier.augment`.
      flip: whether half of f's images are mirrored.
    """

    num_rounds: int
    generator_steps: int
    distilled_steps: int
    initial_epochs: int
    clean_queries: int
    perturbed_queries: int
    generator_batch_size: int = 64
    distilled_batch_size: int = 128
    dynamic: bool = True
    replay: bool = True
    choice: str = "random"
    max_shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self)[:8]:
            least = 0 if field.name == "perturbed_queries" else 1
            check_at_least(field.name, getattr(self, field.name), least)
        if self.dynamic and self.num_rounds > 1 and not self.perturbed_queries:
            raise ValueError(
                "`perturbed_queries` must be at least 1 in dynamic distillation of "
                f"{self.num_rounds} rounds, got 0; query some, or set `dynamic=False`."
            )
        if self.choice not in CHOICES:
            raise unknown_name("choice of queries", self.choice, CHOICES)
        if self.choice != "random" and not self.dynamic:
            raise ValueError(
                "`choice` must be 'random' in static distillation, which queries only "
                f"before f is trained, got {self.choice!r}; set `dynamic=True`."
            )

    @property
    def augmentation(self) -> dict[str, Any]:
        """Return the arguments of `classifier.augment`."""
        return {"max_shift": self.max_shift, "flip": self.flip}

    @property
    def query_counts(self) -> list[int]:
        """Return the number of images in each series of queries."""
        later = [self.perturbed_queries] * (self.num_rounds - 1)
        if self.dynamic:
            return [self.clean_queries, *later]
        return [self.clean_queries + sum(later)]

    @property
    def distilled_epochs(self) -> int:
        """Return the length of f's training, in units of `distilled_steps`."""
        return self.initial_epochs + self.num_rounds - 1

    def phases(self) -> Iterator[tuple[int, int | None]]:
        """Yield (round, f's epochs by its end), or (round, None) to train G and D."""
        if not self.dynamic:
            yield 0, self.distilled_epochs
            yield self.num_rounds, None
            return
        for number in range(self.num_rounds):
            yield number, self.initial_epochs + number
            yield number + 1, None

    def check_images(self, num_images: int, image_shape: Sequence[int]) -> None:
        """Raise `ValueError` for too few images, or too small ones to be shifted."""
        check_shift(self.max_shift, image_shape)
        most = max(self.query_counts)
        if most > num_images:
            raise ValueError(
                f"The attacker has {num_images} images and would ask about {most} at "
                "once, each of them once; use fewer rounds or queries, or give more "
                "images to the attacker."
            )


def in_turn(
    first: int, count: int, others: tuple[int, int] = (0, 0)
) -> Callable[[Array], Array]:
    """Map places in an epoch to rows so that every image is seen equally often.

    The result is a `rows_fn` of `fit.fit`. It maps places to the first `count` rows. If
    the range `others` is not empty, it maps every second place to a row from
    `others[0]` to `others[1] - 1`. `first` is the number of places in earlier epochs.
    """
    start, end = others

    def _rows_fn(places: Array) -> Array:
        # On the host: the places of all epochs need not fit in 32 bits.
        numbers = first + np.asarray(places, np.int64)
        if start == end:
            rows = numbers % count
        else:
            half = numbers // 2
            rows = np.where(numbers % 2, start + half % (end - start), half % count)
        return jnp.asarray(rows, jnp.int32)

    return _rows_fn
