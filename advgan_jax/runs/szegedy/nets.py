"""The nets of the studies: trained once, each in a folder that says how."""

import dataclasses
import pathlib
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from advgan_jax import models
from advgan_jax.data import Dataset, Split, split_for_distillation, to_float
from advgan_jax.runs import from_config
from advgan_jax.runs import full_batch as trainings
from advgan_jax.runs.methods import target_model
from advgan_jax.runs.run import Run
from advgan_jax.training import full_batch
from advgan_jax.types import Batch, LogitsFn, Params

_HALF = re.compile(r"(.+)@([12])")


class Net(NamedTuple):
    """A trained net.

    Attributes:
      name: as configured, `fc100_100_10`, or `fc100_100_10@1` for a net that has seen
        the first half of the training set only.
      title: as the paper calls it.
      model: the module.
      variables: its weights.
    """

    name: str
    title: str
    model: nn.Module
    variables: Params

    @property
    def logits_fn(self) -> LogitsFn:
        """The net as attacks see it."""
        return models.make_logits_fn(self.model, self.variables)


def parse(name: str) -> tuple[str, int | None]:
    """The name without `@1` or `@2`, and which half that is (None for the whole)."""
    found = _HALF.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def halves(run: Run) -> tuple[Split, Split]:
    """Two halves of the training set that share no image, classes in proportion."""
    return split_for_distillation(run.dataset.train, 0.5, seed=run.config.seed)


def trained_net(run: Run, name: str) -> Net:
    """A net by name, trained unless its folder has it already.

    Args:
      run: the run that needs it.
      name: of `config.nets` (full-batch L-BFGS), or else of a target model (trained as
        `config.target_training` says); with `@1` or `@2` on a half of the training set.

    Returns:
      The net.
    """
    base, half = parse(name)
    part = run.dataset.train if half is None else halves(run)[half - 1]
    own = run._replace(dataset=dataclasses.replace(run.dataset, train=part))
    if base not in run.config.nets:
        return _stochastic(own, name, base, half)
    variables = {"params": _full_batch(own, name)}
    model = make_model(run.config, base, run.dataset)
    return Net(name, title_of(run.config, name), model, variables)


def title_of(config: ConfigDict, name: str) -> str:
    """The net as the paper calls it, with a prime if it has the second half."""
    base, half = parse(name)
    if base not in config.nets:
        return name
    return config.nets[base].title + ("'" if half == 2 else "")


def make_model(config: ConfigDict, base: str, dataset: Dataset) -> nn.Module:
    """The module of a net of `config.nets`."""
    hidden = tuple(config.nets[base].hidden)
    return models.FullyConnected(num_classes=dataset.num_classes, hidden=hidden)


def folder(run: Run, kind: str, description: dict[str, Any]) -> pathlib.Path:
    """Where something is trained that is described so.

    Args:
      run: the run that needs it; its `target_model_dir` may be shared.
      kind: begins the folder's name.
      description: all that decides the result.

    Returns:
      An absolute path.
    """
    root = pathlib.Path(
        run.config.target_model_dir or run.workdir / "target_models"
    ).absolute()
    slug = re.sub(r"[^\w.-]+", "_", f"{run.config.dataset}-{kind}")
    return root / f"{slug}-{from_config.fingerprint(description)}"


def describe(run: Run, name: str) -> dict[str, Any]:
    """All that decides what a net becomes, as JSON values."""
    base, half = parse(name)
    values = from_config.plain(run.config)
    if base not in run.config.nets:
        other = run.config.copy_and_resolve_references()
        other.target_model = base
        return {**from_config.target_model_description(other), "half": half}
    net = {k: v for k, v in values["nets"][base].items() if k != "title"}
    shared = ("dataset", "seed", "full_batch")
    found = {"net": net, "half": half, **{key: values[key] for key in shared}}
    # How often it is saved decides nothing.
    found["full_batch"].pop("calls_per_checkpoint")
    return found | ({"autoencoder": values["autoencoder"]} if _frozen(net) else {})


def _frozen(net: Any) -> bool:
    return bool(net["autoencoder"])


def _seed(run: Run, half: int | None) -> int:
    """Nets of the second half differ from those of the first by their start too."""
    return run.config.seed + (half == 2)


def _batch(split: Split) -> Batch:
    return Batch(jnp.asarray(to_float(split.images)), jnp.asarray(split.labels))


def _full_batch(run: Run, name: str) -> Params:
    """The weights of a net that is trained on all images at once."""
    base, half = parse(name)
    net, description = run.config.nets[base], describe(run, name)
    directory = folder(run, name, description)
    model, batch = make_model(run.config, base, run.dataset), _batch(run.dataset.train)
    encoder = None
    if _frozen(net):
        encoder = _encoder(run, directory / "autoencoder", description, half)
        units = jax.nn.sigmoid(_units(encoder, batch.images))
        batch = batch._replace(images=units[:, None, None, :])
        model = model.clone(hidden=())
    params = model.init(jax.random.key(_seed(run, half)), batch.images[:1])["params"]
    params = trainings.train(
        directory,
        run.config.full_batch,
        full_batch.classification(model, net.weight_decay),
        params,
        batch,
        description=description,
        title=net.title,
    )
    return params if encoder is None else full_batch.with_first_layer(encoder, params)


@jax.jit
def _units(encoder: Params, images: jax.Array) -> jax.Array:
    first = encoder["Dense_0"]
    return images.reshape(images.shape[0], -1) @ first["kernel"] + first["bias"]


def _encoder(
    run: Run, directory: pathlib.Path, description: dict[str, Any], half: int | None
) -> Params:
    """The weights of the sparse autoencoder below a net, of its first images."""
    section, train = run.config.autoencoder, run.dataset.train
    if section.num_images is not None:
        train = train.take(section.num_images)
    batch = _batch(train)
    model = full_batch.Autoencoder(units=section.units)
    params = model.init(jax.random.key(_seed(run, half)), batch.images[:1])["params"]
    return trainings.train(
        directory,
        section,
        full_batch.sparse_reconstruction(
            model,
            sparsity=section.sparsity,
            sparsity_weight=section.sparsity_weight,
            weight_decay=section.weight_decay,
        ),
        params,
        batch,
        description=description,
        title="autoencoder",
    )


def _stochastic(run: Run, name: str, base: str, half: int | None) -> Net:
    """A target model like those of other runs."""
    config = run.config.copy_and_resolve_references()
    config.target_model, config.seed = base, _seed(run, half)
    if half is not None:
        # Its description does not tell the halves apart, and must not meet the whole.
        config.target_model_dir = str(folder(run, f"half-{half}", describe(run, name)))
    logits_fn = target_model.trained_logits_fn(run._replace(config=config))
    model = models.make_classifier(base, run.dataset.num_classes)
    return Net(name, name, model, logits_fn.args[0])
