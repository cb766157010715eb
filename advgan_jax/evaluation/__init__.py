"""Evaluation: a model, an attack and images in; numbers, image by image, out."""

from advgan_jax.evaluation.challenge import check_submission
from advgan_jax.evaluation.crafting import assess, craft
from advgan_jax.evaluation.per_class import evaluate_targets, pool
from advgan_jax.evaluation.results import (
    Evaluation,
    PairSuccess,
    Success,
    success_by_pair,
    within,
    worst_case,
)
from advgan_jax.evaluation.robustness import evaluate, evaluate_many
from advgan_jax.evaluation.rows import ROW_KEYS, THREAT_MODELS, make_clean_row, make_row
from advgan_jax.evaluation.statistics import wilson_interval
from advgan_jax.evaluation.transfer import amplified, transfer_matrix, with_noise

__all__ = [
    "ROW_KEYS",
    "THREAT_MODELS",
    "Evaluation",
    "PairSuccess",
    "Success",
    "amplified",
    "assess",
    "check_submission",
    "craft",
    "evaluate",
    "evaluate_many",
    "evaluate_targets",
    "make_clean_row",
    "make_row",
    "pool",
    "success_by_pair",
    "transfer_matrix",
    "wilson_interval",
    "with_noise",
    "within",
    "worst_case",
]
