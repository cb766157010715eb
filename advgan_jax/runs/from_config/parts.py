"""What every run is made of: optimisers, plans, attacks, and what identifies it."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.attacks import BoundAttack, make_attack
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.runs.from_config.precision import DEFAULT_DTYPE
from advgan_jax.training import fit
from advgan_jax.types import Attack

OPTIMIZERS = ("adam", "sgd")
UNDEFENDED = "none"  # the defence of most target models


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


def training_plan(section: ConfigDict, dataset: Dataset) -> fit.Plan:
    """How long to train.

    Args:
      section: `config.target_training` or `config.training`.
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
    return fit.Plan(
        len(dataset.train), section.batch_size, section.num_epochs, steps_per_call
    )


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


def plain(config: ConfigDict) -> dict[str, Any]:
    """The configuration as JSON values, placeholders resolved to None.

    Of the defences of a target model only the chosen one is told, and none where none
    is chosen; a `compute_dtype` only where it is not the default. What was made before
    there was a choice is still found by its fingerprint. Where there are defences and
    nothing chooses, as in a part of a target's settings, all are told. What nobody set
    of the chosen one's attack and training is not told either.
    """
    return _told(json.loads(json.dumps(config.to_dict())))


def _told(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "defence" in value and "defences" in value:
        chosen, known = value["defence"], value["defences"]
        value = {k: v for k, v in value.items() if k not in ("defence", "defences")}
        if chosen != UNDEFENDED:
            value |= {"defence": chosen, "defences": {chosen: _set(known.get(chosen))}}
    if value.get("compute_dtype") == DEFAULT_DTYPE:
        value = {k: v for k, v in value.items() if k != "compute_dtype"}
    return {key: _told(item) for key, item in value.items()}


def _set(defence: Any) -> Any:
    """A defence's settings without those of its parts that nobody chose."""
    if not defence:
        return defence
    return defence | {name: given(defence[name]) for name in ("attack", "training")}


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that somebody chose, without those that are None."""
    return {name: value for name, value in settings.items() if value is not None}


def fingerprint(values: Any) -> str:
    """Eight hexadecimal digits that stand for some JSON values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def target_model_description(config: ConfigDict) -> dict[str, Any]:
    """All of a configuration that decides what a target model becomes.

    How many devices share the work decides it too, by rounding and by the draws of
    dropout, but any such model is as good.
    """
    values = plain(config)
    for pace in ("epochs_per_checkpoint", "steps_per_call"):
        del values["target_training"][pace]
    if values["target_training"]["num_images"] is None:
        del values["target_training"]["num_images"]
    for settings in values["target_training"].get("defences", {}).values():
        # What a defence trains in another way than `target` says is told once.
        own = settings["training"]
        if "sources" not in settings:
            values["target_training"] = {
                k: v for k, v in values["target_training"].items() if k not in own
            }
    keys = ("dataset", "target_model", "target_training", "seed")
    return {"method": "target_model", **{key: values[key] for key in keys}}


def trace_attack(
    attack: Attack, image_shape: tuple[int, int, int], num_classes: int, **options: Any
) -> None:
    """Refuses hyper-parameters that an attack would refuse in a training's first step.

    Args:
      attack: bound; is traced on one image, and not run.
      image_shape: (H, W, C).
      num_classes: K.
      **options: of the call, `targeted=True` say.

    Raises:
      TypeError: what the attack raises.
      ValueError: likewise.
    """

    def logits_fn(images):
        return jnp.zeros((len(images), num_classes)) + jnp.sum(images)

    def craft(images, labels):
        return attack(logits_fn, images, labels, key=jax.random.key(0), **options)

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    jax.eval_shape(craft, images, jax.ShapeDtypeStruct((1,), jnp.int32))
