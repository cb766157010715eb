r"""The tables of AdvGAN's and AI-GAN's papers, our numbers beside the printed ones.

    python experiments/reproduce.py --table=all --scale=smoke
    python experiments/reproduce.py --table=2 --scale=cpu --workdir=runs/tables
    python experiments/reproduce.py --table=3 --scale=cpu --workdir=runs/tables --resume

Tables: `1` (seconds for 1,000 images), `2` (accuracy and success), `3` and `4` (against
defended models, semi-white-box and black-box), `challenge` (Madry's MNIST challenge),
`aigan`, or `all`. Each writes a CSV, a Markdown and a JSON file (the schema of
`results/*.json`) to the workdir's `tables/` and a picture to `figures/`. Models,
generators and adversarial images are made when they are missing. No finished row is
repeated: `--resume` continues with the next one, and one workdir serves all tables and
settings. Its `results.json` has the rows of the latest settings. `--config.epsilon` and
`--config.dataset` hold for all parts of a table.

Scales: `smoke`, digits in two minutes; `cpu`, MNIST in hours, all models trained for
fewer steps than the papers'; `full`, MNIST on a GPU or TPU with as many images, and
defended models with as many steps, as in the papers. CIFAR-10 has no scale. They are
variants of configs/reproduce.py, which says what they deviate in.
"""

import sys

from absl import app, flags

from advgan_jax.cli import command

flags.adopt_module_key_flags(command)

SCALES = {"smoke": "smoke", "cpu": "mnist", "full": "full"}

if __name__ == "__main__":
    # The overrides of a configuration are looked for nowhere else.
    sys.argv = command.as_config(sys.argv, __doc__, "table", "reproduce", SCALES)
    app.run(command.main)
