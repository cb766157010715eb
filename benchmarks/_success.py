"""What the child processes of `time_to_success`, `training` and `generation` share.

Imports neither JAX nor PyTorch.
"""

import itertools
import json
import sys
import time

import numpy as np


def settings_and_task():
    """Return the settings, the arrays by name, and model C's weights as in Flax."""
    settings = json.loads(sys.argv[1])
    with np.load(settings["path"]) as file:
        arrays = dict(file)
    params = {}
    for name in [name for name in arrays if "/" in name]:
        layer, leaf = name.split("/")
        params.setdefault(layer, {})[leaf] = arrays.pop(name)
    return settings, arrays, {"params": params}


def random_batches(settings):
    """Return `count` random images in batches, float32 `[size, 28, 28, 1]`."""
    size, count = settings["size"], settings["count"]
    images = np.random.default_rng(0).random((count, 28, 28, 1), np.float32)
    return np.split(images, count // size)


def shuffled(count, size, seed):
    """Yield the rows of batches without end, in a new order each epoch."""
    draw = np.random.default_rng(seed)
    while True:
        order = draw.permutation(count)[: count // size * size]
        yield from order.reshape(-1, size)


def in_turns(turn):
    """Make a turn for warm-up, and then one for each line of standard input.

    Args:
      turn: makes all steps of a turn, and waits for them.
    """
    turn()
    print("ready", flush=True)
    for _ in sys.stdin:
        turn()
        print("done", flush=True)


def until_success(settings, train, rows, success, steps_per_call=1):
    """Train and measure in turns, then print seconds, steps and success.

    Args:
      settings: from `settings_and_task`.
      train: makes a step for each batch of rows `[steps_per_call, B]`.
      rows: from `shuffled`.
      success: returns the success rate of the generator.
      steps_per_call: must divide `--check_every`.
    """
    steps, found = 0, 0.0
    calls, rest = divmod(settings["check_every"], steps_per_call)
    if rest:
        raise ValueError(f"`--check_every` must be a multiple of {steps_per_call}.")
    while found < settings["goal"] and steps < settings["max_steps"]:
        for _ in range(calls):
            train(np.stack(list(itertools.islice(rows, steps_per_call))))
        steps += settings["check_every"]
        found = success()
    seconds = time.time() - settings["started"]
    print(json.dumps({"seconds": seconds, "steps": steps, "success": found}))
