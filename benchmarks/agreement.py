"""Compare AutoAttack image by image with the reference, on the same weights.

    python benchmarks/agreement.py --out=results.json
    python benchmarks/agreement.py --norms=linf --seeds=1 --images=200 \
        --only=apgd-ce,apgd-t,whole
    python benchmarks/agreement.py --model=C --target_model_dir=zoo:target/mnist-c
    python benchmarks/agreement.py --model=madry --defence=iterative --images=200 \
        --target_model_dir=runs/target_models

docs/performance.md has what was measured, on a loaded machine.

The model is a small one of the digits, trained here, or a saved one of MNIST. Each
component attacks all images that are classified correctly, and `whole` is the standard
sequence. The file is written after each component. With `--verdicts` each verdict of
the reference is kept in that folder, and a later run reads it instead of repeating it;
give each choice of `--keep_memory` and `--channels_last` a folder of its own.
The reference runs with several seeds and ours with as many keys; the reference is not a
dependency of the library:

    python -m pip install torch==2.13.0 pyautoattack==0.2.0

`inside` says whether our mean robust accuracy is within 0.4 points of the mean of the
seeds, or between the least and the largest. `agreement` is the share of the images on
which both verdicts are the same, for each key and seed; `between_seeds` is that of the
reference's seeds among each other, `between_keys` that of ours. `seconds` are of the
processor, so that a loaded machine matters little, and include compilation; our later
keys find the programs of the first. `fab-t` draws no numbers; there a seed or a key
says how often the images are cut, because rounding depends on the batch.
"""

import itertools
import json
import pathlib
import statistics
import time

import _attacked
import _measure
import jax
import numpy as np
import torch
from _torch_models import from_torch, to_torch
from absl import app, flags

from advgan_jax import digest
from advgan_jax.cpu import process
from advgan_jax.evaluation import autoattack
from advgan_jax.numbers import distances

_NORMS = flags.DEFINE_list("norms", ["linf", "l2"], "Norms: linf, l2, l1.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds of the reference.")
_KEYS = flags.DEFINE_integer("keys", 3, "Our keys.")
_VERDICTS = flags.DEFINE_string("verdicts", None, "Folder of the reference's verdicts.")
_EPSILON = flags.DEFINE_float("epsilon", None, "Bound; None: see `EPSILONS`.")
_KEEP_MEMORY = flags.DEFINE_bool("keep_memory", False, "Keep freed memory, for both.")
_CHANNELS_LAST = flags.DEFINE_bool(
    *("channels_last", False, "Weights of PyTorch's convolutions channels last.")
)
# Bounds that some images survive and some do not, by data set and by defence.
EPSILONS = {
    "digits": {"linf": 0.15, "l2": 0.8, "l1": 3.0},
    "none": {"linf": 0.1, "l2": 1.5, "l1": 6.0},
    "iterative": {"linf": 0.3, "l2": 1.5, "l1": 6.0},
}
FIXED = ["fab-t"]  # without random numbers
COMPONENTS = ["apgd-ce", "apgd-t", "fab-t", "square", "whole"]
REFERENCE_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def ours(attacked, norm, epsilon, name, key):
    """Return which images stay robust, and the seconds."""
    start = time.process_time()
    result = autoattack(
        *(attacked.logits_fn, attacked.images, attacked.labels),
        norm=norm,
        epsilon=epsilon,
        key=jax.random.key(key),
        batch_size=batch_size(attacked, name, key),
        only=None if name == "whole" else [name],
    )
    return result.broken_by == "", time.process_time() - start


def theirs(attacked, norm, epsilon, name, seed):
    """Return the same of the reference."""
    import pyautoattack

    model, images, labels = attacked.module, attacked.images, attacked.labels
    attack = pyautoattack.AutoAttack(
        model, norm=REFERENCE_NORMS[norm], eps=epsilon, seed=seed
    )
    if name != "whole":
        attack.attacks_to_run = [name]
    start = time.process_time()
    x, _ = attack.run_standard_evaluation(
        *(to_torch(images), torch.tensor(labels.astype(np.int64))),
        batch_size=batch_size(attacked, name, seed),
    )
    seconds = time.process_time() - start
    with torch.no_grad():
        predictions = model(x).argmax(dim=1).numpy()
    sizes = distances(from_torch(x), images, norm)
    assert sizes.max() <= epsilon * (1 + 1e-4)
    return predictions == labels, seconds


