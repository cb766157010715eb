"""Make the models of Szegedy et al.'s studies, and attack them."""

import dataclasses
import re
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from advgan_jax import models
from advgan_jax.attacks import BoundAttack
from advgan_jax.data import Dataset, Split, split_for_distillation, to_float
from advgan_jax.evaluation import Evaluation, evaluate
from advgan_jax.runs import from_config, full_batch
from advgan_jax.runs.artifacts import Artifacts
from advgan_jax.runs.from_config import select, target_models
from advgan_jax.runs.methods.attacks import target_labels
from advgan_jax.runs.methods.target_model import trained_logits_fn
from advgan_jax.runs.papers.rows import Entry, TargetModel
from advgan_jax.runs.store import EVALUATIONS
from advgan_jax.runs.training import train_with_checkpoints
from advgan_jax.training import full_batch as objectives
from advgan_jax.training import layerwise
from advgan_jax.types import Batch, LogitsFn, Params

_STOPPING = (
    *("max_iterations", "iterations_per_call", "gradient_tolerance", "value_tolerance"),
)
_PENALTIES = ("sparsity", "sparsity_weight", "weight_decay")
_MIXTURE = layerwise.Mixture._fields[1:]  # all but the layers
_OPTIMIZER = ("optimizer", "learning_rate", "weight_decay", "num_epochs", "batch_size")
# The settings of each section that decide results; the others only save and report.
DEPENDS_ON: dict[str, tuple[str, ...]] = {
    "networks": ("hidden", "weight_decay", "autoencoder"),
    "full_batch": _STOPPING,
    "autoencoder": ("units", "num_images", *_PENALTIES, *_STOPPING),
    "layerwise": ("model", "attack", "dropout", *_OPTIMIZER, *_MIXTURE),
    "evaluation": ("num_images", "batch_size"),  # each batch has its own draws
    "units": ("num_directions", "num_images", "num_permutations"),
}


def parse(name: str) -> TargetModel:
    """Return the model of a configured name: `@1` or `@2` means half of the images."""
    found = re.fullmatch(r"(.+)@([12])", name)
    return TargetModel(found[1], half=int(found[2])) if found else TargetModel(name)


def published_title(config: ConfigDict, model: TargetModel) -> str:
    """Return the name in the paper, with a prime for the second half."""
    if model.name not in config.networks:
        return model.title
    return config.networks[model.name].title + "'" * (model.half == 2)


def make_model(config: ConfigDict, name: str, dataset: Dataset) -> nn.Module:
    """Build the module of a section of `config.networks`."""
    hidden = tuple(config.networks[name].hidden)
    return models.FullyConnected(num_classes=dataset.num_classes, hidden=hidden)


def variants(num_hidden: int) -> dict[str, dict[str, Any]]:
    """Return the settings of each variant of layer-wise training."""

    def _way(*layers: int, decays: bool = True, drops: bool = False) -> dict[str, Any]:
        return {"layers": layers, "decays": decays, "drops": drops}

    return {
        "none": _way(decays=False),
        "weight decay": _way(),
        "dropout": _way(decays=False, drops=True),
        "input": _way(0),
        **{f"layer {k}": _way(k) for k in range(1, num_hidden + 1)},
        "all layers": _way(*range(num_hidden + 1)),
    }


def layerwise_parts(
    config: ConfigDict, dataset: Dataset, variant: str
) -> tuple[models.FullyConnected, layerwise.Mixture, tuple[float, ...]]:
    """Return module, mixture and weight decays of a variant of layer-wise training."""
    section, network = config.layerwise, config.networks[config.layerwise.model]
    way = variants(len(network.hidden))[variant]
    module = make_model(config, section.model, dataset)
    module: Any = module.clone(dropout=section.dropout if way["drops"] else 0.0)
    own = {name: section[name] for name in _MIXTURE}
    decays = [decay if way["decays"] else 0.0 for decay in network.weight_decay]
    return module, layerwise.Mixture(layers=way["layers"], **own), tuple(decays)


