"""The attack that `test_killed` kills, as a command: `killed_attack.py FOLDER`."""

import pathlib
import sys
import time

import jax
import numpy as np

from advgan_jax import attacks
from advgan_jax.blackbox import attack_oracle
from advgan_jax.oracles import Ledger, Oracle

BATCH = 5
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(0.3, 0.7, (24, 4, 4, 1)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(16, 3)).astype(np.float32)


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def attack(folder, pause):
    """Attack with a ledger in `folder`; its file `asked` has all that the model saw."""

    def service(images):
        with (folder / "asked").open("ab") as file:
            file.write(images.tobytes())
        time.sleep(pause)
        return linear(images)

    ledger = Ledger(folder / "ledger")
    options = {"batch_size": BATCH, "ledger": ledger, "name": "linear", "probe": 0}
    oracle = Oracle(service, answers="logits", num_classes=3, **options)
    square = attacks.make_attack("square", epsilon=0.1, num_queries=40)
    labels = linear(IMAGES).argmax(1)
    found = attack_oracle(oracle, square, IMAGES, labels, key=jax.random.key(2))
    counts = {"made": oracle.queries, "sent": ledger.sent, "wasted": oracle.wasted}
    np.savez(folder / "found.npz", **found._asdict(), **counts)


if __name__ == "__main__":
    attack(pathlib.Path(sys.argv[1]), pause=0.01)
