"""The models of Szegedy et al.'s layer-wise training."""

import dataclasses
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

from advgan_jax import models
from advgan_jax.attacks import BoundAttack
from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import evaluate_clean
from advgan_jax.reporting import read_metrics
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import select
from advgan_jax.runs.papers.rows import TargetModel
from advgan_jax.trainers import checkpointed
from advgan_jax.training import layerwise
from advgan_jax.types import Params

_MIXTURE = layerwise.Mixture._fields[1:]  # all but the layers
DEPENDS_ON = (
    *("model", "attack", "num_validation", *_MIXTURE),
    *("activation", "decays", "dropout", "input_dropout"),
    *("optimizer", "learning_rate", "weight_decay", "num_epochs", "batch_size"),
)
_MONITORED = 10_000  # images of each kind, at each checkpoint
_Parts = tuple[
    models.FullyConnected, optax.GradientTransformation, BoundAttack, layerwise.Mixture
]


def variants(num_hidden: int) -> dict[str, tuple[int, ...]]:
    """Return the layers that each variant of layer-wise training attacks."""
    return {
        **dict.fromkeys(("none", "weight decay", "dropout"), ()),
        "input": (0,),
        **{f"layer {k}": (k,) for k in range(1, num_hidden + 1)},
        "all layers": tuple(range(num_hidden + 1)),
    }


def parts_of(
    config: ConfigDict, dataset: Dataset, variant: str
) -> tuple[_Parts, tuple[float, ...]]:
    """Return the parts of a variant of layer-wise training, and its weight decays."""
    section, hidden = config.layerwise, config.networks[config.layerwise.model].hidden
    decays, dropout = tuple(section.decays), {}
    if variant in ("none", "dropout"):
        decays = (0.0,) * len(decays)
    if variant == "dropout":
        dropout = select(section, "dropout", "input_dropout")
    module = models.FullyConnected(
        dataset.num_classes, tuple(hidden), getattr(nn, section.activation), **dropout
    )
    num_steps = from_config.training_plan(section, dataset).num_steps
    optimizer = from_config.make_optimizer(section, num_steps)
    attacks = ConfigDict({"attacks": {"own": section.attack}})
    attack = from_config.bound_attack(attacks, "own")
    own = {name: section[name] for name in _MIXTURE}
    mixture = layerwise.Mixture(layers=variants(len(hidden))[variant], **own)
    return (module, optimizer, attack, mixture), decays


def shown_images(config: ConfigDict) -> str:
    """Return the images on which layer-wise training is measured."""
    return "validation" if config.layerwise.num_validation else "test"


def split(config: ConfigDict, dataset: Dataset, images: str) -> Split | None:
    """Return the images `trained on`, those held out for `validation`, or None."""
    train = dataset.train
    kept = len(train) - config.layerwise.num_validation
    rows = {"trained on": slice(kept), "validation": slice(kept, None)}.get(images)
    return rows and Split(train.images[rows], train.labels[rows])


def train(artifacts: Any, model: TargetModel) -> tuple[nn.Module, Params]:
    """Train a variant, or resume; log its errors at each checkpoint."""
    config, images = artifacts.config_of(model), artifacts.split("trained on")
    dataset = dataclasses.replace(artifacts.run.dataset, train=images)
    parts, decays = parts_of(config, dataset, cast(str, model.variant))
    module, optimizer, _, mixture = parts
    key, shape = jax.random.key(config.seed), images.image_shape
    shown = {
        "training_error": images,
        "shown_error": artifacts.split(shown_images(config)),
    }
    # With the model's own seed, on which also the order of the images depends.
    run = artifacts.run._replace(config=config)
    state = checkpointed.train(
        run.options(config.layerwise, *artifacts.folder(model)),
        layerwise.init_state(module, optimizer, key, shape, mixture),
        layerwise.make_train_step(*parts, strengths=decays),
        images,
        from_config.training_plan(config.layerwise, dataset),
        title=model.title,
        monitor=partial(_errors, module, shown),
    )
    return module, {"params": state.model.params}


def _errors(module: nn.Module, shown: dict[str, Split], state: Any) -> dict[str, float]:
    """Return the errors of a state on the first images of some splits."""
    logits_fn, found = models.make_logits_fn(module, {"params": state.model.params}), {}
    for name, images in shown.items():
        some = images.take(min(_MONITORED, len(images)))
        clean = evaluate_clean(logits_fn, some.images, some.labels, batch_size=1000)
        found[name] = 1 - clean.clean_accuracy
    return found


def curves(artifacts: Any, model: TargetModel) -> dict[str, list[tuple[float, float]]]:
    """Return the errors of a training by epoch, on images shown and trained on."""
    artifacts.trained(model)  # unless it is stored
    per_epoch = (
        len(artifacts.split("trained on")) // artifacts.run.config.layerwise.batch_size
    )
    rows = [
        row for row in read_metrics(artifacts.folder(model)[0]) if "shown_error" in row
    ]
    return {
        kind: [(row["step"] / per_epoch, row[f"{kind}_error"]) for row in rows]
        for kind in ("shown", "training")
    }
