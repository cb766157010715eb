r"""Accuracy of a trained classifier on a file of adversarial images.

    python experiments/challenge.py --config=configs/defence.py:mnist \
        --config.target_dir=runs/targets --file=attack.npy

The file must hold all test images in their order, float32 in [0, 1], none further than
`--config.epsilon` (0.3) from the clean ones in any pixel. What breaks a rule is refused
with the number of the first such image.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

from advgan_jax.runs import challenge

_CONFIG = config_flags.DEFINE_config_file("config", None, "That of the classifier.")
_FILE = flags.DEFINE_string("file", None, "The adversarial images, an .npy file.")
flags.mark_flags_as_required(["config", "file"])


def main(argv: list[str]) -> None:
    """Checks, measures, prints."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    try:
        found = challenge.measure_file(_CONFIG.value, _FILE.value)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"clean accuracy         {found.clean_accuracy:.2%}")
    print(f"accuracy on the file   {found.robust_accuracy:.2%}")
    print(f"largest perturbation   {found.linf.max():.6f}")


if __name__ == "__main__":
    app.run(main)
