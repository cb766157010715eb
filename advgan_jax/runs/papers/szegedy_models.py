"""Make the models of Szegedy et al.'s studies, and attack them."""

import dataclasses
import pathlib
import re
import shutil
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from advgan_jax import models, parallel
from advgan_jax.data import Dataset, Split, to_float
from advgan_jax.evaluation import Evaluation, evaluate
from advgan_jax.reporting.formats import EVALUATIONS, PARAMS
from advgan_jax.runs import from_config
from advgan_jax.runs.artifacts import Artifacts
from advgan_jax.runs.from_config import select, target_models
from advgan_jax.runs.methods.attacks import target_labels
from advgan_jax.runs.methods.target_model import trained_logits_fn
from advgan_jax.runs.papers import layerwise_models
from advgan_jax.runs.papers.rows import Entry, TargetModel
from advgan_jax.trainers import Options, Stopped, checkpointed
from advgan_jax.training import full_batch
from advgan_jax.types import Batch, LogitsFn, Params

TOLERANCES = ("gradient_tolerance", "value_tolerance")
_STOPPING = ("max_iterations", "iterations_per_call", *TOLERANCES)
_PENALTIES = ("sparsity", "sparsity_weight", "weight_decay")
# The settings of each section that decide results; the others only save and report.
DEPENDS_ON: dict[str, tuple[str, ...]] = {
    "networks": ("hidden", "weight_decay", "autoencoder"),
    "full_batch": _STOPPING,
    "autoencoder": ("units", "num_images", *_PENALTIES, *_STOPPING),
    "layerwise": layerwise_models.DEPENDS_ON,
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


class SzegedyArtifacts(Artifacts):
    """The models and adversarial images of the studies."""

    def images(self, images: str) -> Split:
        """Return the first `evaluation.num_images` of a split, as floats."""
        split, wanted = self.split(images), self.run.config.evaluation.num_images
        split = split if wanted is None else split.take(min(wanted, len(split)))
        return Split(to_float(split.images), split.labels)

    def describe(self, model: TargetModel) -> dict[str, Any]:
        """See `Artifacts`."""
        config, own = self.run.config, self.config_of(model)
        found = {"half": model.half, **select(config, "dataset", "seed")}
        if model.name not in config.networks:
            return found | target_models.describe(own)
        network = config.networks[model.name]
        if model.variant is not None:
            found |= {"seed": own.seed, "hidden": list(network.hidden)}
            return found | {"variant": model.variant, **self._settings("layerwise")}
        found["network"] = select(network, *DEPENDS_ON["networks"])
        if network.autoencoder:
            found |= self._settings("autoencoder")
        return found | self._settings("full_batch")

    def depends_on(self, entry: Entry) -> dict[str, Any]:
        """See `Artifacts`."""
        found = select(self.run.config, "dataset", "seed")
        if entry.metric == "error":
            return found
        if entry.metric == "repeated":
            return found | select(self.run.config, "layerwise.num_seeds")
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
            train = partial(layerwise_models.train, self)
        elif model.name in self.run.config.networks:
            train = self._full_batch
        else:
            train = self._stochastic
        return self.once(("trained", model), lambda: train(model))

    def config_of(self, model: TargetModel) -> ConfigDict:
        """Return the run's configuration with the name and the seed of a model."""
        config = self.run.config.copy_and_resolve_references()
        # Models of the second half also start from other weights.
        number = model.seed + int(model.half == 2)
        config.seed = from_config.later_seed(config, number)
        config.target_model = model.name
        return config

    def split(self, images: str) -> Split:
        """See `Artifacts`; layer-wise training may hold out images."""
        found = layerwise_models.split(self.run.config, self.run.dataset, images)
        return super().split(images) if found is None else found

    def _train_split(self, model: TargetModel) -> Split:
        return self.split("train" if model.half is None else f"half {model.half}")

    def folder(self, model: TargetModel) -> tuple[pathlib.Path, dict[str, Any]]:
        """Return the folder of a model, and its description."""
        described = self.describe(model)
        return self.run.target_models.folder(self._kind(model), described), described

    def _kind(self, model: TargetModel) -> str:
        return f"{self.run.config.dataset}-{model.title}"

    def _full_batch(self, model: TargetModel) -> tuple[nn.Module, Params]:
        config, split = self.run.config, self._train_split(model)
        network, train = config.networks[model.name], partial(self._converged, model)
        whole = make_model(config, model.name, self.run.dataset)
        if not network.autoencoder:
            loss_fn = full_batch.classification(whole, network.weight_decay)
            return whole, {"params": train("full_batch", whole, loss_fn, split)}
        # The autoencoder is trained on the first images, the top layer on its units.
        section = config.autoencoder
        below = full_batch.Autoencoder(units=section.units)
        penalties = {name: section[name] for name in _PENALTIES}
        loss_fn = full_batch.sparse_reconstruction(below, **penalties)
        most = len(split) if section.num_images is None else section.num_images
        encoder = train("autoencoder", below, loss_fn, split.take(most))
        top = whole.clone(hidden=())
        loss_fn = full_batch.classification(top, network.weight_decay)
        params = train("full_batch", top, loss_fn, split, encoder)
        return whole, {"params": full_batch.with_first_layer(encoder, params)}

    def _converged(
        self,
        model: TargetModel,
        name: str,
        module: nn.Module,
        loss_fn: full_batch.LossFn,
        split: Split,
        encoder: Params | None = None,
    ) -> Params:
        """Return weights from the store, or train as the section `name` specifies."""
        store, described = self.run.target_models, self.describe(model)
        own, kind = self.config_of(model), self._kind(model)
        kind += "-autoencoder" * (name == "autoencoder")
        folder = store.folder(kind, described)
        checkpoints = folder / "checkpoints"
        weights = store.find(kind, described, PARAMS)
        if weights is not None and not parallel.agreed(checkpoints.exists()):
            return weights
        with parallel.locked(folder, wait=True):
            # Another run may have trained it in the meantime.
            weights, stopped = store.find(kind, described, PARAMS), False
            if weights is None:
                images = jnp.asarray(to_float(split.images))
                if encoder is not None:
                    images = jax.nn.sigmoid(_units(encoder, images))[:, None, None, :]
                batch = Batch(images, jnp.asarray(split.labels))
                key, section = jax.random.key(own.seed), own[name]
                fresh = full_batch.init_state(module.init(key, images[:1])["params"])
                settings = {n: section[n] for n in (*_STOPPING, "calls_per_checkpoint")}
                options = Options(folder, description=described)
                with checkpointed.resumable(options, fresh) as (state, hooks):
                    hooks = hooks._replace(description=kind)
                    fitted = full_batch.fit(state, loss_fn, batch, hooks, **settings)
                    stopped = hooks.stop()
                state, finished = fitted
                if not finished:
                    step = int(state.step)
                    raise Stopped(f"Stopped at step {step} of {kind}; saved.")
                weights = store.get(kind, described, lambda: state.model.params, PARAMS)
            # Curvature pairs are forty times as large as the weights.
            if parallel.agreed(checkpoints.exists()):
                parallel.first_alone(lambda: shutil.rmtree(checkpoints))
        # A signal in the last call stops the rest of the run, too.
        if stopped:
            raise Stopped(f"Stopped after the last step of {kind}; saved.")
        return weights

    def _stochastic(self, model: TargetModel) -> tuple[nn.Module, Params]:
        """Train a target model like those of other runs."""
        config = self.config_of(model)
        if model.half is not None:  # its own description does not name the half
            store, described = self.run.target_models, self.describe(model)
            config.target_model_dir = str(store.folder(self._kind(model), described))
        train = self._train_split(model)
        dataset = dataclasses.replace(self.run.dataset, train=train)
        logits_fn = trained_logits_fn(self.run._replace(config=config, dataset=dataset))
        module = models.make_classifier(model.name, dataset.num_classes)
        return module, logits_fn.args[0]


@jax.jit
def _units(encoder: Params, images: jax.Array) -> jax.Array:
    first = encoder["Dense_0"]
    return images.reshape(images.shape[0], -1) @ first["kernel"] + first["bias"]
