"""One rule for what a caller omits, from the size and the number of the images."""

from typing import NamedTuple

import optax

from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.training.blackbox import DISTILLATIONS, Schedule

_ROUNDS = 10
_LARGE = 1024  # numbers in an image above which its generator is wide
_ADVGAN, _AIGAN = (4, 600), (7, 2400)  # the least epochs, and the least steps
_BATCH_PIXELS = 64 * 64 * 64  # of a batch that fits into a small memory


class Defaults(NamedTuple):
    """Sizes and rates for one set of images.

    Attributes:
      batch_size: 64, or fewer images of more than 64 by 64 pixels.
      num_epochs: at least 4, and at least 600 steps.
      stage_epochs: of AI-GAN's stages; at least 7 and at least 2,400 steps in all, a
        sixth of them in stage one.
      widths: filters of generator and discriminator at full, half and quarter size.
      conditional_widths: of AI-GAN's generator, twice as many.
      learning_rate: of the generator.
      discriminator_rate: learning rate of the discriminator.
    """

    batch_size: int
    num_epochs: int
    stage_epochs: tuple[int, int]
    widths: tuple[int, int, int]
    conditional_widths: tuple[int, int, int]
    learning_rate: float
    discriminator_rate: float = 1e-3


def choose(
    image_shape: tuple[int, int, int], num_images: int, batch_size: int | None
) -> Defaults:
    """Choose for `num_images` images; a given batch size decides the epochs."""
    height, width, channels = image_shape
    if batch_size is None:
        fitting = max(8, _BATCH_PIXELS // (height * width))
        batch_size = min(64, fitting, num_images)
    steps = max(1, num_images // batch_size)
    num_epochs, both = (
        max(epochs, -(-least // steps)) for epochs, least in (_ADVGAN, _AIGAN)
    )
    small = height * width * channels <= _LARGE
    widths = (8, 16, 32) if small else (32, 64, 128)
    return Defaults(
        batch_size,
        num_epochs,
        (both // 6, both - both // 6),
        widths,
        (2 * widths[0], 2 * widths[1], 2 * widths[2]),
        1e-2 if small else 1e-3,
    )


def optimizer(
    rate: float, num_steps: int, *, moving: bool = False
) -> optax.GradientTransformation:
    """Return Adam with a rate that falls to zero, along a cosine or a line.

    It falls later along the line, for a generator whose attacked model is `moving`: in
    dynamic distillation, the distilled model changes until the last round.
    """
    steps = max(num_steps, 1)
    schedule = optax.cosine_decay_schedule(rate, steps)
    if moving:
        schedule = optax.linear_schedule(rate, 0.0, steps)
    return optax.adam(schedule, b1=0.5)  # as in other image GANs


def classifier(image_shape: tuple[int, int, int]) -> str:
    """Name the model into which a black box is distilled."""
    sides = image_shape[:2]
    if max(sides) > 64:
        return "resnet32"
    return "C" if min(sides) >= 16 else "small"


def schedule(
    distillation: str, num_queries: int, num_images: int, choice: str = "random"
) -> Schedule:
    """Divide at most `num_queries` among ten rounds; more of them train for longer.

    More than half are clean images. No series has more queries than there are images.

    Raises:
      ValueError: for an unknown distillation, or too few queries.
    """
    if distillation not in DISTILLATIONS:
        raise unknown_name("distillation", distillation, DISTILLATIONS)
    check_at_least("num_queries", num_queries, 2 * _ROUNDS)
    dynamic = distillation == "dynamic"
    if dynamic:
        perturbed = min(num_queries // (2 * _ROUNDS), num_images)
        clean = min(num_queries - (_ROUNDS - 1) * perturbed, num_images)
    else:
        perturbed, clean = 0, min(num_queries, num_images)
    return Schedule(
        num_rounds=_ROUNDS,
        generator_steps=min(max(num_queries // 64, 60), 300),
        distilled_steps=min(max(num_queries // 150, 40), 130),
        initial_epochs=6,
        clean_queries=clean,
        perturbed_queries=perturbed,
        distilled_batch_size=128 if num_queries >= 5000 else 64,
        dynamic=dynamic,
        choice=choice,
    )
