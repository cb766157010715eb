"""How long a black box is attacked, and how often it is asked."""

import dataclasses
from collections.abc import Iterator

from advgan_jax.checks import check_at_least


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Who learns when, and from how many answers.

    Attributes:
      num_rounds: R. Static distillation has rounds too, they only say how long it
        trains: as long as dynamic distillation of as many.
      generator_steps: of G and D in each round.
      distilled_steps: of f in each round but the last.
      initial_epochs: f's training before the first round, in units of
        `distilled_steps`.
      clean_queries: images asked about before the first round.
      perturbed_queries: perturbed images asked about in each round but the last.
      generator_batch_size: images in a step of G and D.
      distilled_batch_size: images in a step of f.
      dynamic: whether f learns from perturbed images too. Static distillation spends
        the same number of queries on further clean images, before it begins.
      replay: whether f keeps learning from the perturbed images of earlier rounds.
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

    def __post_init__(self):
        for field in dataclasses.fields(self)[:8]:
            least = 0 if field.name == "perturbed_queries" else 1
            check_at_least(field.name, getattr(self, field.name), least)
        if self.dynamic and self.num_rounds > 1 and not self.perturbed_queries:
            raise ValueError(
                "`perturbed_queries` must be at least 1 in dynamic distillation of "
                f"{self.num_rounds} rounds, got 0; ask about some, or say "
                "`dynamic=False`."
            )

    @property
    def asked(self) -> list[int]:
        """Images in each asking."""
        later = [self.perturbed_queries] * (self.num_rounds - 1)
        if self.dynamic:
            return [self.clean_queries, *later]
        return [self.clean_queries + sum(later)]

    @property
    def distilled_epochs(self) -> int:
        """All of f's training, in units of `distilled_steps`."""
        return self.initial_epochs + self.num_rounds - 1

    def phases(self) -> Iterator[tuple[int, int | None]]:
        """(round, f's epochs by then), or (round, None) where it is the generator's."""
        if not self.dynamic:
            yield 0, self.distilled_epochs
            yield self.num_rounds, None
            return
        for number in range(self.num_rounds):
            yield number, self.initial_epochs + number
            yield number + 1, None

    def check_images(self, num_images: int) -> None:
        """Raises `ValueError` if an asking is of more images than there are."""
        most = max(self.asked)
        if most > num_images:
            raise ValueError(
                f"The attacker has {num_images} images and would ask about {most} at "
                "once, each of them once; ask about fewer, with fewer rounds or "
                "queries, or leave more images to the attacker."
            )
