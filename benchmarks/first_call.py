"""Measure the first call of each attack, most of which is compilation.

    python benchmarks/first_call.py --out=benchmarks/results/cpu-first-call.json

Each attack runs in a process of its own, on 64 images of digits and the zoo's small
convolutional model, with the attack's default settings: first with an empty compilation
cache, then with the filled one. Prints the median seconds of the first call, and those
of the second, which compiles nothing. Predictions of the model come before, uncounted.
"""

import json
import statistics
import tempfile

import _measure
from absl import app

_BOUND = {"epsilon": 0.3}
_QUERIES = ("square", "signhunter", "nes", "spsa", "bandits", "simba", "rays")
# Every attack that needs no other model.
ATTACKS = {
    **dict.fromkeys(("fgsm", "bim", "ilcm", "mi_fgsm"), _BOUND),
    "pgd": _BOUND | {"step_size": 0.03, "num_steps": 40},
    **dict.fromkeys(("apgd", "apgd_targeted"), _BOUND),
    **{key: {} for key in ("deepfool", "fab", "fab_targeted", "fmn", "ddn", "ead")},
    **dict.fromkeys((*_QUERIES, "hop_skip_jump"), _BOUND | {"num_queries": 1000}),
    "lbfgs": {},
    "carlini_wagner_l2": {"num_search_steps": 1, "num_steps": 100},
    "carlini_wagner_linf": {},
}
_CALL = """
import json, sys, time
import jax
from advgan_jax import attacks, data, zoo
from advgan_jax.cpu import process
process.set_compilation_cache(sys.argv[1])
attack = attacks.make_attack(sys.argv[2], **json.loads(sys.argv[3]))
model, images = zoo.load("target/digits"), data.load_digits().test.images[:64]
labels = jax.block_until_ready(model(images)).argmax(axis=-1)
for _ in range(2):
    start = time.perf_counter()
    jax.block_until_ready(attack(model, images, labels, key=jax.random.key(0)))
    print(time.perf_counter() - start)
"""


def seconds(name, cache):
    """Return the seconds of an attack's first call and of its second."""
    printed = _measure.run_python("-c", _CALL, cache, name, json.dumps(ATTACKS[name]))
    return tuple(map(float, printed.split()))


def rows_of(name):
    """Yield the rows of an attack: empty cache, filled cache, second call."""
    found = {"empty cache": [], "filled cache": [], "second call": []}
    for _ in range(_measure.repeats()):
        with tempfile.TemporaryDirectory() as cache:
            first, _ = seconds(name, cache)
            filled, second = seconds(name, cache)
        for took, one in zip(found.values(), (first, filled, second), strict=True):
            took.append(one)
    for state, took in found.items():
        yield {
            "benchmark": f"first call of {name}, {state}",
            "who": _measure.OURS,
            "seconds": statistics.median(took),
        }


def main(argv):
    del argv
    environment = _measure.environment()
    names = _measure.smaller(list(_measure.chosen(ATTACKS)), ["fgsm"])
    rows = [row for name in names for row in rows_of(name)]
    _measure.report(environment, rows, _measure.versus(rows))


if __name__ == "__main__":
    app.run(main)
