r"""Compare attacks on one target model.

    python experiments/attack.py --config=configs/attacks.py
    python experiments/attack.py --config=configs/attacks.py:mnist \
        --config.names="('fgsm','pgd','lbfgs')" --config.attacks.pgd.num_steps=100
    python experiments/attack.py --config=configs/attacks.py --resume

The run first trains the target model and the networks that some attacks need. It prints
a table with a row for each attack and one for all attacks together. It writes
`results.json` to the workdir, and to `figures/` robustness curves (accuracy against
epsilon) and adversarial images of each attack. `--resume` reuses finished attacks.
"""

import sys

from advgan_jax.cli import main

if __name__ == "__main__":
    main.run("attack", sys.argv[1:])
