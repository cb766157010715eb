"""Compare searches for the shortest perturbation with those of adversarial-library.

    python benchmarks/least_distances.py --images=200 --out=results.json
    python benchmarks/least_distances.py --images=200 --model=C \
        --target_model_dir=zoo:target/mnist-c

Both attack the small model of the digits, or a saved one of MNIST, with the same
weights, images and number of steps (gradients; our final bisection adds ten
evaluations). Norms are medians over the images that are classified correctly; an
attack that fails counts as infinite. Seconds are of the processor; those of ours
include compilation.

    python -m pip install torch==2.13.0 adv-lib==0.2.8
"""

import time

import _attacked
import _measure
import numpy as np
import torch
from _torch_models import from_torch, to_torch
from absl import app, flags

from advgan_jax import attacks
from advgan_jax.numbers import ORDERS, distances

_STEPS = flags.DEFINE_integer("steps", 100, "Steps of each search.")
SEARCHES = [
    *(("fmn", norm) for norm in ("l2", "linf", "l1")),
    ("ddn", "l2"),
    *(("fab", norm) for norm in ("l2", "linf", "l1")),
]


def ours(name, norm, logits_fn, images, labels):
    """Return adversarial images."""
    options = {} if name == "ddn" else {"norm": norm}
    options["num_steps"] = _measure.smaller(_STEPS.value, 5)
    return np.asarray(attacks.ATTACKS[name](logits_fn, images, labels, **options))


def theirs(name, norm, model, images, labels):
    """Return adversarial images of the library."""
    import adv_lib.attacks as library

    steps = _measure.smaller(_STEPS.value, 5)
    inputs = to_torch(images), torch.tensor(labels.astype(np.int64))
    if name == "ddn":
        return from_torch(library.ddn(model, *inputs, steps=steps, levels=None))
    if name == "fmn":
        return from_torch(library.fmn(model, *inputs, norm=ORDERS[norm], steps=steps))
    return from_torch(library.fab(model, *inputs, norm=ORDERS[norm], n_iter=steps))


def measure(run, logits_fn, images, labels, norm):
    """Return the median norm, the share of successes and the seconds of a thunk."""
    start = time.process_time()
    found = run()
    seconds = time.process_time() - start
    success = np.argmax(np.asarray(logits_fn(found)), axis=-1) != labels
    sizes = distances(found, images, norm)
    median = float(np.median(np.where(success, sizes, np.inf)))
    return {"median": median, "success": float(success.mean()), "seconds": seconds}


def figure(row):
    """Return the seconds of a row beside the library's."""
    name = f"{row['attack']}, {row['norm']}, {row['model']}"
    theirs = row["adv-lib seconds"]
    return _measure.faster(name, row["seconds"], "adversarial-library", theirs)


def main(_):
    torch.set_num_threads(_measure.num_cores())
    _, title, logits_fn, model, images, labels = _attacked.load().correct()
    rows = []
    for name, norm in SEARCHES:
        if _measure.ONLY.value and name not in _measure.ONLY.value:
            continue
        mine = measure(
            lambda n=name, p=norm: ours(n, p, logits_fn, images, labels),
            *(logits_fn, images, labels, norm),
        )
        other = measure(
            lambda n=name, p=norm: theirs(n, p, model, images, labels),
            *(logits_fn, images, labels, norm),
        )
        row = {"model": title, "attack": name, "norm": norm, **mine}
        row |= {f"adv-lib {key}": value for key, value in other.items()}
        rows.append({**row, "ratio": mine["median"] / other["median"]})
        print(rows[-1], flush=True)
    environment = _measure.environment(("torch", "adv-lib"))
    _measure.report(environment, rows, list(map(figure, rows)))


if __name__ == "__main__":
    app.run(main)
