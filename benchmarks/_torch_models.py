"""Model C and its images in PyTorch. Imports no JAX, see `time_to_success`."""

import numpy as np
import torch


def torch_model(variables, dropout=0.0):
    """Return the same model in PyTorch, from `[B, 1, 28, 28]` to logits."""
    params = variables["params"]
    layers = []
    for index in range(4):
        layers += [_torch_conv(params[f"Conv_{index}"]), torch.nn.ReLU()]
        if index % 2:
            layers.append(torch.nn.MaxPool2d(2))
    layers.append(torch.nn.Flatten())
    for index in range(3):
        kernel = np.array(params[f"Dense_{index}"]["kernel"])
        if index == 0:
            # Flax flattens rows, columns, channels; in PyTorch channels come first.
            kernel = kernel.reshape(4, 4, 64, 200).transpose(2, 0, 1, 3)
            kernel = kernel.reshape(-1, 200)
        layers += [_torch_dense(kernel, params[f"Dense_{index}"]["bias"])]
        layers += [torch.nn.ReLU()] if index < 2 else []
        layers += [torch.nn.Dropout(dropout)] if index == 0 else []
    return torch.nn.Sequential(*layers).eval()


def _torch_conv(layer):
    kernel = np.array(layer["kernel"]).transpose(3, 2, 0, 1)
    conv = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3)
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
