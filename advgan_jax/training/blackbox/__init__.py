r"""AdvGAN against a black box: static and dynamic distillation.

In static distillation the attacker distils the black box b into its own model f, and
then trains the generator against f. In dynamic distillation the two alternate:

.. math::
    G_i, D_i &= \arg\min_G \max_D \; L_{adv}^{f_{i-1}} + \alpha L_{GAN}
        + \beta L_{hinge} \\
    f_i &= \arg\min_f \; \mathbb{E}_x H(b(x), f(x))
        + \mathbb{E}_x H(b(x + G_i(x)), f(x + G_i(x)))

Deviations from the paper:
  * Batches that mix clean and perturbed images at random estimate both expectations
    together. Over an epoch (`distilled_steps`), half of the images are clean.
  * With `replay`, the second expectation is over the perturbed images of all rounds,
    so that f uses every answer.
  * The last round trains no f, because no generator follows that could use it.
  * The generator trains on all of the attacker's images; only some are queried.

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.3.
"""

from advgan_jax.training.blackbox.alternation import fit
from advgan_jax.training.blackbox.attacker import (
    Attacker,
    distilled_logits_fn,
    init_state,
    perturb_images,
)
from advgan_jax.training.blackbox.choice import CHOICES, most_uncertain, uncertainty
from advgan_jax.training.blackbox.schedule import DISTILLATIONS, Schedule

__all__ = [
    "CHOICES",
    "DISTILLATIONS",
    "Attacker",
    "Schedule",
    "distilled_logits_fn",
    "fit",
    "init_state",
    "most_uncertain",
    "perturb_images",
    "uncertainty",
]
