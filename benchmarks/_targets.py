"""The classifier that all benchmarks attack: model C on MNIST, as configured."""

import pathlib
import runpy
import tempfile

from absl import flags

from advgan_jax import data, runs

_TARGET_DIR = flags.DEFINE_string(
    "target_dir", "runs/targets", "Trained targets; C is trained if it is not there."
)


def mnist_model_c():
    """MNIST and model C as the configuration describes it."""
    configs = pathlib.Path(__file__).parents[1] / "configs" / "target.py"
    config = runpy.run_path(str(configs))["get_config"]("mnist")
    config.target_dir = str(pathlib.Path(_TARGET_DIR.value).absolute())
    dataset = data.load_dataset("mnist")
    with tempfile.TemporaryDirectory() as workdir:
        run = runs.Run(config, pathlib.Path(workdir), dataset)
        return dataset, runs.target.target_logits_fn(run)
