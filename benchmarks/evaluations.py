"""Compare how fast libraries measure robust accuracy, on model C and MNIST.

    python benchmarks/evaluations.py

Both attack 1,000 test images by PGD-40 within 0.15 and judge them: ours by `evaluate`,
with its distances and margins, Foolbox by a call of its attack. The measure of
RobustBench is AutoAttack, see `agreement.py`.
"""

from functools import partial

import _measure
import _rivals
import _task
import jax
from absl import app, logging
from attacks import chosen_rivals, compare, quality

from advgan_jax import attacks, data
from advgan_jax.evaluation import evaluate


def evaluation(target, split):
    """Compare an evaluation with an attack of the same steps and images."""
    count = _measure.smaller(1000, 4)
    images, labels = data.to_float(split.images[:count]), split.labels[:count]
    attack = attacks.make_attack("pgd", epsilon=0.15, step_size=0.0125, num_steps=40)
    key, options = jax.random.key(0), {"batch_size": 250, "keep": count}

    def ours():
        return evaluate(target, attack, images, labels, key=key, **options).examples

    settings = {"steps": 40, "abs_stepsize": 0.0125}
    foolbox = partial(
        *(_rivals.foolbox_attack, _rivals.stock_logits_fn(target.args[0])),
        *(lambda fb: fb.attacks.LinfPGD(**settings), images, labels, 0.15),
    )
    rivals = {_measure.OURS: (None, lambda: ours), "Foolbox": ("foolbox", foolbox)}
    judge = partial(quality, target, images, labels)
    rounds = _measure.repeats()
    return compare(f"evaluate {count} images", chosen_rivals(rivals), judge, rounds)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment = _measure.environment()
    dataset, target = _task.mnist_model_c()
    rows = evaluation(target, dataset.test)
    _measure.report(environment, rows, _measure.versus(rows))


if __name__ == "__main__":
    app.run(main)
