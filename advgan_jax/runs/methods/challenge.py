"""Madry's challenge: the accuracy of a trained classifier on a file of images."""

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


def measure_file(config: ConfigDict, path: str | pathlib.Path) -> Evaluation:
    """Check a file by the rules of the challenge and evaluate the classifier on it.

    Args:
      config: that of the classifier, see `configs/defence.py`. Its `target_model_dir`
        has the classifier; one that is missing is trained.
      path: an `.npy` file, see `evaluation.check_submission`.

    Returns:
      What became of each test image.

    Raises:
      TypeError: if the numbers are not float32.
      ValueError: if the images break a rule, the file is no array, or the configuration
        has no folder for the classifier or no epsilon.
      OSError: if the file cannot be read.
    """
    if config.target_model_dir is None:
        raise ValueError(
            "`target_model_dir` must be the folder that has the classifier, got none; "
            "give the folder of its training."
        )
    if "epsilon" not in config:
        raise ValueError(
            f"The challenge needs an `epsilon`, which a configuration of the method "
            f"{config.method!r} does not have; use configs/defence.py."
        )
    dataset = load_dataset(config.dataset, data_dir=config.data_dir)
    target_model.check(config, dataset)
    test = dataset.test
    # Before the classifier is trained, which may take hours.
    adversarial = check_submission(
        load_submission(path), test.images, epsilon=config.epsilon
    )
    run = Run(config, pathlib.Path(config.target_model_dir).absolute(), dataset)
    return evaluate_adversarial(
        target_model.trained_logits_fn(run),
        test.images,
        adversarial,
        test.labels,
        batch_size=config.evaluation.batch_size,
    )
