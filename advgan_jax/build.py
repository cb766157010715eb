"""From a configuration to objects; with `runs`, the only reader of configurations."""

import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from advgan_jax import build_gans, models, parallel
from advgan_jax.attacks import BoundAttack, generator_attack, make_attack
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.training import advgan, loop
from advgan_jax.training.advgan import Networks, Objective
from advgan_jax.types import Attack

OPTIMIZERS = ("adam", "sgd")


def make_optimizer(section: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """A classifier's optimiser, its learning rate falling to zero along a cosine.

    Args:
      section: `optimizer`, `learning_rate` and `weight_decay`.
      num_steps: of the whole run.

    Returns:
      Adam, or SGD with Nesterov momentum 0.9; weight decay is added to the gradient.

    Raises:
      ValueError: for an unknown optimiser; lists the known ones.
    """
    if section.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", section.optimizer, OPTIMIZERS)
    schedule = optax.cosine_decay_schedule(section.learning_rate, max(num_steps, 1))
    if section.optimizer == "adam":
        rule = optax.adam(schedule)
    else:
        rule = optax.sgd(schedule, momentum=0.9, nesterov=True)
    return optax.chain(optax.add_decayed_weights(section.weight_decay), rule)


def advgan_networks(config: ConfigDict, num_steps: int) -> Networks:
    """Generator, discriminator and their optimisers.

    Args:
      config: the run's; reads `epsilon`, `generator` and `discriminator`.
      num_steps: of the whole run; both learning rates fall to zero along a cosine.

    Returns:
      What `training.advgan` trains.

    Raises:
      ValueError: if there are not three widths.
    """
    build_gans.check_widths(config.generator)
    return Networks(
        models.Generator(
            epsilon=config.epsilon,
            widths=tuple(config.generator.widths),
            num_residual=config.generator.num_residual,
        ),
        models.Discriminator(widths=tuple(config.discriminator.widths)),
        build_gans.adam(config.generator, num_steps),
        build_gans.adam(config.discriminator, num_steps),
    )


def advgan_objective(config: ConfigDict, num_classes: int) -> Objective:
    """AdvGAN's losses, weights and bounds, checked.

    Args:
      config: the run's; reads `epsilon`, `target_class` and `loss`.
      num_classes: K.

    Returns:
      What `training.advgan` minimises.

    Raises:
      ValueError: if a bound is negative, a loss unknown, or there is no such class.
    """
    target = config.target_class
    if target is not None and not 0 <= target < num_classes:
        raise ValueError(
            f"`target_class` must be in [0, {num_classes}), got {target}; "
            "leave it out for an untargeted attack."
        )
    objective = Objective(target_class=target, **build_gans.objective_fields(config))
    # Refuses what is unknown or does not fit together.
    advgan.make_adversarial_loss(objective)
    return objective


def registry_name(config: ConfigDict, name: str) -> str:
    """The registry's name of an attack that a configuration calls `name`."""
    section = config.attacks[name]
    return section.kind if "kind" in section else name


def bound_attack(config: ConfigDict, name: str, **networks: Any) -> BoundAttack:
    """An attack with the hyper-parameters of its section of `config.attacks`.

    Args:
      config: the run's.
      name: of the section.
      **networks: arguments that no configuration can hold.

    Returns:
      The attack, bound.

    Raises:
      ValueError: for an unknown attack; lists the known ones.
      TypeError: for an unknown hyper-parameter, or one that is missing.
    """
    hyperparams = dict(plain(config.attacks[name]))
    hyperparams.pop("kind", None)
    kind = registry_name(config, name)
    return make_attack(kind, **hyperparams, **networks)


def training_plan(section: ConfigDict, dataset: Dataset) -> loop.Plan:
    """How long to train.

    Args:
      section: `config.target` or `config.training`.
      dataset: whose training split is used.

    Returns:
      The plan.

    Raises:
      ValueError: if a number is out of range.
    """
    steps_per_call = section.steps_per_call
    if steps_per_call is None:
        steps_per_call = parallel.default_steps_per_call()
    check_at_least("epochs_per_checkpoint", section.epochs_per_checkpoint, 1)
    return loop.Plan(
        len(dataset.train), section.batch_size, section.num_epochs, steps_per_call
    )


def plain(config: ConfigDict) -> dict[str, Any]:
    """The configuration as JSON values, placeholders resolved to None."""
    return json.loads(json.dumps(config.to_dict()))


def fingerprint(values: Any) -> str:
    """Eight hexadecimal digits that stand for some JSON values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def target_description(config: ConfigDict) -> dict[str, Any]:
    """All of a configuration that decides what a target model becomes.

    How many devices share the work decides it too, by rounding and by the draws of
    dropout, but any such model is as good.
    """
    values = plain(config)
    for pace in ("epochs_per_checkpoint", "steps_per_call"):
        del values["target"][pace]
    if values["target"]["num_images"] is None:
        del values["target"]["num_images"]
    keys = ("dataset", "target_model", "target", "seed")
    return {"method": "target", **{key: values[key] for key in keys}}


def load_generator(path: str | os.PathLike[str]) -> Attack:
    """A trained generator as an attack, from a run's checkpoints.

    Args:
      path: the workdir of an AdvGAN or AI-GAN run.

    Returns:
      An attack: `attack(logits_fn, images, labels, epsilon=0.3)`. Its bound is the one
      of training unless the call says otherwise; a generator trained for one class is
      called with `targeted=True`, and so is AI-GAN's, with any wanted classes.

    Raises:
      FileNotFoundError: if there is no checkpoint.
      ValueError: if none is whole, or it is not one of a generator.
    """
    # Opening would make the folder, and a mistyped path look like an empty run.
    directory = pathlib.Path(path) / "checkpoints"
    if not directory.is_dir():
        raise FileNotFoundError(
            f"No checkpoints in {directory}; expected the workdir of an AdvGAN or "
            "AI-GAN run."
        )
    with Checkpoints(directory) as checkpoints:
        run = checkpoints.describe()
        if "image_shape" not in run:
            raise ValueError(
                f"{path} holds a {run.get('method', 'run of another kind')}, no "
                "generator; expected the workdir of an AdvGAN or AI-GAN run."
            )
        config = ConfigDict(run["config"])
        if config.method == "aigan":
            num_classes = run["num_classes"]
            like = build_gans.aigan_like(config, num_classes, run["image_shape"])
            state = checkpoints.restore(like)
            return build_gans.bind_aigan(state, config, num_classes)
        networks = advgan_networks(config, num_steps=1)
        like = jax.eval_shape(
            lambda: advgan.init_state(
                networks, jax.random.key(0), tuple(run["image_shape"])
            )
        )
        state = checkpoints.restore(like)
    return bind_generator(networks, state, config)


def bind_generator(
    networks: Networks, state: advgan.AdvGANState, config: ConfigDict
) -> Attack:
    """The generator of a state as an attack.

    Args:
      networks: the modules.
      state: trained or in training.
      config: the run's; reads `epsilon` and `target_class`.

    Returns:
      An attack like all others.
    """
    return generator_attack(
        advgan.make_generator_fn(networks.generator),
        state.generator.params,
        epsilon=config.epsilon,
        target_class=config.target_class,
    )
