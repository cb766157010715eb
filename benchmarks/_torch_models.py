"""The classifiers in PyTorch, and images for them. Imports no JAX."""

import numpy as np
import torch


def torch_model(variables, dropout=0.0):
    """Return model C in PyTorch, from `[B, 1, 28, 28]` to logits."""
    params = variables["params"]
    layers = []
    for index in range(4):
        layers += [_torch_conv(params[f"Conv_{index}"]), torch.nn.ReLU()]
        if index % 2:
            layers.append(torch.nn.MaxPool2d(2))
    head = _head(params, 3, (4, 4, 64))
    return torch.nn.Sequential(
        *layers, *head[:3], torch.nn.Dropout(dropout), *head[3:]
    ).eval()


def torch_model_a(variables):
    """Return model A, see `torch_model`."""
    params = variables["params"]
    layers = []
    for index in range(2):
        layers += [_torch_conv(params[f"Conv_{index}"]), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, *_head(params, 2, (20, 20, 64))).eval()


def torch_model_madry(variables):
    """Return Madry's model, see `torch_model`."""
    params = variables["params"]
    layers = []
    for index in range(2):
        layers += [_torch_conv(params[f"Conv_{index}"], padding=2), torch.nn.ReLU()]
        layers += [torch.nn.MaxPool2d(2)]
    return torch.nn.Sequential(*layers, *_head(params, 2, (7, 7, 64))).eval()


def small_torch_model(variables):
    """Return the small model of the digits, from `[B, 1, 8, 8]` to logits."""
    params = variables["params"]
    layers = []
    for index in range(2):
        layers += [_torch_conv(params[f"Conv_{index}"], padding=1), torch.nn.ReLU()]
    return torch.nn.Sequential(
        *layers, torch.nn.MaxPool2d(2), *_head(params, 2, (4, 4, 64))
    ).eval()


# The saved models of MNIST by name.
COPIES = {"A": torch_model_a, "C": torch_model, "madry": torch_model_madry}


def _head(params, count, shape):
    """Return the dense layers after images of a shape, with units between them."""
    layers = [torch.nn.Flatten()]
    for index in range(count):
        kernel = np.array(params[f"Dense_{index}"]["kernel"])
        if index == 0:
            # Flax flattens rows, columns, channels; in PyTorch channels come first.
            kernel = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3)
            kernel = kernel.reshape(-1, kernel.shape[-1])
        layers += [_torch_dense(kernel, params[f"Dense_{index}"]["bias"])]
        layers += [torch.nn.ReLU()] if index < count - 1 else []
    return layers


def _torch_conv(layer, padding=0):
    kernel = np.array(layer["kernel"]).transpose(3, 2, 0, 1)
    out, into, size, _ = kernel.shape
    conv = torch.nn.Conv2d(into, out, size, padding=padding)
    _fill(conv, kernel, layer["bias"])
    return conv


def _torch_dense(kernel, bias):
    dense = torch.nn.Linear(*kernel.shape)
    _fill(dense, kernel.T, bias)
    return dense


def _fill(layer, weight, bias):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.array(weight)))
        layer.bias.copy_(torch.tensor(np.array(bias)))


def to_torch(images):
    return torch.tensor(np.array(images).transpose(0, 3, 1, 2))


def from_torch(images):
    return np.asarray(images.detach()).transpose(0, 2, 3, 1)
