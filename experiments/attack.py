r"""Compare attacks on one target model.

    python experiments/attack.py --config=configs/attacks.py
    python experiments/attack.py --config=configs/attacks.py:mnist \
        --config.names="('fgsm','pgd','lbfgs')" --config.attacks.pgd.num_steps=100
    python experiments/attack.py --config=configs/attacks.py --resume

Prints a table with a row for each attack and one for all attacks together. The workdir
gets `results.json` and, in `figures/`, robustness curves (accuracy against epsilon) and
adversarial images of each attack. The run first trains the target model and what some
attacks need besides. It stores the result of each attack: `--resume` repeats none.
"""

from absl import app, flags

from advgan_jax.cli import command

flags.adopt_module_key_flags(command)

if __name__ == "__main__":
    app.run(command.main)
