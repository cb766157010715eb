"""What the children of `time_to_success` and `training` do alike.

Imports neither JAX nor PyTorch.
"""

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


def until_success(settings, step, rows, success):
    """Trains and measures in turns, and prints what it took.

    Args:
      settings: from `settings_and_task`.
      step: makes a step with a batch's rows.
      rows: from `shuffled`.
      success: measures the generator.
    """
    steps, found = 0, 0.0
    while found < settings["goal"] and steps < settings["max_steps"]:
        for _ in range(settings["check_every"]):
            step(next(rows))
        steps += settings["check_every"]
        found = success()
    seconds = time.time() - settings["started"]
    print(json.dumps({"seconds": seconds, "steps": steps, "success": found}))
