"""A file of adversarial images, shown to a trained classifier: Madry's challenge."""

import pathlib

import numpy as np
from ml_collections import ConfigDict

from advgan_jax.data import load_dataset
from advgan_jax.evaluation import Evaluation, check_submission, evaluate_adversarial
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.run import Run


def measure_file(config: ConfigDict, path: str | pathlib.Path) -> Evaluation:
    """Checks a file by the rules and measures the classifier on it.

    Args:
      config: that of the classifier, see `configs/defence.py`; its `target_model_dir` keeps
        the classifier, which is trained if it is not there.
      path: an `.npy` file, see `evaluation.check_submission`.

    Returns:
      What was measured for each test image.

    Raises:
      TypeError: if the file is not of float32 numbers.
      ValueError: if the images break a rule, the file is no array, or the
        configuration names no folder for the classifier or no epsilon.
      OSError: if the file cannot be read.
    """
    if config.target_model_dir is None:
        raise ValueError(
            "The classifier is looked for in `target_model_dir`, got none; give the folder "
            "that its training had."
        )
    if config.get("epsilon") is None:
        raise ValueError(
            f"The challenge is about an `epsilon`, which a configuration of the method "
            f"{config.method!r} has not; give that of configs/defence.py."
        )
    dataset = load_dataset(config.dataset, data_dir=config.data_dir)
    target_model.check(config, dataset)
    test = dataset.test
    # Before the classifier is trained, which may take hours.
    handed_in = _load(path)
    adversarial = check_submission(handed_in, test.images, epsilon=config.epsilon)
    run = Run(config, pathlib.Path(config.target_model_dir).absolute(), dataset)
    return evaluate_adversarial(
        target_model.trained_logits_fn(run),
        test.images,
        adversarial,
        test.labels,
        batch_size=config.evaluation.batch_size,
    )


def _load(path: str | pathlib.Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:  # an empty file, or one of something else
        raise ValueError(
            f"{path} must be a whole .npy file of one array of numbers, got something "
            f"else ({error}); write it with `numpy.save`."
        ) from error
