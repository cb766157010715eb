"""Model C's weights in stock Flax and in PyTorch, and the rivals' attacks on them."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.models import make_logits_fn
from advgan_jax.types import LogitsFn


class StockC(nn.Module):
    """Model C as a user of Flax would write it; its weights have the same names."""

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


def torch_model(variables, dropout=0.0):
    """The same net in PyTorch; `[B, 1, 28, 28]` to logits."""
    import torch

    params = jax.device_get(variables["params"])
    layers = []
    for index in range(4):
        layers += [_torch_conv(params[f"Conv_{index}"]), torch.nn.ReLU()]
        if index % 2:
            layers.append(torch.nn.MaxPool2d(2))
    layers.append(torch.nn.Flatten())
    for index in range(3):
        kernel = params[f"Dense_{index}"]["kernel"]
        if index == 0:
            # Flax flattens rows, columns, channels; PyTorch has the channels first.
            kernel = kernel.reshape(4, 4, 64, 200).transpose(2, 0, 1, 3)
            kernel = kernel.reshape(-1, 200)
        layers += [_torch_dense(kernel, params[f"Dense_{index}"]["bias"])]
        layers += [torch.nn.ReLU()] if index < 2 else []
        layers += [torch.nn.Dropout(dropout)] if index == 0 else []
    return torch.nn.Sequential(*layers).eval()


def _torch_conv(layer):
    import torch

    kernel = layer["kernel"].transpose(3, 2, 0, 1)
    conv = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3)
    _fill(conv, kernel, layer["bias"])
    return conv


def _torch_dense(kernel, bias):
    import torch

    dense = torch.nn.Linear(*kernel.shape)
    _fill(dense, kernel.T, bias)
    return dense


def _fill(layer, weight, bias):
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.array(weight)))
        layer.bias.copy_(torch.tensor(np.array(bias)))


def to_torch(images):
    import torch

    return torch.tensor(np.array(images).transpose(0, 3, 1, 2))


def from_torch(images):
    return np.asarray(images.detach()).transpose(0, 2, 3, 1)


def foolbox_attack(logits_fn, make, images, labels, epsilon):
    """A thunk that runs one of Foolbox's attacks on JAX, as its documentation does."""
    import foolbox

    # Foolbox still calls functions that newer releases of JAX and NumPy renamed.
    model = foolbox.JAXModel(jax.jit(logits_fn), bounds=(0, 1))
    attack = make(foolbox)
    images, labels = jnp.asarray(images), jnp.asarray(labels)

    def run():
        _, clipped, _ = attack(model, images, labels, epsilons=epsilon)
        return jax.block_until_ready(clipped)

    return run


def torch_attack(model, make, images, labels):
    """A thunk that runs one of torchattacks' attacks."""
    import torch
    import torchattacks

    attack = make(torchattacks, model)
    images, labels = to_torch(images), torch.tensor(np.array(labels, np.int64))

    def run():
        with open("/dev/null", "w") as null, contextlib.redirect_stdout(null):
            return from_torch(attack(images, labels))

    return run
