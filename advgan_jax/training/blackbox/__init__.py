r"""AdvGAN against a model that can only be asked: static and dynamic distillation.

Static: a model f of the attacker's own learns the answers of the black box b, then a
generator is trained against f. Dynamic: both take turns, each from where it was,

.. math::
    G_i, D_i &= \arg\min_G \max_D \; L_{adv}^{f_{i-1}} + \alpha L_{GAN}
        + \beta L_{hinge} \\
    f_i &= \arg\min_f \; \mathbb{E}_x H(b(x), f(x))
        + \mathbb{E}_x H(b(x + G_i(x)), f(x + G_i(x)))

Deviations from the paper:
  * The two expectations are estimated together, on batches that mix clean and
    perturbed images at random: over an epoch (`distilled_steps`) half of what f sees
    is clean. The second expectation is (`replay`) over the perturbed images of all
    rounds: answers once paid for are kept.
  * The last round ends with its generator; what f would learn from it, no generator
    would see.
  * The generator sees all the attacker's images, the black box a part of them.

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Sec. 3.3.
"""

from advgan_jax.training.blackbox.alternation import Hooks, fit
from advgan_jax.training.blackbox.attacker import (
    Attacker,
    bind_generator,
    distilled_logits_fn,
    init_state,
    perturb_images,
)
from advgan_jax.training.blackbox.schedule import Schedule

__all__ = [
    "Attacker",
    "Hooks",
    "Schedule",
    "bind_generator",
    "distilled_logits_fn",
    "fit",
    "init_state",
    "perturb_images",
]
