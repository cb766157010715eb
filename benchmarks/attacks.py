"""Compare our attacks with Foolbox, torchattacks, ART and SciPy: speed and quality.

    python benchmarks/attacks.py --target_model_dir=runs/target_models

Every library attacks the same weights (model C on MNIST, trained first if the folder
does not hold it) and the same images, with the same number of steps, in one run on one
machine. The rivals take turns. Times are medians of `--repeats` rounds for PGD at
epsilon 0.3, and of one round after warm-up for the others, which take minutes. The
rivals are not dependencies of the library:

    python -m pip install torch==2.13.0 foolbox==3.3.4 torchattacks==3.5.1
    python -m pip install adversarial-robustness-toolbox==1.20.1

`--rivals=foolbox,scipy`, for example, omits the others.

How the comparison is fair:
  * Foolbox attacks the jitted stock-Flax version of the model, on digits the jitted
    model itself; its own code cannot be jitted.
  * torchattacks and ART attack the PyTorch version, with all cores.
  * SciPy's L-BFGS-B calls the jitted value and gradient of one image, in the same
    search over c.
  * All use the images' true labels, as ours do.
  * ART (the Adversarial Robustness Toolbox) gets all images as one batch, and weights
    without gradients. Its classifier for JAX is experimental and cannot run Carlini &
    Wagner's attack. In that attack ART makes 10 steps, its default, instead of 100,
    because each needs about 20 backward passes, two for each class, and a line search.
"""

from functools import partial

import _measure
import _rivals
import _scipy_lbfgs
import _task
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from advgan_jax import attacks, data, zoo

_LBFGS_IMAGES = flags.DEFINE_integer("lbfgs_images", 256, "Problems for L-BFGS.")


def first_correct(logits_fn, split, count):
    """Return the first test images that the model classifies correctly."""
    count = _measure.smaller(count, 4)
    images = data.to_float(split.images[: 2 * count])
    labels = split.labels[: 2 * count]
    keep = np.asarray(jnp.argmax(logits_fn(images), axis=-1)) == labels
    if _measure.SMOKE.value:
        keep[:] = True  # the model is not trained
    return images[keep][:count], labels[keep][:count]


def quality(logits_fn, images, labels, found, *, targeted=False):
    """Success and mean L2 of the successes, recomputed from the images."""
    found = np.asarray(found)
    predictions = np.asarray(jnp.argmax(logits_fn(found), axis=-1))
    success = predictions == labels if targeted else predictions != labels
    l2 = np.sqrt(np.square(found - images).sum(axis=(1, 2, 3)))
    return float(success.mean()), float(l2[success].mean()) if success.any() else None


def compare(name, thunks, judge, repeats):
    """Return a row for each rival; the first is ours, ratios are to its time."""
    seconds, results = _measure.in_turns(thunks, repeats)
    ours = next(iter(seconds.values()))
    rows = []
    for who, took in seconds.items():
        success, l2 = judge(results[who])
        row = {
            "benchmark": name,
            "who": who,
            "seconds": took,
            "times ours": took / ours,
            "success": success,
            "mean L2": l2,
        }
        rows.append(row)
        print(_measure.table([row]).splitlines()[1], flush=True)
    return rows


def chosen_rivals(rivals):
    """Return ours and those of `{name: (library, make its thunk)}` in `--rivals`."""
    return {
        name: make()
        for name, (library, make) in rivals.items()
        if library is None or library in _measure.RIVALS.value
    }


def ours(attack, logits_fn, images, labels, **hyper):
    """Return a thunk that runs one of our attacks."""
    return lambda: jax.block_until_ready(attack(logits_fn, images, labels, **hyper))


def pgd_rivals(target, stock, images, labels, epsilon):
    steps = {"num_steps": 40, "step_size": epsilon / 12, "epsilon": epsilon}
    hyper = {**steps, "key": jax.random.key(0)}
    foolbox = partial(
        _rivals.foolbox_attack,
        stock,
        lambda fb: fb.attacks.LinfPGD(steps=40, abs_stepsize=epsilon / 12),
        images,
        labels,
        epsilon,
    )
    theirs = {"eps": epsilon, "alpha": epsilon / 12, "steps": 40}
    torchattacks = partial(
        torch_attack, target, lambda ta, model: ta.PGD(model, **theirs), images, labels
    )
    art = partial(
        art_attack,
        target,
        "ProjectedGradientDescent",
        images,
        labels,
        eps=epsilon,
        eps_step=epsilon / 12,
        max_iter=40,
        num_random_init=1,
    )
    stock_flax = partial(ours, attacks.pgd, stock, images, labels, **hyper)
    return chosen_rivals(
        {
            _measure.OURS: (
                None,
                partial(ours, attacks.pgd, target, images, labels, **hyper),
            ),
            f"{_measure.OURS}, stock Flax": (None, stock_flax),
            "Foolbox": ("foolbox", foolbox),
            "torchattacks": ("torchattacks", torchattacks),
            "ART": ("art", art),
        }
    )


def torch_attack(target, make, images, labels):
    from _torch_models import torch_model

    return _rivals.torch_attack(torch_model(target.args[0]), make, images, labels)


def art_attack(target, name, images, labels, **hyper):
    from _torch_models import torch_model

    model = torch_model(target.args[0])
    return _rivals.art_attack(model, name, images, labels, **hyper)


def pgd(target, stock, split):
    """Compare the speed of PGD-40 at the papers' epsilon, where all succeed."""
    images, labels = first_correct(target, split, 100)
    judge = lambda found: quality(target, images, labels, found)  # noqa: E731
    rivals = pgd_rivals(target, stock, images, labels, 0.3)
    return compare("PGD-40, epsilon 0.3", rivals, judge, _measure.repeats())


