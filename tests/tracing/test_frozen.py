"""Any function of JAX is a frozen model of a training."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, struct
from jax.tree_util import Partial

from advgan_jax import parallel
from advgan_jax.data import Split
from advgan_jax.training import fit

WEIGHTS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
PIXELS = np.random.default_rng(1).random((12, 2, 2, 2), np.float32)


class State(struct.PyTreeNode):
    step: jax.Array
    total: jax.Array


def step(state, batch, model, others=(), *, axis_name=None):
    """Add up gradients, and logits of half of the batch."""
    slopes = jax.grad(lambda x: jnp.sum(model(x) ** 2))(batch.images)
    more = sum(jnp.sum(other(batch.images[:2])) for other in others)
    change = parallel.mean_over(jnp.sum(slopes) + more, axis_name)
    state = state.replace(step=state.step + 1, total=state.total + change)
    return state, {"change": change}


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


class Net(nnx.Module):
    def __init__(self, weights):
        self.weights = nnx.Param(weights)

    def __call__(self, images):
        return linear(self.weights[...], images)


def of_host(weights):
    """A model of NumPy with a gradient of NumPy."""

    def forward(images):
        shape = jax.ShapeDtypeStruct((len(images), 3), jnp.float32)
        flat = images.reshape(len(images), -1)
        return jax.pure_callback(lambda x: np.asarray(x) @ weights, shape, flat)

    def backward(images, slopes):
        shape = jax.ShapeDtypeStruct((len(slopes), 8), jnp.float32)
        flat = jax.pure_callback(lambda g: np.asarray(g) @ weights.T, shape, slopes)
        return (flat.reshape(images.shape),)

    model = jax.custom_vjp(forward)
    model.defvjp(lambda images: (forward(images), images), backward)
    return model


MODELS = {
    "Partial": lambda w: Partial(linear, jnp.asarray(w)),
    "function": lambda w: lambda images: linear(w, images),
    "module": lambda w: Net(jnp.asarray(w)),
    "callback": of_host,
}
run = parallel.compile_steps(step, mode="jit")


def trained(*frozen):
    state = State(jnp.int32(0), jnp.float32(0))
    data = fit.on_device(Split(PIXELS, np.zeros(12, np.int32)))
    plan = fit.Plan(12, batch_size=4, num_epochs=1)
    key = jax.random.key(0)
    return fit.fit(state, run, data, plan, order_key=key, frozen=frozen)[0].total


def test_every_kind_of_model_is_frozen():
    totals = {}
    for kind, make in MODELS.items():
        totals[kind] = trained(make(WEIGHTS), (make(WEIGHTS), make(-2 * WEIGHTS)))
        assert abs(totals[kind] - trained(make(WEIGHTS))) > 1
    slopes = 2 * PIXELS.reshape(12, 8) @ WEIGHTS @ WEIGHTS.T
    # Float32 sums of about a hundred products, in another order.
    np.testing.assert_allclose(trained(MODELS["module"](WEIGHTS)), slopes.sum(), 1e-5)
    np.testing.assert_allclose(list(totals.values()), totals["Partial"], rtol=1e-5)


def test_another_training_uses_its_own_weights(compiles):
    model = Net(jnp.asarray(WEIGHTS))
    trained(model)
    model.weights[...] = -3 * model.weights[...]
    with compiles(0):
        found = trained(model)
    wanted = trained(MODELS["Partial"](-3 * WEIGHTS))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


DEVICES = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import numpy as np, test_frozen
    from advgan_jax import parallel

    totals = []
    for mode in ("pmap", "shard_map"):
        test_frozen.run = parallel.compile_steps(test_frozen.step, mode=mode)
        for make in test_frozen.MODELS.values():
            totals.append(test_frozen.trained(make(test_frozen.WEIGHTS)))
    np.testing.assert_allclose(totals, totals[0], rtol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.multi_device
def test_every_kind_of_model_on_two_devices(on_devices):
    on_devices(2, DEVICES, pathlib.Path(__file__).parent)
