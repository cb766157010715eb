"""A trained generator with all that it needs, as a pytree and an attack."""

import dataclasses
import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import flax.linen as nn
import jax
import numpy as np
from jax.typing import ArrayLike

from advgan_jax import tracing
from advgan_jax.checks import (
    as_images,
    check_at_least,
    check_bounds,
    check_image_axes,
    check_labels,
    is_concrete,
    is_jax,
)
from advgan_jax.cpu.loops import in_blocks
from advgan_jax.generators import exporting, files
from advgan_jax.generators.modules import build_module, check_params, describe_module
from advgan_jax.generators.record import Note, TrainedOn
from advgan_jax.projections import perturb
from advgan_jax.types import Array, Bounds, LogitsFn, Params, Scalar

_FIELDS = ("epsilon", "target_class", "num_classes", "image_shape", "bounds")


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class TrainedGenerator:
    r"""Perturb images by a trained generator; an `Attack`, and a pytree of its weights.

    .. math:: x_A = \mathrm{clip}(x + s\,G((x - l) / s),\ \max(x - \epsilon, l),\
        \min(x + \epsilon, h)), \qquad s = h - l

    Attributes:
      module: G, a Flax module. It maps images `[B, H, W, C]` in [0, 1] to perturbations
        of this shape; a conditional one maps `(images, wanted classes [B])`.
      params: the weights of `module`.
      epsilon: L-infinity bound of the training, in pixel units of `bounds`.
      image_shape: (H, W, C) in the training.
      num_classes: K.
      target_class: the class that it was trained to reach; None for untargeted, and for
        a conditional generator.
      bounds: l and h, the least and the greatest pixel value in the training.
      conditional: whether G takes the wanted classes, as AI-GAN's does.
      trained_on: a record of the training.
    """

    module: nn.Module
    params: Params = dataclasses.field(repr=False)
    epsilon: float
    image_shape: tuple[int, int, int]
    num_classes: int
    target_class: int | None = None
    bounds: Bounds = (0.0, 1.0)
    conditional: bool = False
    trained_on: TrainedOn = dataclasses.field(default_factory=TrainedOn)

    def __call__(
        self,
        logits_fn: LogitsFn | None,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        key: Array | None = None,
        epsilon: Scalar | None = None,
        targeted: bool = False,
        bounds: Bounds | None = None,
    ) -> Array:
        """Attack images; see `types.Attack`.

        Args:
          logits_fn: not used, and may be None.
          images: float32 `[B, H, W, C]` within `bounds`.
          labels: the wanted classes, int `[B]`, which a conditional generator needs.
            Others only check them.
          key: not used.
          epsilon: bound of the perturbation; above that of the training, the default,
            it changes nothing.
          targeted: True for a generator that was trained to reach classes.
          bounds: of these images; by default those of the training. Other bounds scale
            images, perturbation and the default `epsilon`.

        Raises:
          ValueError: for a call that the generator was not trained for, or wrong images
            or classes.
          TypeError: for a wrong dtype.
        """
        del logits_fn, key
        self._check_aim(labels, targeted)
        return self._perturb(images, labels, epsilon, bounds)

    def perturb(
        self,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        epsilon: Scalar | None = None,
        bounds: Bounds | None = None,
    ) -> Array:
        """Return adversarial images, without a model.

        Args:
          images: float32 `[B, H, W, C]` within `bounds`.
          labels: the wanted classes, int `[B]`, of a conditional generator; None for
            any other one.
          epsilon: see `__call__`, also for errors.
          bounds: of these images, see `__call__`.
        """
        if labels is not None and not self.conditional:
            raise ValueError(
                "`labels` are wanted classes, which only a conditional generator "
                "takes; omit them, or train one by `train_aigan`."
            )
        return self._perturb(images, labels, epsilon, bounds)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the weights (safetensors) and all else (JSON) into a new folder.

        Raises:
          FileExistsError: if the folder exists and is not empty.
        """
        files.save(folder, self.to_record(), self.params)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, module: nn.Module | None = None
    ) -> Self:
        """Read a generator that `save` wrote.

        No pickle is loaded and no code is executed: pass the `module` of your own class
        (default: the library's, built from the saved fields).

        Raises:
          FileNotFoundError: if a file is missing.
          ValueError: if a file is damaged or changed, or belongs to another module.
        """
        record, params = files.load(folder)
        return cls.from_record(record, params, module=module, where=str(folder))

    def export(self, path: str | os.PathLike[str], format: str = "stablehlo") -> None:
        """Write a program that runs without this library, for batches of any size.

        The program maps float32 images `[B, H, W, C]` within `bounds`, and the wanted
        classes int32 `[B]` of a conditional generator, to adversarial images.

        Args:
          path: a new file.
          format: `stablehlo`, which `jax.export.deserialize` reads, or `onnx`.

        Raises:
          FileExistsError: if the path exists.
          ImportError: if a package is missing; contains the commands to install it.
          ValueError: if the format is unknown.
        """
        exporting.export(self, path, format)

    def tree_flatten(self) -> tuple[tuple[Params], tuple[Any, ...]]:
        """Return the weights, and what is compiled into a program."""
        names = [field.name for field in dataclasses.fields(self)]
        static = (getattr(self, name) for name in names if name != "params")
        *static, trained_on = static
        return (self.params,), (*static, Note(trained_on))

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], children: tuple[Params]) -> Self:
        """Undo `tree_flatten`."""
        module, *rest, note = static
        make: Any = cls
        return make(module, children[0], *rest, note.value)

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any],
        params: Params,
        *,
        module: nn.Module | None = None,
        where: str = "the record",
    ) -> Self:
        """Build a generator from JSON values; errors name the file `where`."""
        module = build_module(record["generator"], module, where)
        values = {name: record[name] for name in _FIELDS}
        for name in ("image_shape", "bounds"):
            values[name] = tuple(values[name])
        generator = cls(
            module,
            params,
            **values,
            conditional=record["conditional"],
            trained_on=TrainedOn(**record["trained_on"]),
        )
        check_params(
            module, params, generator.image_shape, generator.conditional, where
        )
        return generator

    def to_record(self) -> dict[str, Any]:
        """Return everything but the weights, as JSON values for `from_record`."""
        return {
            "generator": describe_module(self.module),
            **{name: getattr(self, name) for name in _FIELDS},
            "conditional": self.conditional,
            "trained_on": dataclasses.asdict(self.trained_on),
        }

    def _check_aim(self, labels: ArrayLike | None, targeted: bool) -> None:
        """Raise `ValueError` unless the call aims at the classes of the training."""
        aims = self.conditional or self.target_class is not None
        if targeted != aims:
            kind, cure = "untargeted", "omit it"
            if aims:
                kind, cure = "targeted", "pass `targeted=True` and the wanted classes"
            raise ValueError(
                f"This generator was trained {kind}, got targeted={targeted}; {cure}, "
                "or load another generator."
            )
        if labels is None or self.target_class is None or not is_concrete(labels):
            return
        others = np.setdiff1d(np.asarray(labels), self.target_class)
        if others.size:
            raise ValueError(
                f"This generator was trained to reach class {self.target_class}, got "
                f"label {others[0]}; it can reach no other class."
            )

    def _perturb(
        self,
        images: Any,
        labels: Any,
        epsilon: Any,
        bounds: Bounds | None,
    ) -> Array:
        """Check the arguments, and perturb images within `bounds`."""
        bounds = self.bounds if bounds is None else check_bounds(bounds)
        images = as_images(images, bounds)
        check_image_axes(images)
        if images.shape[-1] != self.image_shape[-1]:
            raise ValueError(
                f"`images` must have the {self.image_shape[-1]} channels of the "
                f"training, got shape {images.shape}."
            )
        if labels is not None:
            labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
            check_labels(labels, images.shape[0], self.num_classes)
        elif self.conditional:
            raise ValueError(
                "A conditional generator needs `labels`, the wanted classes of shape "
                f"({images.shape[0]},), got None."
            )
        if epsilon is None:
            (low, high), (own_low, own_high) = bounds, self.bounds
            epsilon = self.epsilon * ((high - low) / (own_high - own_low))
        check_at_least("epsilon", epsilon, 0)
        size = epsilon if is_jax(epsilon) else np.asarray(epsilon)
        arrays: list[Any] = [images, size.astype(images.dtype)]
        if labels is not None and self.conditional:
            arrays.append(labels.astype(np.int32))
        images, size, *wanted = map(tracing.on_device, arrays)
        return _perturb(self.module, self.params, images, tuple(wanted), size, bounds)


@partial(jax.jit, static_argnames=("module", "bounds"), inline=True)
def _perturb(
    module: nn.Module,
    params: Params,
    images: Array,
    labels: tuple[Array, ...],
    epsilon: Array,
    bounds: Bounds,
) -> Array:
    low, scale = bounds[0], bounds[1] - bounds[0]
    in_unit = bounds == (0.0, 1.0)  # keeps every bit

    def _generate(images: Array, *labels: Array) -> Array:
        unit = images if in_unit else (images - low) / scale
        found: Any = module.apply({"params": params}, unit, *labels)
        return (found if in_unit else scale * found).astype(images.dtype)

    found = in_blocks(_generate, images, *labels)
    return jax.lax.stop_gradient(perturb(images, found, epsilon, bounds))
