"""The models that AutoAttack and the searches attack, and their copies in PyTorch."""

import pathlib
from typing import Any, NamedTuple

import _measure
import _task
import jax
import numpy as np
import optax
import torch
from _torch_models import COPIES, small_torch_model, to_torch
from absl import flags

from advgan_jax import data, models, parallel, zoo
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.training import classifier, fit
from advgan_jax.types import LogitsFn

_MODEL = flags.DEFINE_enum(
    *("model", "digits", ["digits", *COPIES]),
    "A small model of the digits, trained here, or a saved model of MNIST; by default "
    "of the zoo.",
)
_DEFENCE = flags.DEFINE_string("defence", "none", "Of the saved model: iterative, ...")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of the training on digits.")
IMAGES = flags.DEFINE_integer("images", 500, "Images; of digits, from all splits.")


class Attacked(NamedTuple):
    """A model, its copy in PyTorch, and images `[N, H, W, C]` with their labels."""

    kind: str  # digits, or the defence of the model
    title: str
    logits_fn: LogitsFn
    module: Any
    images: np.ndarray
    labels: np.ndarray

    def correct(self):
        """Return the same with the images only that are classified correctly."""
        rows = np.argmax(np.asarray(self.logits_fn(self.images)), -1) == self.labels
        return self._replace(images=self.images[rows], labels=self.labels[rows])


def load():
    """Return the model that `--model` and `--defence` name."""
    if _MODEL.value == "digits":
        kind, title = "digits", "digits"
        logits_fn, module, images, labels = _digits()
    else:
        kind, title = _DEFENCE.value, f"mnist {_MODEL.value}, {_DEFENCE.value}"
        logits_fn, module, images, labels = _mnist(_MODEL.value, _DEFENCE.value)
    count = _measure.smaller(IMAGES.value, 20)
    images, labels = data.to_float(images[:count]), np.asarray(labels[:count])
    with torch.no_grad():
        difference = module(to_torch(images)).numpy() - np.asarray(logits_fn(images))
    assert np.abs(difference).max() < 1e-3, np.abs(difference).max()
    return Attacked(kind, title, logits_fn, module, np.asarray(images), labels)


def _digits():
    digits = data.load_dataset("digits")
    model, optimizer = models.make_classifier("small", 10), optax.adam(2e-3)
    state = classifier.init_state(model, optimizer, jax.random.key(0), (8, 8, 1))
    step = classifier.make_train_step(model, optimizer)
    run = parallel.compile_steps(step, mode="jit")
    epochs = _measure.smaller(_EPOCHS.value, 1)
    plan = fit.Plan(len(digits.train), batch_size=64, num_epochs=epochs)
    on_device = fit.on_device(digits.train)
    state, _ = fit.fit(state, run, on_device, plan, order_key=jax.random.key(1))
    variables = jax.device_get(state.variables)
    images, labels = (
        np.concatenate([getattr(s, field) for s in (digits.test, digits.train)])
        for field in ("images", "labels")
    )
    logits_fn = models.make_logits_fn(model, variables)
    return logits_fn, small_torch_model(variables), images, labels


def _mnist(name, defence):
    """Return a saved model of `--target_model_dir`, and the test images."""
    variables = _saved(name, defence)
    logits_fn = models.make_logits_fn(models.make_classifier(name, 10), variables)
    test = data.load_dataset("mnist").test
    return logits_fn, COPIES[name](variables), test.images, test.labels


def _saved(name, defence):
    """Return the weights of the first model with this name and this defence."""
    if _measure.SMOKE.value:
        model = models.make_classifier(name, 10)
        return model.init(jax.random.key(0), np.zeros((1, *_task.MNIST), np.float32))
    entry = _task.TARGET_DIR.value
    if not _task.TARGET_DIR.present:
        ending = {"none": "", "iterative": "-robust"}.get(defence, f"-{defence}")
        entry = f"zoo:target/mnist-{name.lower()}{ending}"
    if entry.startswith("zoo:"):
        return zoo.load(entry.removeprefix("zoo:")).args[0]
    for folder in sorted(pathlib.Path(_task.TARGET_DIR.value).glob(f"mnist-{name}-*")):
        with Checkpoints(folder / "checkpoints") as checkpoints:
            described = checkpoints.describe()
            if described.get("defence", {"name": "none"})["name"] == defence:
                return {"params": checkpoints.restore()["model"]["params"]}
    raise FileNotFoundError(
        f"No MNIST model {name} with the defence {defence!r} in "
        f"{_task.TARGET_DIR.value}; train it by `advgan-jax train "
        f"--config=target_model:mnist --config.target_model={name}`, or take one of "
        "the zoo, `--target_model_dir=zoo:NAME`."
    )
