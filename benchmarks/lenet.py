"""A plain LeNet-5 as a black box: a model of one's own, trained here and imported.

    python benchmarks/lenet.py lenet.msgpack
    PYTHONPATH=benchmarks python experiments/attack.py \
        --config=configs/query_frontier.py:mnist \
        --config.target_model=lenet:make_logits_fn \
        --config.target_weights=lenet.msgpack --config.num_seeds=1 \
        --config.names="('signhunter','signhunter_strips','square','rays')"

The first command trains it on all 60,000 training images of MNIST for twelve epochs. It
has rectified units and max-pools instead of tanh and averages, and no dropout.
"""

import pathlib
import sys

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import optax

from advgan_jax import data, interop, parallel
from advgan_jax.training import classifier, fit

_SHAPE = (28, 28, 1)


class LeNet5(nn.Module):
    """Two convolutions of 5x5, each with a max-pool, and three dense layers."""

    @nn.compact
    def __call__(self, images, *, train=False):
        """Return logits; `train` changes nothing."""
        hidden = images
        for features, padding in ((6, "SAME"), (16, "VALID")):
            hidden = nn.relu(nn.Conv(features, (5, 5), padding=padding)(hidden))
            hidden = nn.max_pool(hidden, (2, 2), strides=(2, 2))
        hidden = hidden.reshape(len(hidden), -1)
        for features in (120, 84):
            hidden = nn.relu(nn.Dense(features)(hidden))
        return nn.Dense(10)(hidden)


def make_logits_fn(weights):
    """Return the trained model as a function of images in [0, 1]."""
    start = LeNet5().init(jax.random.key(0), jnp.zeros((1, *_SHAPE)))
    variables = flax.serialization.from_bytes(start, pathlib.Path(weights).read_bytes())
    return interop.from_linen(LeNet5(), variables)


def main(path):
    dataset = data.load_dataset("mnist")
    plan = fit.Plan(len(dataset.train), batch_size=64, num_epochs=12)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, plan.num_steps))
    state = classifier.init_state(LeNet5(), optimizer, jax.random.key(0), _SHAPE)
    step = parallel.compile_steps(
        classifier.make_train_step(LeNet5(), optimizer), mode="jit"
    )
    order, images = jax.random.key(1), fit.on_device(dataset.train)
    state, _ = fit.fit(state, step, images, plan, order_key=order)
    variables = {"params": state.model.params}
    pathlib.Path(path).write_bytes(flax.serialization.to_bytes(variables))
    images, labels = data.to_float(dataset.test.images), dataset.test.labels
    correct = jax.jit(make_logits_fn(path))(images).argmax(axis=-1) == labels
    print(f"{100 * correct.mean():.2f} % of the test images are classified correctly.")


if __name__ == "__main__":
    main(sys.argv[1])
