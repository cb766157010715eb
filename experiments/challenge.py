r"""Measure the accuracy of a trained classifier on a file of adversarial images.

    python experiments/challenge.py --config=configs/defence.py:mnist \
        --config.target_model_dir=runs/target_models --file=attack.npy

The classifier is trained if the folder has none of this configuration. `reproduce.py`
keeps its classifiers in `target_models/` in its workdir, unless `target_model_dir` is
set. These flags specify the classifier of `--table=challenge --scale=full`:

    --config.target_training.defences.iterative.training.num_epochs=84
    --config.target_training.defences.iterative.training.batch_size=50
    --config.target_training.defences.iterative.training.learning_rate=1e-4
    --config.target_training.defences.iterative.attack.num_steps=40
    --config.target_training.defences.iterative.attack.step_size=0.01

The file must contain all test images in their order, as float32 in [0, 1]. No pixel may
differ from the clean image by more than `--config.epsilon` (0.3). If an image breaks a
rule, the error names the first such image.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from advgan_jax.cli import faults
from advgan_jax.cpu import process
from advgan_jax.runs.methods import challenge

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration of the classifier."
)
_FILE = flags.DEFINE_string("file", None, "The adversarial images, an .npy file.")
_CACHE = flags.DEFINE_string(
    "compilation_cache", None, "Folder of compiled programs, or none; see train.py."
)
flags.mark_flags_as_required(["config", "file"])


def main(argv: list[str]) -> None:
    """Check the file, evaluate the classifier and print three numbers."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)  # Orbax logs every file that it writes
    with faults.one_line_errors("Run the same command again to resume."):
        process.compute_in_caller()
        process.set_compilation_cache(_CACHE.value)
        process.keep_memory()
        found = challenge.measure_file(_CONFIG.value, _FILE.value)
    print(f"clean accuracy         {found.clean_accuracy:.2%}")
    print(f"accuracy on the file   {found.robust_accuracy:.2%}")
    print(f"largest perturbation   {found.linf.max():.6f}")


if __name__ == "__main__":
    app.run(main)
