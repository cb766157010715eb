"""Model C's weights in stock Flax, and attacks of other libraries on them."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.models import make_logits_fn
from advgan_jax.types import LogitsFn


class StockC(nn.Module):
    """Model C as a user of Flax would write it, with the same names of weights."""

    @nn.compact
    def __call__(self, images):
        x = images
        for width in (32, 64):
            for _ in range(2):
                x = nn.relu(nn.Conv(width, (3, 3), padding="VALID")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(200)(x))
        return nn.Dense(10)(x)


def stock_logits_fn(variables) -> LogitsFn:
    return make_logits_fn(StockC(), variables)


def foolbox_attack(logits_fn, make, images, labels, epsilon):
    """Return a thunk that runs an attack of Foolbox on JAX, as its manual does."""
    import foolbox

    # Foolbox still calls functions that newer releases of JAX and NumPy renamed.
    model = foolbox.JAXModel(jax.jit(logits_fn), bounds=(0, 1))
    attack = make(foolbox)
    images, labels = jnp.asarray(images), jnp.asarray(labels)

    def run():
        _, clipped, _ = attack(model, images, labels, epsilons=epsilon)
        return jax.block_until_ready(clipped)

    return run


def art_attack(model, name, images, labels, **hyper):
    """Return a thunk that runs an attack of ART on all images at once."""
    import torch
    from _torch_models import from_torch, to_torch
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    images, labels = to_torch(images).numpy(), np.array(labels)
    classifier = PyTorchClassifier(
        # Otherwise ART also computes the gradients of the weights.
        model.requires_grad_(False),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=images.shape[1:],
        nb_classes=model[-1].out_features,
        clip_values=(0, 1),
        device_type="cpu",
    )
    make = getattr(evasion, name)
    attack = make(classifier, batch_size=len(images), verbose=False, **hyper)
    return lambda: from_torch(torch.tensor(attack.generate(images, labels)))


def torch_attack(model, make, images, labels):
    """Return a thunk that runs an attack of torchattacks."""
    import torch
    import torchattacks
    from _torch_models import from_torch, to_torch

    attack = make(torchattacks, model)
    images, labels = to_torch(images), torch.tensor(np.array(labels, np.int64))

    def run():
        with open("/dev/null", "w") as null, contextlib.redirect_stdout(null):
            return from_torch(attack(images, labels))

    return run