def pgd_robust(target, stock, split):
    """Compare the strength of PGD-40 and APGD-100 at an epsilon where some fail."""
    images, labels = first_correct(target, split, 500)
    judge = lambda found: quality(target, images, labels, found)  # noqa: E731
    epsilon = 0.15
    rows = compare(
        "PGD-40, epsilon 0.15, 500 images",
        pgd_rivals(target, stock, images, labels, epsilon),
        judge,
        1,
    )
    return rows + apgd(target, images, labels, epsilon, judge)


def apgd(target, images, labels, epsilon, judge):
    num_steps = _measure.smaller(100, 5)
    hyper = {"epsilon": epsilon, "num_steps": num_steps, "key": jax.random.key(0)}
    rows = []
    for loss, short in (("cross_entropy", "ce"), ("dlr", "dlr")):
        theirs = {"eps": epsilon, "steps": num_steps, "loss": short, "n_restarts": 1}
        make = lambda ta, model, theirs=theirs: ta.APGD(model, **theirs)  # noqa: E731
        rivals = {
            _measure.OURS: (
                None,
                partial(ours, attacks.apgd, target, images, labels, loss=loss, **hyper),
            ),
            "torchattacks": (
                "torchattacks",
                partial(torch_attack, target, make, images, labels),
            ),
        }
        name = f"APGD-100 on {loss}, epsilon {epsilon}, 500 images"
        rows += compare(name, chosen_rivals(rivals), judge, 1)
    return rows


def carlini_wagner_l2(target, stock, split):
    """Compare C&W L2, untargeted, 5 searches of 100 steps, 64 images."""
    images, labels = first_correct(target, split, 64)
    judge = lambda found: quality(target, images, labels, found)  # noqa: E731
    num_steps = _measure.smaller(100, 5)
    hyper = {
        "num_search_steps": 5,
        "num_steps": num_steps,
        "learning_rate": 1e-2,
        "initial_loss_weight": 1.0,
    }
    foolbox = partial(
        _rivals.foolbox_attack,
        stock,
        lambda fb: fb.attacks.L2CarliniWagnerAttack(
            binary_search_steps=5, steps=num_steps, stepsize=1e-2, initial_const=1.0
        ),
        images,
        labels,
        None,
    )
    art = partial(
        art_attack,
        target,
        "CarliniL2Method",
        images,
        labels,
        binary_search_steps=5,
        max_iter=_measure.smaller(10, 2),
        learning_rate=1e-2,
        initial_const=1.0,
    )
    rivals = {
        _measure.OURS: (
            None,
            partial(ours, attacks.carlini_wagner_l2, target, images, labels, **hyper),
        ),
        "Foolbox": ("foolbox", foolbox),
        "ART, 10 steps": ("art", art),
    }
    return compare("C&W L2, 5 searches of 100 steps", chosen_rivals(rivals), judge, 1)


def carlini_wagner_long(target, stock, split):
    """Compare C&W L2, 9 searches of 1,000 steps, our default, on 64 digits."""
    del target, stock, split
    model = zoo.load("target/digits")
    images, labels = first_correct(model, data.load_digits().test, 64)
    judge = lambda found: quality(model, images, labels, found)  # noqa: E731
    num_steps = _measure.smaller(1000, 5)
    foolbox = partial(
        _rivals.foolbox_attack,
        *(model, lambda fb: fb.attacks.L2CarliniWagnerAttack(steps=num_steps)),
        *(images, labels, None),
    )
    attack = partial(ours, attacks.carlini_wagner_l2, model, images, labels)
    attack = partial(attack, num_steps=num_steps)
    rivals = {_measure.OURS: (None, attack), "Foolbox": ("foolbox", foolbox)}
    return compare("C&W L2, default, 64 digits", chosen_rivals(rivals), judge, 1)


def lbfgs(target, stock, split):
    """Compare Szegedy's attack, targeted at random classes."""
    del stock
    images, labels = first_correct(target, split, _LBFGS_IMAGES.value)
    away = np.random.default_rng(0).integers(1, 10, len(labels)).astype(labels.dtype)
    wanted = (labels + away) % 10
    judge = lambda found: quality(target, images, wanted, found, targeted=True)  # noqa: E731
    solve = partial(ours, attacks.lbfgs, target, images, wanted, targeted=True)
    scipys = partial(_scipy_lbfgs.search, target, images, wanted, targeted=True)
    rivals = {
        _measure.OURS: (None, partial(solve, solver="projected")),
        "SciPy": ("scipy", lambda: lambda: np.asarray(scipys().images)),
    }
    return compare(f"L-BFGS, {len(images)} images", chosen_rivals(rivals), judge, 1)


PARTS = {
    "pgd": pgd,
    "pgd_robust": pgd_robust,
    "carlini_wagner_l2": carlini_wagner_l2,
    "carlini_wagner_long": carlini_wagner_long,
    "lbfgs": lbfgs,
}


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment = _measure.environment()
    dataset, target = _task.mnist_model_c()
    stock = _rivals.stock_logits_fn(target.args[0])
    twins = target(data.to_float(dataset.test.images[:8]))
    np.testing.assert_allclose(
        stock(data.to_float(dataset.test.images[:8])), twins, rtol=1e-3, atol=1e-3
    )
    rows = []
    for part in _measure.chosen(PARTS).values():
        rows += part(target, stock, dataset.test)
    _measure.report(environment, rows, _measure.versus(rows))


if __name__ == "__main__":
    app.run(main)
