r"""Compares attacks on one target model.

    python experiments/attack.py --config=configs/attacks.py
    python experiments/attack.py --config=configs/attacks.py:mnist \
        --config.names="('fgsm','pgd','lbfgs')" --config.attacks.pgd.num_steps=100
    python experiments/attack.py --config=configs/attacks.py --resume

Prints a table with a row for each attack and one for all of them together. The workdir
gets it as `results.json`, and in `figures/` the robustness curves (accuracy against
epsilon) and a line of pictures for each attack. The target model, and what some attacks
need besides, is trained first. Each finished attack is kept: `--resume` goes on after
an interruption without repeating it.
"""

from absl import app, flags

from advgan_jax.cli import command

flags.adopt_module_key_flags(command)

if __name__ == "__main__":
    app.run(command.main)
