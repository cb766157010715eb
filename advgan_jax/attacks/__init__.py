"""Adversarial attacks as pure functions of one form, `types.Attack`."""

from advgan_jax.attacks._api import attack
from advgan_jax.attacks._descent import succeeded
from advgan_jax.attacks._queries import QueryMethod
from advgan_jax.attacks._query_loop import QueryResult, query_method
from advgan_jax.attacks._registry import (
    ATTACKS,
    QUERY_ATTACKS,
    BoundAttack,
    make_attack,
    trace_attack,
    worst_case,
)
from advgan_jax.attacks.apgd import apgd, apgd_targeted
from advgan_jax.attacks.carlini_wagner import (
    CarliniWagnerResult,
    carlini_wagner_l2,
    carlini_wagner_l2_search,
)
from advgan_jax.attacks.carlini_wagner_linf import carlini_wagner_linf
from advgan_jax.attacks.ddn import ddn
from advgan_jax.attacks.deepfool import deepfool
from advgan_jax.attacks.ead import ead
from advgan_jax.attacks.estimates import (
    bandits,
    bandits_search,
    nes,
    nes_search,
    spsa,
    spsa_search,
)
from advgan_jax.attacks.expectation import expectation
from advgan_jax.attacks.fab import fab, fab_targeted
from advgan_jax.attacks.fmn import fmn
from advgan_jax.attacks.generator import advgan, aigan
from advgan_jax.attacks.gradient import bim, fgsm, ilcm, mi_fgsm, pgd
from advgan_jax.attacks.hop_skip_jump import hop_skip_jump, hop_skip_jump_search
from advgan_jax.attacks.lbfgs import LBFGSResult, lbfgs, lbfgs_search
from advgan_jax.attacks.quantize import quantize
from advgan_jax.attacks.rays import rays, rays_search
from advgan_jax.attacks.signhunter import signhunter, signhunter_search
from advgan_jax.attacks.simba import simba, simba_search
from advgan_jax.attacks.square import square, square_search
from advgan_jax.attacks.transfer import average_models, transfer

__all__ = [
    "ATTACKS",
    "QUERY_ATTACKS",
    "BoundAttack",
    "CarliniWagnerResult",
    "LBFGSResult",
    "QueryMethod",
    "QueryResult",
    "advgan",
    "aigan",
    "apgd",
    "apgd_targeted",
    "attack",
    "average_models",
    "bandits",
    "bandits_search",
    "bim",
    "carlini_wagner_l2",
    "carlini_wagner_l2_search",
    "carlini_wagner_linf",
    "ddn",
    "deepfool",
    "ead",
    "expectation",
    "fab",
    "fab_targeted",
    "fgsm",
    "fmn",
    "hop_skip_jump",
    "hop_skip_jump_search",
    "ilcm",
    "lbfgs",
    "lbfgs_search",
    "make_attack",
    "mi_fgsm",
    "nes",
    "nes_search",
    "pgd",
    "quantize",
    "query_method",
    "rays",
    "rays_search",
    "signhunter",
    "signhunter_search",
    "simba",
    "simba_search",
    "spsa",
    "spsa_search",
    "square",
    "square_search",
    "succeeded",
    "trace_attack",
    "transfer",
    "worst_case",
]


def __dir__() -> list[str]:
    """Show the attacks and their helpers, not the modules that hold them."""
    return sorted(__all__)
