r"""Run the studies of Szegedy et al., "Intriguing properties of neural networks".

    python experiments/szegedy.py --study=all --scale=smoke
    python experiments/szegedy.py --study=distortion --scale=cpu
    python experiments/szegedy.py --study=units --scale=cpu --resume
    python experiments/szegedy.py --study=cross-model --scale=cpu \
        --config.models="('fc10_1e4','fc100_100_10','A')" --workdir=runs/with-a

Studies: `distortion` (Table 1), `cross-model` (Table 2), `cross-training-set` (Tables 3
and 4), `spectral` (like Table 5), `units` (Figures 1 to 4), `layerwise`, or `all`. Each
table is written as CSV, Markdown and JSON to `tables/` in the workdir, and as a figure
to `figures/`. On MNIST it includes the published numbers. `--resume` reuses finished
trainings and attacks, so all studies can share one workdir. Scales are variants of
configs/szegedy.py.
"""

import sys

from advgan_jax.cli import main

if __name__ == "__main__":
    main.run("szegedy", sys.argv[1:])
