"""Attacks of this library for Foolbox, ART and plain PyTorch.

`attack` is a bound attack: what `attacks.make_attack` or a trained generator is. The
other library's model becomes a model of images `[B, H, W, C]`. Images are transposed
from `[B, C, H, W]` for the attack, and back.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.checks import optional_library
from advgan_jax.evaluation import takes_epsilon
from advgan_jax.interop.host import call_host, check_logits, from_host, logits_type
from advgan_jax.interop.pytorch import from_torch
from advgan_jax.types import Array, Attack, Bounds, LogitsFn


def as_torch_attack(
    attack: Attack, *, bounds: Bounds = (0.0, 1.0), key: Array | None = None
) -> Callable[..., Any]:
    """Wrap a bound attack as a function of PyTorch models and tensors.

    Args:
      attack: a bound attack.
      bounds: the least and the greatest pixel value.
      key: typed key, for attacks that draw random numbers.

    Returns:
      `adversarial = torch_attack(model, images, labels=None, **hyperparams)`, on
      tensors float32 `[B, C, H, W]` and int `[B]`. The model is a module in evaluation
      mode. Calls with the same module compile once.
    """
    torch = optional_library("torch", "`as_torch_attack`")
    wrap = _wrapping()

    def _torch_attack(
        model: Any, images: Any, labels: Any = None, **hyperparams: Any
    ) -> Any:
        found = attack(
            wrap(model, images),
            _from_tensor(images),
            None if labels is None else labels.cpu().numpy(),
            **_settings(attack, bounds=bounds, key=key),
            **hyperparams,
        )
        return _to_tensor(torch, found, images)

    return _torch_attack


def as_foolbox_attack(attack: Attack, *, key: Array | None = None) -> Any:
    """Wrap a bound attack as a Foolbox attack.

    Args:
      attack: a bound attack. If it takes `epsilon`, Foolbox calls it with each of its
        `epsilons`; otherwise it is a minimisation attack.
      key: typed key, for attacks that draw random numbers.

    Returns:
      A Foolbox attack for its PyTorch models, `[B, C, H, W]`, and its JAX models,
      `[B, H, W, C]`. Bounds are the model's; the criterion is misclassification,
      targeted or not.

    Raises:
      ImportError: if Foolbox is not installed.
    """
    foolbox: Any = optional_library("foolbox", "`as_foolbox_attack`")
    base, eagerpy = (
        foolbox.attacks.base,
        optional_library("eagerpy", "`as_foolbox_attack`"),
    )
    fixed = takes_epsilon(attack)
    wrap = _wrapping()

    class _Attack(base.FixedEpsilonAttack if fixed else base.MinimizationAttack):
        distance = foolbox.distances.linf

        def run(self, model: Any, inputs: Any, criterion: Any, **arguments: Any) -> Any:
            """Attack a batch; Foolbox calls this."""
            size = {"epsilon": arguments["epsilon"]} if fixed else {}
            criterion = base.get_criterion(criterion)
            targeted = hasattr(criterion, "target_classes")
            wanted = criterion.target_classes if targeted else criterion.labels
            logits_fn, images, back = _foolbox_model(model, inputs, wrap)
            settings = _settings(
                attack, bounds=tuple(model.bounds), key=key, targeted=targeted
            )
            labels = np.asarray(getattr(wanted, "raw", wanted))
            found = back(attack(logits_fn, images, labels, **settings, **size))
            return eagerpy.astensor(found) if hasattr(inputs, "raw") else found

    return _Attack()


def _foolbox_model(
    model: Any, inputs: Any, wrap: Callable[[Any, Any], LogitsFn]
) -> tuple[LogitsFn, Any, Callable]:
    """Return a Foolbox model, its images, and how adversarial images go back."""
    inputs = getattr(inputs, "raw", inputs)
    if isinstance(inputs, jax.Array):
        return lambda images: model(images), inputs, lambda found: found
    torch = optional_library("torch", "`as_foolbox_attack`")
    if not isinstance(inputs, torch.Tensor):
        raise TypeError(
            "`as_foolbox_attack` takes PyTorch tensors or JAX arrays, got "
            f"{type(inputs).__name__}."
        )
    # A Foolbox model keeps its module in evaluation mode.
    return (
        wrap(model, inputs),
        _from_tensor(inputs),
        lambda found: _to_tensor(torch, found, inputs),
    )


def as_art_attack(attack: Attack, estimator: Any, *, key: Array | None = None) -> Any:
    """Wrap a bound attack as an ART attack on a classifier.

    Gradients come from the classifier's `class_gradient`; a classifier without one
    suits attacks that need no gradient, such as a trained generator.

    Args:
      attack: a bound attack.
      estimator: an ART classifier that returns logits, with `clip_values`.
      key: typed key, for attacks that draw random numbers.

    Returns:
      An ART `EvasionAttack`: `generate(x, y=None)` takes and returns NumPy images in
      the classifier's layout; `y` are class ids or one-hot rows.

    Raises:
      ImportError: if ART is not installed.
      ValueError: if the classifier has no `clip_values`.
    """
    art: Any = optional_library(
        "art.attacks", "`as_art_attack`", "adversarial-robustness-toolbox"
    )
    if estimator.clip_values is None:
        raise ValueError(
            "The ART classifier must have `clip_values`, the least and the greatest "
            "pixel value, got None."
        )
    low, high = (float(np.min(part)) for part in estimator.clip_values)
    logits_fn = _art_model(estimator)
    first = bool(getattr(estimator, "channels_first", False))

    class _Attack(art.EvasionAttack):
        _estimator_requirements = ()

        def generate(self, x: Any, y: Any = None, **hyperparams: Any) -> Any:
            """Return adversarial images of `x`."""
            images, labels = np.asarray(x, np.float32), y
            if labels is not None and np.ndim(labels) == 2:
                labels = np.argmax(labels, axis=1)
            if first and images.ndim == 4:
                images = np.moveaxis(images, 1, -1)
            settings = _settings(attack, bounds=(low, high), key=key)
            found = np.asarray(
                attack(logits_fn, images, labels, **settings, **hyperparams)
            )
            return np.moveaxis(found, -1, 1) if first and found.ndim == 4 else found

    return _Attack(estimator=estimator)


def _art_model(estimator: Any) -> LogitsFn:
    """Return an ART classifier as a model, with its gradient if it has one."""
    first = bool(getattr(estimator, "channels_first", False))
    num_classes = int(estimator.nb_classes)

    def _theirs(images: Any) -> np.ndarray:
        array = np.array(images)  # a copy, because ART wants to write
        return np.moveaxis(array, -1, 1) if first and array.ndim == 4 else array

    def _predict(images: Any) -> np.ndarray:
        logits = estimator.predict(_theirs(images))
        return check_logits(logits, len(images), num_classes, "The ART classifier")

    def _pull_back(images: Any, cotangent: Any) -> np.ndarray:
        rows = np.asarray(estimator.class_gradient(_theirs(images)), np.float32)
        gradient = np.einsum("bk,bk...->b...", np.asarray(cotangent), rows)
        return (
            np.moveaxis(gradient, 1, -1) if first and gradient.ndim == 4 else gradient
        )

    if not hasattr(estimator, "class_gradient"):
        return from_host(_predict, num_classes, name="The ART classifier")

    @jax.custom_vjp
    def _logits_fn(images: Array) -> Array:
        return call_host(_predict, logits_type(images, num_classes), images)

    def _backward(images: Array, cotangent: Array) -> tuple[Array]:
        return (call_host(_pull_back, jax.typeof(images), images, cotangent),)

    _logits_fn.defvjp(lambda images: (_logits_fn(images), images), _backward)
    return _logits_fn


def _settings(attack: Attack, **values: Any) -> dict[str, Any]:
    """Return the settings without a key if there is none."""
    if "targeted" not in values:
        # A trained generator for one class is targeted by itself.
        wanted = getattr(attack, "target_class", None)
        values["targeted"] = wanted is not None
    if values["key"] is None:
        del values["key"]
    bound = getattr(attack, "hyperparams", {})
    return {name: value for name, value in values.items() if name not in bound}


def _wrapping() -> Callable[[Any, Any], LogitsFn]:
    """Return a function of a PyTorch model and its images to the model in JAX.

    Calls with one model return one function, so that attacks compile once.
    """
    known: dict[str, Any] = {}

    def _wrap(model: Any, images: Any) -> LogitsFn:
        if known.get("model") is not model:
            logits_fn = from_torch(model, _count_classes(model, images))
            known.update(model=model, logits_fn=logits_fn)
        return known["logits_fn"]

    return _wrap


def _count_classes(model: Any, images: Any) -> int:
    """Return the number of logits of a PyTorch model."""
    with optional_library("torch", "`from_torch`").no_grad():
        logits = model(images[:1])
    if getattr(logits, "ndim", 0) != 2:
        raise ValueError(
            "The PyTorch model must return logits of shape (B, K), got "
            f"{tuple(getattr(logits, 'shape', ()))} for one image."
        )
    return int(logits.shape[1])


def _from_tensor(images: Any) -> Array:
    """Return a tensor `[B, C, H, W]` as an array `[B, H, W, C]`, shared if possible."""
    images = images.detach().cpu()
    if images.ndim == 4:
        images = images.permute(0, 2, 3, 1)
    return jnp.from_dlpack(images.contiguous())


def _to_tensor(torch: Any, images: Array, like: Any) -> Any:
    """Return an array `[B, H, W, C]` as a tensor `[B, C, H, W]`, on a device."""
    tensor = torch.from_dlpack(jax.block_until_ready(images))
    if tensor.ndim == 4:
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.to(like.device)
