"""Compare attacks by queries with other libraries, and time the oracle.

    python benchmarks/queries.py --target_model_dir=runs/target_models

All attack model C on MNIST, with the same images, in one process and in turns. The
rivals attack the PyTorch version, and a hook counts the images that it is sent.

  * `oracle`: what an oracle adds to a model that gets 100 images at a time, with a
    ledger in memory and on disk, and what `blackbox.attack_oracle` adds; also in the
    time of cores, which waits neither for a disk nor for other processes.
  * `square`: Square Attack of torchattacks and ART at the same most queries for each
    image, within 0.3. Both images and successes are recomputed.
  * `searches`: queries and seconds of our other searches, within 0.3.
  * `hop_skip_jump`: HopSkipJump of ART and Foolbox in L2. Ours may make as many queries
    for each image as they need on average; success is an L2 distance of at most 2.

The rivals are not dependencies of the library:

    python -m pip install torch==2.13.0 foolbox==3.3.4 torchattacks==3.5.1
    python -m pip install adversarial-robustness-toolbox==1.20.1
"""

import pathlib
import statistics
import tempfile
import time
from functools import partial

import _measure
import _rivals
import _task
import jax
import numpy as np
from absl import app, flags, logging
from attacks import first_correct

from advgan_jax import attacks, blackbox
from advgan_jax.oracles import Ledger, Oracle

_IMAGES = flags.DEFINE_integer("images", 500, "Images for Square Attack.")
_FEW = flags.DEFINE_integer("few_images", 20, "Images for HopSkipJump.")
_BATCH, _NEAR = 100, 2.0
_KEY = jax.random.key(0)


def oracle(target, split):
    """Time a model, oracles and an attack on the same number of batches."""
    images, labels = first_correct(target, split, _BATCH)
    answer = jax.jit(lambda images: jax.nn.softmax(target(images), axis=-1))

    def model(images):
        rows = np.minimum(np.arange(_BATCH), len(images) - 1)
        return np.asarray(answer(images[rows]))[: len(images)]

    def ask(fn, number):
        for _ in range(number):
            fn(images)

    def make(ledger=None):
        options = {"answers": "probabilities", "num_classes": 10, "ledger": ledger}
        return Oracle(model, batch_size=_BATCH, name="C", **options)

    # Too small for any success, so that all images take all queries.
    number = _measure.smaller(50, 2)
    square = attacks.make_attack("square", epsilon=1e-6, num_queries=number)
    with tempfile.TemporaryDirectory() as folder:
        ledgers = map(Ledger, (pathlib.Path(folder) / str(i) for i in range(100)))
        thunks = {
            "model": partial(ask, model, number),
            "oracle": lambda: ask(make(), number),
            "oracle, ledger on disk": lambda: ask(make(next(ledgers)), number),
            "attack_oracle": lambda: blackbox.attack_oracle(
                make(), square, images, labels, key=_KEY
            ),
        }
        of_cores = {name: [] for name in thunks}

        def on_cores(name):
            start = time.process_time()
            thunks[name]()
            of_cores[name].append(time.process_time() - start)

        both = {name: partial(on_cores, name) for name in thunks}
        seconds, _ = _measure.in_turns(both, _measure.repeats())
    cores = {name: statistics.median(some[1:]) for name, some in of_cores.items()}
    return [
        {
            "benchmark": f"batches of {_BATCH}",
            "who": who,
            "ms for each batch": 1e3 * seconds[who] / number,
            "beside the model": seconds[who] / seconds["model"] - 1,
            "core ms for each batch": 1e3 * cores[who] / number,
            "beside the model, of cores": cores[who] / cores["model"] - 1,
        }
        for who in thunks
    ]


def square(target, split):
    """Compare Square Attack at the same most queries for each image."""
    images, labels = first_correct(target, split, _IMAGES.value)
    rows = []
    for most in (100, 1000):
        most = _measure.smaller(most, 3)
        ours = attacks.make_attack("square", epsilon=0.3, num_queries=most)
        theirs = {"norm": "Linf", "eps": 0.3, "n_queries": most, "p_init": 0.8}
        own = {"norm": np.inf, "eps": 0.3, "max_iter": most, "p_init": 0.8}
        makers = {
            "torchattacks": lambda model, settings=theirs: _rivals.torch_attack(
                model, lambda ta, model: ta.Square(model, **settings), images, labels
            ),
            "art": lambda model, settings=own: _rivals.art_attack(
                model, "SquareAttack", images, labels, **settings
            ),
        }
        found = take_turns(target, images, labels, ours, makers, np.inf, 0.3)
        rows += [{"benchmark": f"Square, {most} queries", **row} for row in found]
    return rows


