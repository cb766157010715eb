"""The bounds hold to the last bit, in programs that are fully optimised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks

NAMES = ["advgan", "apgd", "apgd_targeted", "bim", "fgsm", "ilcm", "mi_fgsm", "pgd"]
NAMES += ["signhunter", "square", "transfer"]


def hyperparameters(name, net):
    """Few steps, and what the attack cannot do without."""
    if name == "advgan":
        return {"generator": Partial(jnp.negative)}
    steps = {} if name == "fgsm" else {"num_steps": 4}
    if name in ("signhunter", "square"):
        steps = {"num_queries": 30}
    return steps | ({"surrogate_fn": net} if name == "transfer" else {})


@pytest.fixture(scope="module")
def many():
    values = jax.random.uniform(jax.random.key(9), (40, 5, 7, 2), minval=-0.1)
    return jnp.clip(values, 0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_linf(name, net, many):
    hyper = hyperparameters(name, net)
    for epsilon in (0.1, 0.3, 8 / 255):
        result = attacks.ATTACKS[name](
            net, many, None, key=jax.random.key(0), epsilon=epsilon, **hyper
        )
        largest = np.abs(np.asarray(result) - np.asarray(many)).max()
        assert 0.99 * epsilon < largest <= np.float32(epsilon)
        assert float(result.min()) >= 0
        assert float(result.max()) <= 1


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("signhunter", "l2"),
        *(
            (n, m)
            for n in ("apgd", "bim", "fgsm", "pgd", "square")
            for m in ("l2", "l1")
        ),
    ],
)
def test_other_norms(name, norm, net, many):
    for epsilon in (0.02, 0.5, 4.0):
        result = attacks.ATTACKS[name](
            net,
            many,
            None,
            key=jax.random.key(0),
            epsilon=epsilon,
            norm=norm,
            **hyperparameters(name, net),
        )
        flat = np.asarray(result - many, np.float64).reshape(len(many), -1)
        size = np.linalg.norm(flat, {"l2": 2, "l1": 1}[norm], axis=1)
        # Each of the 70 pixels is rounded by half a unit in the last place at most.
        assert size.max() <= epsilon + 70 * 6e-8
        assert size.max() > 0.9 * epsilon or epsilon > 2  # the box may come first
