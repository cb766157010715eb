"""A defended classifier alone: trained, left for attack runs, and attacked."""

from typing import Any

from ml_collections import ConfigDict

from advgan_jax.data import Dataset
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import advgan, attacks, target_model
from advgan_jax.runs.run import Run, test_images


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    target_model.check(config, dataset)
    if from_config.chosen_defence(config.target_training) == from_config.UNDEFENDED:
        raise ValueError(
            "`target_training.defence` must name a defence, got 'none'; use configs/target_model.py "
            "for a model without one."
        )
    advgan.check_evaluation(config, dataset)
    attacks.check_attacks(config)


def run(run: Run) -> list[dict[str, Any]]:
    """Trains the classifier unless it is there, and attacks it.

    Args:
      run: the run.

    Returns:
      A row for each attack of `config.names`; all tell the clean accuracy.
    """
    logits_fn, test = target_model.trained_logits_fn(run), test_images(run)
    measured = {
        name: attacks.measure(run, logits_fn, test, name) for name in run.config.names
    }
    return [attacks.row(run, name, found) for name, found in measured.items()]
