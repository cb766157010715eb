"""Adversarial attacks as pure functions of one form, `types.Attack`."""

from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import succeeded
from advgan_jax.attacks._registry import (
    ATTACKS,
    BoundAttack,
    make_attack,
    trace_attack,
    worst_case,
)
from advgan_jax.attacks.apgd import apgd
from advgan_jax.attacks.carlini_wagner import (
    CarliniWagnerResult,
    carlini_wagner_l2,
    carlini_wagner_l2_search,
)
from advgan_jax.attacks.carlini_wagner_linf import carlini_wagner_linf
from advgan_jax.attacks.deepfool import deepfool
from advgan_jax.attacks.generator import (
    advgan,
    aigan,
    conditional_generator_attack,
    generator_attack,
)
from advgan_jax.attacks.gradient import bim, fgsm, ilcm, mi_fgsm, pgd
from advgan_jax.attacks.lbfgs import LBFGSResult, lbfgs, lbfgs_search
from advgan_jax.attacks.transfer import average_models, transfer

__all__ = [
    "ATTACKS",
    "BoundAttack",
    "CarliniWagnerResult",
    "LBFGSResult",
    "advgan",
    "aigan",
    "apgd",
    "attack",
    "average_models",
    "bim",
    "carlini_wagner_l2",
    "carlini_wagner_l2_search",
    "carlini_wagner_linf",
    "conditional_generator_attack",
    "deepfool",
    "fgsm",
    "generator_attack",
    "ilcm",
    "lbfgs",
    "lbfgs_search",
    "make_attack",
    "mi_fgsm",
    "pgd",
    "succeeded",
    "trace_attack",
    "transfer",
    "worst_case",
]


def __dir__() -> list[str]:
    """Show the attacks and their helpers, not the modules that hold them."""
    return sorted(__all__)
