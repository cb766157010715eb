"""Evaluate a model under attacks: results image by image, and the rates from them."""

from advgan_jax.evaluation.challenge import check_submission, load_submission
from advgan_jax.evaluation.evaluate import (
    craft,
    evaluate,
    evaluate_adversarial,
    evaluate_clean,
    evaluate_many,
    evaluate_per_class,
    pool,
    summarize_classes,
    takes_epsilon,
)
from advgan_jax.evaluation.result import (
    Evaluation,
    PairSuccess,
    Success,
    success_by_pair,
    wilson_interval,
    within,
    worst_case_evaluation,
)
from advgan_jax.evaluation.rows import ROW_KEYS, THREAT_MODELS, make_clean_row, make_row
from advgan_jax.evaluation.transfer import (
    add_noise,
    rescale_perturbations,
    transfer_matrix,
)

__all__ = [
    "ROW_KEYS",
    "THREAT_MODELS",
    "Evaluation",
    "PairSuccess",
    "Success",
    "add_noise",
    "check_submission",
    "craft",
    "evaluate",
    "evaluate_adversarial",
    "evaluate_clean",
    "evaluate_many",
    "evaluate_per_class",
    "load_submission",
    "make_clean_row",
    "make_row",
    "pool",
    "rescale_perturbations",
    "success_by_pair",
    "summarize_classes",
    "takes_epsilon",
    "transfer_matrix",
    "wilson_interval",
    "within",
    "worst_case_evaluation",
]
