r"""Accuracy of a trained classifier on a file of adversarial images.

    python experiments/challenge.py --config=configs/defence.py:mnist \
        --config.target_model_dir=runs/target_models --file=attack.npy

The classifier is trained if the folder has none of this configuration, which a progress
bar tells. The nets of `reproduce.py` lie in its workdir's `target_models/`, if it was given
no other folder; that of `--table=challenge --scale=full` is named by

    --config.target_training.defences.iterative.training.num_epochs=84
    --config.target_training.defences.iterative.training.batch_size=50
    --config.target_training.defences.iterative.training.learning_rate=1e-4
    --config.target_training.defences.iterative.attack.num_steps=40
    --config.target_training.defences.iterative.attack.step_size=0.01

The file must hold all test images in their order, float32 in [0, 1], none further than
`--config.epsilon` (0.3) from the clean ones in any pixel. What breaks a rule is refused
with the number of the first such image.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from advgan_jax.cli import faults
from advgan_jax.cpu import process
from advgan_jax.runs.methods import challenge

_CONFIG = config_flags.DEFINE_config_file("config", None, "That of the classifier.")
_FILE = flags.DEFINE_string("file", None, "The adversarial images, an .npy file.")
_CACHE = flags.DEFINE_string(
    "compilation_cache", None, "Folder for compiled programs, or none; see train.py."
)
flags.mark_flags_as_required(["config", "file"])


def main(argv: list[str]) -> None:
    """Checks, measures, prints."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file it writes
    with faults.told("The same command goes on."):
        process.compute_in_caller()
        process.set_compilation_cache(_CACHE.value)
        process.keep_memory()
        found = challenge.measure_file(_CONFIG.value, _FILE.value)
    print(f"clean accuracy         {found.clean_accuracy:.2%}")
    print(f"accuracy on the file   {found.robust_accuracy:.2%}")
    print(f"largest perturbation   {found.linf.max():.6f}")


if __name__ == "__main__":
    app.run(main)