def searches(target, split):
    """Run our other searches, without a rival, with at most 1,000 queries an image."""
    images, labels = first_correct(target, split, _IMAGES.value)
    most = _measure.smaller(1000, 60)
    rows = []
    for name in ("signhunter", "rays", "nes", "spsa", "bandits", "simba"):
        attack = attacks.make_attack(name, epsilon=0.3, num_queries=most)
        found = take_turns(target, images, labels, attack, {}, np.inf, 0.3)
        rows += [{"benchmark": f"{name}, {most} queries", **row} for row in found]
    return rows


def hop_skip_jump(target, split):
    """Compare HopSkipJump at equal mean queries, with each rival on its own."""
    images, labels = first_correct(target, split, _FEW.value)
    steps = _measure.smaller(5, 1)

    def foolbox(model):
        import foolbox as fb
        import torch
        from _torch_models import from_torch, to_torch

        shown, truth = to_torch(images), torch.tensor(labels.astype(np.int64))
        box = fb.PyTorchModel(model, bounds=(0, 1), device="cpu")
        attack = fb.attacks.HopSkipJumpAttack(steps=steps)
        return lambda: from_torch(
            attack.run(box, shown, fb.criteria.Misclassification(truth))
        )

    makers = {
        "art": lambda model: _rivals.art_attack(
            model, "HopSkipJump", images, labels, norm=2, max_iter=steps
        ),
        "foolbox": foolbox,
    }
    rows = []
    for name in chosen(makers):
        counts, run = counted(target, makers[name])
        run()
        most = counts["images"] // len(images)
        ours = attacks.make_attack("hop_skip_jump", norm="l2", num_queries=most)
        found = take_turns(target, images, labels, ours, {name: makers[name]}, 2, _NEAR)
        rows += [{"benchmark": f"HopSkipJump, as {name}", **row} for row in found]
    return rows


def chosen(makers):
    """Return the rivals that `--rivals` names."""
    return [name for name in makers if name in _measure.RIVALS.value]


def counted(target, make):
    """Return counts of a run, and a thunk that runs a rival and fills them."""
    from _torch_models import torch_model

    model, counts = torch_model(target.args[0]), {"images": 0}

    def count(layer, shown):
        counts["images"] += len(shown[0])
        return shown[0].float()  # ART's HopSkipJump sends float64

    # Of the first layer, because ART calls the layers one by one.
    model[0].register_forward_pre_hook(count)
    attack = make(model)

    def run():
        counts["images"] = 0
        return attack()

    return counts, run


def take_turns(target, images, labels, ours, makers, norm, limit):
    """Run our attack and the rivals in turns; return a row for each."""
    counts = {_measure.OURS: {}}

    def search():
        found = ours.function.search(
            target, images, labels, key=_KEY, **ours.hyperparams
        )
        counts[_measure.OURS]["images"] = int(found.queries.sum())
        return found.images

    thunks = {_measure.OURS: search}
    for name in chosen(makers):
        counts[name], thunks[name] = counted(target, makers[name])
    seconds, results = _measure.in_turns(thunks, 1)
    rows = []
    for who, took in seconds.items():
        x = np.asarray(results[who])
        sizes = np.linalg.norm((x - images).reshape(len(x), -1), norm, axis=1)
        wrong = np.asarray(target(x)).argmax(1) != labels
        row = {"who": who, "seconds": took, "times ours": took / seconds[_measure.OURS]}
        # The rounding of 1 in float32.
        row["success"] = float((wrong & (sizes <= limit + 1e-6)).mean())
        row["mean queries"] = counts[who]["images"] / len(images)
        row["median distance"] = float(np.median(sizes[wrong])) if wrong.any() else None
        rows.append(row)
        print(_measure.table([row]), flush=True)
    return rows


def main(_):
    logging.set_verbosity(logging.WARNING)
    parts = {
        "oracle": oracle,
        "square": square,
        "searches": searches,
        "hop_skip_jump": hop_skip_jump,
    }
    environment = _measure.environment()
    dataset, target = _task.mnist_model_c()
    rows = []
    for part in _measure.chosen(parts).values():
        rows += part(target, dataset.test)
    compared = [row for row in rows if "times ours" in row]
    figures = _measure.versus(compared) if compared else []
    _measure.report(environment, rows, figures)


if __name__ == "__main__":
    app.run(main)
