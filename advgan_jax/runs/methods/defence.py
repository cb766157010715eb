"""Train a target model against attacks, and measure its accuracy under attacks."""

from typing import Any

from ml_collections import ConfigDict

from advgan_jax.data import Dataset
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import attacks, target_model
from advgan_jax.runs.run import Run, check_evaluation, test_images


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    target_model.check(config, dataset)
    if config.target_training.defence == from_config.UNDEFENDED:
        raise ValueError(
            "`target_training.defence` must name a defence, got 'none'; use "
            "configs/target_model.py for a model without one."
        )
    check_evaluation(config, dataset)
    attacks.check_attacks(config)


def run(run: Run) -> list[dict[str, Any]]:
    """Train the model and attack it; return a row for each of `config.names`."""
    logits_fn, test = target_model.trained_logits_fn(run), test_images(run)
    return [
        attacks.row(run, name, attacks.evaluate_section(run, logits_fn, test, name))
        for name in run.config.names
    ]
