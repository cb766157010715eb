"""The child process of `time_to_success` that trains AdvGAN in PyTorch."""

import _success
import numpy as np
import torch
from _torch_advgan import Trainer, perturb
from _torch_models import to_torch, torch_model

EPSILON, BATCH = 0.3, 128


def _floats(images):
    return to_torch(images.astype(np.float32) / 255)


def main():
    settings, arrays, variables = _success.settings_and_task()
    torch.manual_seed(settings["seed"])
    target = torch_model(variables)
    trainer = Trainer(target, EPSILON)
    train, test = _floats(arrays["train_images"]), _floats(arrays["test_images"])
    labels, truth = (
        torch.tensor(arrays[f"{name}_labels"].astype(np.int64))
        for name in ("train", "test")
    )

    def step(rows):
        (rows,) = torch.from_numpy(rows)
        trainer.step(train[rows], labels[rows])

    @torch.no_grad()
    def success():
        correct = target(test).argmax(1) == truth
        adversarial, _ = perturb(trainer.generator, test, EPSILON)
        wrong = target(adversarial).argmax(1) != truth
        return float(wrong[correct].float().mean())

    rows = _success.shuffled(len(train), BATCH, settings["seed"])
    _success.until_success(settings, step, rows, success)


if __name__ == "__main__":
    main()
