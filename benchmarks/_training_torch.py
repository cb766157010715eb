"""The child process of `training` that makes PyTorch's steps.

ResNet-32 and what trains against it are channels last, in which they are faster.
"""

import itertools
from functools import partial

import _success
import numpy as np
import torch
from _torch_advgan import Trainer, classifier_step
from _torch_models import to_torch, torch_model
from _torch_resnet import ResNet32


def step_of(settings, variables):
    """Return a function that makes a step on images and labels."""
    part = settings["part"]
    if part == "resnet32_step":
        model = ResNet32().to(memory_format=torch.channels_last)
        sgd = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
        optimizer = torch.optim.SGD(model.parameters(), **sgd)
        return partial(classifier_step, model, optimizer)
    if part == "classifier_step":
        model = torch_model(variables, dropout=0.5).train()
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        return partial(classifier_step, model, adam)
    if part == "resnet32_advgan_step":
        target = ResNet32().eval().to(memory_format=torch.channels_last)
        trainer = Trainer(target, settings["epsilon"], settings["widths"], channels=3)
        for network in (trainer.generator, trainer.discriminator):
            network.to(memory_format=torch.channels_last)
        return trainer.step
    return Trainer(torch_model(variables), settings["epsilon"]).step


def main():
    settings, arrays, variables = _success.settings_and_task()
    size, count = settings["size"], settings["steps"]
    images = to_torch(arrays["train_images"].astype(np.float32) / 255)
    if images.shape[1] == 3:
        images = images.to(memory_format=torch.channels_last)
    labels = torch.tensor(arrays["train_labels"].astype(np.int64))
    step = step_of(settings, variables)
    rows = torch.arange(-(-len(labels) // size) * size) % len(labels)
    batches = itertools.cycle(rows.reshape(-1, size))
    some = torch.arange(size * count) % len(labels)

    def turn():
        if settings["part"] == "advgan_epoch":
            chosen = some[torch.randperm(len(some))].reshape(-1, size)
        else:
            chosen = itertools.islice(batches, count)
        for row in chosen:
            step(images[row], labels[row])

    _success.in_turns(turn)


if __name__ == "__main__":
    main()
