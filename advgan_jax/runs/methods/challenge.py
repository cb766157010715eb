"""Madry's challenge: measure a trained classifier's accuracy on a file of images."""

import pathlib

from ml_collections import ConfigDict

from advgan_jax.data import load_dataset
from advgan_jax.evaluation import (
    Evaluation,
    check_submission,
    evaluate_adversarial,
    load_submission,
)
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.run import Run
from advgan_jax.settings import check_settings


def measure_file(config: ConfigDict, path: str | pathlib.Path) -> Evaluation:
    """Check an `.npy` file by the challenge's rules; evaluate a classifier on it."""
    check_settings(config.to_dict())
    if config.target_model_dir is None:
        raise ValueError(
            "`target_model_dir` must be the folder that contains the classifier, got "
            "none; give the folder of its training."
        )
    if "epsilon" not in config:
        raise ValueError(
            f"The challenge needs an `epsilon`, which a configuration of the method "
            f"{config.method!r} does not have; use --config=defence."
        )
    dataset = load_dataset(config.dataset, data_dir=config.data_dir)
    target_model.check(config, dataset)
    test, submitted = dataset.test, load_submission(path)
    # Before the classifier is trained, which may take hours.
    adversarial = check_submission(submitted, test.images, epsilon=config.epsilon)
    run = Run(config, pathlib.Path(config.target_model_dir).absolute(), dataset)
    return evaluate_adversarial(
        target_model.trained_logits_fn(run),
        test.images,
        adversarial,
        test.labels,
        batch_size=config.evaluation.batch_size,
    )
