"""What the children of `time_to_success`, `training` and `generation` do alike.

Imports neither JAX nor PyTorch.
"""

import itertools
import json
import sys
import time

import numpy as np


def settings_and_task():
    """The settings, the arrays by name, and model C's weights as Flax has them."""
    settings = json.loads(sys.argv[1])
    with np.load(settings["path"]) as file:
        arrays = dict(file)
    params = {}
    for name in [name for name in arrays if "/" in name]:
        layer, leaf = name.split("/")
        params.setdefault(layer, {})[leaf] = arrays.pop(name)
    return settings, arrays, {"params": params}


def random_batches(settings):
    """`count` images of MNIST's size, `size` at a time: float32 `[size, 28, 28, 1]`."""
    size, count = settings["size"], settings["count"]
    images = np.random.default_rng(0).random((count, 28, 28, 1), np.float32)
    return np.split(images, count // size)


def shuffled(count, size, seed):
    """Rows of a batch, for ever; the images in a new order each epoch."""
    draw = np.random.default_rng(seed)
    while True:
        order = draw.permutation(count)[: count // size * size]
        yield from order.reshape(-1, size)


def in_turns(turn):
    """Makes a turn to warm up, and then one for each line that comes.

    Args:
      turn: makes all the steps of a turn, and waits for them.
    """
    turn()
    print("ready", flush=True)
    for _ in sys.stdin:
        turn()
        print("done", flush=True)


def until_success(settings, train, rows, success, steps_per_call=1):
    """Trains and measures in turns, and prints what it took.

    Args:
      settings: from `settings_and_task`.
      train: makes a step with each of the batches' rows `[steps_per_call, B]`.
      rows: from `shuffled`.
      success: measures the generator.
      steps_per_call: must divide the steps between two checks.
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
