"""The record that a trained generator keeps of its training."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class TrainedOn:
    """A record of a training.

    Attributes:
      name: the attacked model, or whatever name the training got.
      success: the share of training images on which the attack succeeded in the last
        steps; None if unknown.
      seed: the seed of the key; None if the key is derived from another one.
      versions: of Python and the packages, by name; empty if unknown.
    """

    name: str = ""
    success: float | None = None
    seed: int | None = None
    versions: Mapping[str, str | None] = dataclasses.field(default_factory=dict)


class Note:
    """Metadata that compares equal, so that another one never causes recompilation."""

    def __init__(self, value: TrainedOn) -> None:
        self.value: TrainedOn = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note)

    def __hash__(self) -> int:
        return 0
