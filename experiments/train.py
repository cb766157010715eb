"""Train and evaluate as a configuration specifies, and write the results.

    python experiments/train.py --config=configs/advgan.py
    python experiments/train.py --config=configs/advgan.py:mnist --config.epsilon=0.2
    python experiments/train.py --config=configs/advgan.py --resume

The run writes `config.json`, `metrics.jsonl`, TensorBoard events, `checkpoints/`,
`figures/` and `results.json` to the workdir. After Ctrl-C or SIGTERM it saves a
checkpoint and ends.
"""

import sys

from advgan_jax.cli import main

if __name__ == "__main__":
    main.run("train", sys.argv[1:])
