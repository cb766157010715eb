r"""Make the tables of the AdvGAN and AI-GAN papers, with the published numbers.

    python experiments/reproduce.py --table=all --scale=smoke
    python experiments/reproduce.py --table=2 --scale=cpu --workdir=runs/tables
    python experiments/reproduce.py --table=3 --scale=cpu --workdir=runs/tables --resume

Tables: `1` (seconds for 1,000 images), `2` (accuracy and success), `3` and `4` (against
defended models, semi-white-box and black-box), `challenge` (Madry's MNIST challenge),
`aigan`, or `all`. Each table is written as CSV, Markdown and JSON (the schema of
`results/*.json`) to `tables/` in the workdir, and as a figure to `figures/`. Missing
models, generators and adversarial images are made. `--resume` continues with the next
row. All tables and settings can share one workdir; its `results.json` contains the rows
of the latest settings. `--config.epsilon` and `--config.dataset` apply to the whole
table.

Scales are variants of configs/reproduce.py, which lists how they deviate from the
papers. `smoke` takes two minutes on digits. `cpu` takes hours on MNIST and trains all
models for fewer steps than the papers. `full` is for a GPU or TPU: it uses MNIST, all
images of the papers, and as many steps for defended models. No scale uses CIFAR-10.
"""

import sys

from advgan_jax.cli import main

if __name__ == "__main__":
    main.run("reproduce", sys.argv[1:])
