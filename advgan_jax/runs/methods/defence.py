"""Train a target model against attacks, and measure its accuracy under attacks."""

from typing import Any

from ml_collections import ConfigDict

from advgan_jax.data import Dataset
from advgan_jax.runs.methods import attacks, target_model
from advgan_jax.runs.run import Run, check_evaluation, test_images
from advgan_jax.settings import UNDEFENDED


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    target_model.check(config, dataset)
    if config.target_training.defence == UNDEFENDED:
        raise ValueError(
            "`target_training.defence` must name a defence, got 'none'; use "
            "--config=target_model for a model without one."
        )
    check_evaluation(config, dataset)
    attacks.check_attacks(config, dataset)


def run(run: Run) -> list[dict[str, Any]]:
    """Train the model and attack it; return a row for each of `config.names`."""
    logits_fn, test = target_model.trained_logits_fn(run), test_images(run)
    found = []
    for name in run.config.names:
        by_size = attacks.evaluate_section(run, logits_fn, test, name)
        found += attacks.rows(run, name, by_size)
    return found