def layerwise_attack(config: ConfigDict) -> BoundAttack:
    """Return the attack on layers."""
    section = {"attacks": {"own": config.layerwise.attack}}
    return from_config.bound_attack(ConfigDict(section), "own")


class SzegedyArtifacts(Artifacts):
    """The models and adversarial images of the studies."""

    def split(self, images: str) -> Split:
        """See `Artifacts`."""
        if images not in ("half 1", "half 2"):
            return super().split(images)
        # They share no image and have the classes in proportion.
        train, seed = self.run.dataset.train, self.run.config.seed
        return split_for_distillation(train, 0.5, seed=seed)[int(images[-1]) - 1]

    def images(self, images: str) -> Split:
        """Return the first `evaluation.num_images` of a split, as floats."""
        split, wanted = self.split(images), self.run.config.evaluation.num_images
        split = split if wanted is None else split.take(min(wanted, len(split)))
        return Split(to_float(split.images), split.labels)

    def describe(self, model: TargetModel) -> dict[str, Any]:
        """See `Artifacts`."""
        config = self.run.config
        found = {"half": model.half, **select(config, "dataset", "seed")}
        if model.name not in config.networks:
            return found | target_models.describe(self._config(model))
        network = config.networks[model.name]
        found["network"] = select(network, *DEPENDS_ON["networks"])
        if model.variant is not None:
            return found | {"variant": model.variant, **self._settings("layerwise")}
        if network.autoencoder:
            found |= self._settings("autoencoder")
        return found | self._settings("full_batch")

    def depends_on(self, entry: Entry) -> dict[str, Any]:
        """See `Artifacts`."""
        found = select(self.run.config, "dataset", "seed")
        if entry.metric == "error":
            return found
        found |= self._settings("evaluation")
        if entry.attack is not None:
            names = (f"attacks.{entry.attack}", "random_targets", "target_class")
            found |= select(self.run.config, *names)
        return found | (self._settings("units") if entry.metric == "directions" else {})

    def _settings(self, section: str) -> dict[str, Any]:
        return {section: select(self.run.config[section], *DEPENDS_ON[section])}

    def logits_fn(self, model: TargetModel) -> LogitsFn:
        """See `Artifacts`."""
        return models.make_logits_fn(*self.trained(model))

    def attacked(self, model: TargetModel, images: str) -> Evaluation:
        """Return the studies' attack on a model; `examples` are all images of it."""
        config, split = self.run.config, self.images(images)

        def _attack() -> dict[None, Evaluation]:
            num_classes = self.run.dataset.num_classes
            found = evaluate(
                self.logits_fn(model),
                from_config.bound_attack(config, config.attack),
                split.images,
                split.labels,
                target_labels=target_labels(config, split, num_classes),
                batch_size=config.evaluation.batch_size,
                key=jax.random.key(config.seed + 2),
                keep=len(split),
                progress=True,
            )
            return {None: found}

        settings = self.depends_on(Entry("attacked", model, config.attack))
        depends_on = [images, self.describe(model), settings]
        where = f"evaluations/{model.title}-{config.attack}-{images}"
        kept, get = (where, depends_on, _attack, EVALUATIONS), self.run.store.get
        return self.once(where, lambda: get(*kept))[None]

    def trained(self, model: TargetModel) -> tuple[nn.Module, Params]:
        """Return a model's module and variables, trained unless they are stored."""
        if model.variant is not None:
            train = self._layerwise
        elif model.name in self.run.config.networks:
            train = self._full_batch
        else:
            train = self._stochastic
        return self.once(("trained", model), lambda: train(model))

    def _config(self, model: TargetModel) -> ConfigDict:
        config = self.run.config.copy_and_resolve_references()
        # Models of the second half also start from other weights.
        config.target_model, config.seed = model.name, config.seed + (model.half == 2)
        return config

    def _train_split(self, model: TargetModel) -> Split:
        return self.split("train" if model.half is None else f"half {model.half}")

    def _kind(self, model: TargetModel) -> str:
        return f"{self.run.config.dataset}-{model.title}"

    def _full_batch(self, model: TargetModel) -> tuple[nn.Module, Params]:
        network = self.run.config.networks[model.name]
        whole = module = make_model(self.run.config, model.name, self.run.dataset)
        batch, encoder = _batch(self._train_split(model)), None
        if network.autoencoder:
            encoder = self._encoder(model)
            units = jax.nn.sigmoid(_units(encoder, batch.images))
            batch = batch._replace(images=units[:, None, None, :])
            module = whole.clone(hidden=())
        loss_fn = objectives.classification(module, network.weight_decay)
        section = self.run.config.full_batch
        params = self._converged(model, "", section, module, loss_fn, batch)
        if encoder is not None:
            params = objectives.with_first_layer(encoder, params)
        return whole, {"params": params}

    def _encoder(self, model: TargetModel) -> Params:
        """Train the sparse autoencoder below a model, on the first images."""
        section, split = self.run.config.autoencoder, self._train_split(model)
        most = len(split) if section.num_images is None else section.num_images
        module = objectives.Autoencoder(units=section.units)
        penalties = {name: section[name] for name in _PENALTIES}
        loss_fn = objectives.sparse_reconstruction(module, **penalties)
        own = (section, module, loss_fn, _batch(split.take(most)))
        return self._converged(model, "-autoencoder", *own)

    def _converged(
        self,
        model: TargetModel,
        part: str,
        section: ConfigDict,
        module: nn.Module,
        loss_fn: objectives.LossFn,
        batch: Batch,
    ) -> Params:
        key = jax.random.key(self._config(model).seed)
        params = module.init(key, batch.images[:1])["params"]
        kept = (self.run.target_models, self._kind(model) + part)
        described = self.describe(model)
        return full_batch.trained(*kept, described, section, loss_fn, params, batch)

    def _stochastic(self, model: TargetModel) -> tuple[nn.Module, Params]:
        """Train a target model like those of other runs."""
        config = self._config(model)
        if model.half is not None:  # its own description does not name the half
            store, described = self.run.target_models, self.describe(model)
            config.target_model_dir = str(store.folder(self._kind(model), described))
        train = self._train_split(model)
        dataset = dataclasses.replace(self.run.dataset, train=train)
        logits_fn = trained_logits_fn(self.run._replace(config=config, dataset=dataset))
        module = models.make_classifier(model.name, dataset.num_classes)
        return module, logits_fn.args[0]

    def _layerwise(self, model: TargetModel) -> tuple[nn.Module, Params]:
        config, dataset = self.run.config, self.run.dataset
        section, described = config.layerwise, self.describe(model)
        variant = cast(str, model.variant)
        module, mixture, decays = layerwise_parts(config, dataset, variant)
        plan = from_config.training_plan(section, dataset)
        optimizer = from_config.make_optimizer(section, plan.num_steps)
        key, shape = jax.random.key(config.seed), dataset.train.image_shape
        parts = (module, optimizer, layerwise_attack(config), mixture)
        state = train_with_checkpoints(
            self.run,
            self.run.target_models.folder(self._kind(model), described),
            section,
            layerwise.init_state(module, optimizer, key, shape, mixture),
            layerwise.make_train_step(*parts, strengths=decays),
            description=described,
            title=model.title,
        )
        return module, {"params": state.net.params}


def _batch(split: Split) -> Batch:
    return Batch(jnp.asarray(to_float(split.images)), jnp.asarray(split.labels))


@jax.jit
def _units(encoder: Params, images: jax.Array) -> jax.Array:
    first = encoder["Dense_0"]
    return images.reshape(images.shape[0], -1) @ first["kernel"] + first["bias"]