def batch_size(attacked, name, number):
    """Return the number of images that are attacked together."""
    return -(-len(attacked.images) // (number + 1 if name in FIXED else 1))


def kept(attacked, norm, epsilon, name, seed):
    """Return the verdicts of `theirs`, which runs unless the folder has them."""
    arguments = (attacked, norm, epsilon, name, seed)
    if _VERDICTS.value is None:
        return theirs(*arguments)
    weights = digest.of_json(digest.of_arrays(attacked.logits_fn.args[0]))[:8]
    of_model = (attacked.title.replace(" ", "-"), weights, len(attacked.images))
    parts = map(str, (*of_model, norm, epsilon, name, seed))
    path = pathlib.Path(_VERDICTS.value) / ("_".join(parts) + ".npz")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        robust, seconds = theirs(*arguments)
        np.savez(path, robust=robust, seconds=seconds)
    with np.load(path) as found:
        return found["robust"], float(found["seconds"])


def compare(attacked, norm, epsilon, name):
    """Return the row of a component."""
    arguments = (attacked, norm, epsilon, name)
    reference = [kept(*arguments, seed) for seed in range(_SEEDS.value)]
    found = [ours(*arguments, key) for key in range(_KEYS.value)]
    row = {
        "model": attacked.title,
        "images": len(attacked.images),
        "norm": norm,
        "epsilon": epsilon,
        "component": name,
        "memory_kept": _KEEP_MEMORY.value,
        "channels_last": _CHANNELS_LAST.value,
    }
    return row | agreement(found, reference)


def agreement(found, reference):
    """Return the cells of a row that compare which images stay robust."""
    verdicts, others = ([robust for robust, _ in some] for some in (found, reference))
    accuracies, wanted = (
        [float(robust.mean()) for robust in some] for some in (verdicts, others)
    )
    mean = np.mean(accuracies)
    # One in a million for the rounding of sums.
    near = abs(mean - np.mean(wanted)) <= 0.004 + 1e-6
    return {
        "robust_accuracy": accuracies,
        "reference": wanted,
        "inside": bool(near or min(wanted) <= mean <= max(wanted)),
        "agreement": same(itertools.product(verdicts, others)),
        "between_keys": same(itertools.combinations(verdicts, 2)),
        "between_seeds": same(itertools.combinations(others, 2)),
        "seconds": [took for _, took in found],
        "reference_seconds": [took for _, took in reference],
    }


def same(pairs):
    """Return the share of images with the same verdict, for each pair of verdicts."""
    return [float((first == second).mean()) for first, second in pairs]


def figure(row):
    """Return the seconds of a row beside the reference's, compilation included."""
    ours, theirs = row["seconds"][0], statistics.median(row["reference_seconds"])
    name = f"AutoAttack, {row['component']}, {row['norm']}, {row['model']}"
    return _measure.faster(name, ours, "the reference", theirs)


def main(_):
    torch.set_num_threads(_measure.num_cores())
    if _KEEP_MEMORY.value:
        process.compute_in_caller()
        process.keep_memory()
    attacked = _attacked.load()
    if _CHANNELS_LAST.value:
        attacked.module.to(memory_format=torch.channels_last)
    environment = _measure.environment(("torch", "pyautoattack"))
    rows = []
    for norm in _NORMS.value:
        epsilon = _EPSILON.value or EPSILONS[attacked.kind][norm]
        for name in _measure.ONLY.value or COMPONENTS:
            rows.append(compare(attacked, norm, epsilon, name))
            print(json.dumps(rows[-1]), flush=True)
            _measure.save(environment, rows, list(map(figure, rows)))
    print(_measure.table(rows))


if __name__ == "__main__":
    app.run(main)
