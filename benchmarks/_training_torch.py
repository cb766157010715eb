"""The child process of `training` that makes PyTorch's steps."""

import itertools

import _success
import numpy as np
import torch
from _torch_advgan import Trainer, classifier_step
from _torch_models import to_torch, torch_model

EPSILON = 0.3


def main():
    settings, arrays, variables = _success.settings_and_task()
    size, count = settings["size"], settings["steps"]
    images = to_torch(arrays["train_images"].astype(np.float32) / 255)
    labels = torch.tensor(arrays["train_labels"].astype(np.int64))
    if settings["part"] == "classifier_step":
        model = torch_model(variables, dropout=0.5).train()
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)

        def step(images, labels):
            classifier_step(model, adam, images, labels)

    else:
        step = Trainer(torch_model(variables), EPSILON).step

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
