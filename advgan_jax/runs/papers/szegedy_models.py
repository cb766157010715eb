"""Make the models of Szegedy et al.'s studies, and attack them."""

import dataclasses
import re
import shutil
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from advgan_jax import models, parallel
from advgan_jax.attacks import BoundAttack
from advgan_jax.data import Dataset, Split, to_float
from advgan_jax.evaluation import Evaluation, evaluate
from advgan_jax.reporting.formats import EVALUATIONS, PARAMS
from advgan_jax.runs import from_config
from advgan_jax.runs.artifacts import Artifacts
from advgan_jax.runs.from_config import select, target_models
from advgan_jax.runs.methods.attacks import target_labels
from advgan_jax.runs.methods.target_model import trained_logits_fn
from advgan_jax.runs.papers.rows import Entry, TargetModel
from advgan_jax.trainers import Options, Stopped, checkpointed
from advgan_jax.training import full_batch, layerwise
from advgan_jax.types import Batch, LogitsFn, Params

TOLERANCES = ("gradient_tolerance", "value_tolerance")
_STOPPING = ("max_iterations", "iterations_per_call", *TOLERANCES)
_PENALTIES = ("sparsity", "sparsity_weight", "weight_decay")
_MIXTURE = layerwise.Mixture._fields[1:]  # all but the layers
_OPTIMIZER = ("optimizer", "learning_rate", "weight_decay", "num_epochs", "batch_size")
LayerwiseParts = tuple[
    models.FullyConnected, optax.GradientTransformation, BoundAttack, layerwise.Mixture
]
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


def variants(num_hidden: int) -> dict[str, tuple[int, ...]]:
    """Return the layers that each variant of layer-wise training attacks."""
    return {
        **dict.fromkeys(("none", "weight decay", "dropout"), ()),
        "input": (0,),
        **{f"layer {k}": (k,) for k in range(1, num_hidden + 1)},
        "all layers": tuple(range(num_hidden + 1)),
    }


def layerwise_parts(
    config: ConfigDict, dataset: Dataset, variant: str
) -> tuple[LayerwiseParts, tuple[float, ...]]:
    """Return the parts of a variant of layer-wise training, and its weight decays."""
    section, network = config.layerwise, config.networks[config.layerwise.model]
    layers, decays = variants(len(network.hidden))[variant], network.weight_decay
    if variant in ("none", "dropout"):
        decays = (0.0,) * len(decays)
    module: Any = make_model(config, section.model, dataset)
    module = module.clone(dropout=section.dropout if variant == "dropout" else 0.0)
    num_steps = from_config.training_plan(section, dataset).num_steps
    optimizer = from_config.make_optimizer(section, num_steps)
    attacks = ConfigDict({"attacks": {"own": section.attack}})
    attack = from_config.bound_attack(attacks, "own")
    own = {name: section[name] for name in _MIXTURE}
    parts = (module, optimizer, attack, layerwise.Mixture(layers=layers, **own))
    return parts, tuple(decays)


class SzegedyArtifacts(Artifacts):
    """The models and adversarial images of the studies."""

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
        config.seed = from_config.later_seed(config, int(model.half == 2))
        config.target_model = model.name
        return config

    def _train_split(self, model: TargetModel) -> Split:
        return self.split("train" if model.half is None else f"half {model.half}")

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
        own, kind = self._config(model), self._kind(model)
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
        parts, decays = layerwise_parts(config, dataset, cast(str, model.variant))
        module, optimizer, _, mixture = parts
        key, shape = jax.random.key(config.seed), dataset.train.image_shape
        described = self.describe(model)
        folder = self.run.target_models.folder(self._kind(model), described)
        state = checkpointed.train(
            self.run.options(config.layerwise, folder, described),
            layerwise.init_state(module, optimizer, key, shape, mixture),
            layerwise.make_train_step(*parts, strengths=decays),
            dataset.train,
            from_config.training_plan(config.layerwise, dataset),
            title=model.title,
        )
        return module, {"params": state.model.params}


@jax.jit
def _units(encoder: Params, images: jax.Array) -> jax.Array:
    first = encoder["Dense_0"]
    return images.reshape(images.shape[0], -1) @ first["kernel"] + first["bias"]
