"""Evaluate a model under attacks: results image by image, and the rates from them."""

from advgan_jax.evaluation.autoattack import autoattack
from advgan_jax.evaluation.autoattack_result import AutoAttackResult, Component
from advgan_jax.evaluation.challenge import check_submission, load_submission
from advgan_jax.evaluation.combine import (
    mean_distortion,
    pool,
    within,
    worst_case_evaluation,
)
from advgan_jax.evaluation.curves import (
    distances_of,
    local_optimality,
    minimum_norm_curve,
    robustness_curves,
)
from advgan_jax.evaluation.evaluate import (
    craft,
    evaluate,
    evaluate_adversarial,
    evaluate_clean,
    evaluate_many,
    evaluate_per_class,
    summarize_classes,
    takes_epsilon,
)
from advgan_jax.evaluation.paired import paired_test
from advgan_jax.evaluation.pairs import PairSuccess, success_by_pair
from advgan_jax.evaluation.queries import (
    FrontierPoint,
    QueryCounts,
    break_even,
    count_generator,
    count_queries,
    counts_of,
    frontier,
    summarize_queries,
)
from advgan_jax.evaluation.result import (
    Evaluation,
    Success,
    wilson_interval,
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
    "AutoAttackResult",
    "Component",
    "Evaluation",
    "FrontierPoint",
    "PairSuccess",
    "QueryCounts",
    "Success",
    "add_noise",
    "autoattack",
    "break_even",
    "check_submission",
    "count_generator",
    "count_queries",
    "counts_of",
    "craft",
    "distances_of",
    "evaluate",
    "evaluate_adversarial",
    "evaluate_clean",
    "evaluate_many",
    "evaluate_per_class",
    "frontier",
    "load_submission",
    "local_optimality",
    "make_clean_row",
    "make_row",
    "mean_distortion",
    "minimum_norm_curve",
    "paired_test",
    "pool",
    "rescale_perturbations",
    "robustness_curves",
    "success_by_pair",
    "summarize_classes",
    "summarize_queries",
    "takes_epsilon",
    "transfer_matrix",
    "wilson_interval",
    "within",
    "worst_case_evaluation",
]
