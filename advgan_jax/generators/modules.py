"""Modules of generators as JSON values: describe one, build it again, check weights."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import models
from advgan_jax.types import Params

_MODULES = {
    module.__name__: module
    for module in (models.Generator, models.ConditionalGenerator)
}


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Return the class and the fields of a generator's module as JSON values.

    A class of another library has its full name; a field that JSON cannot hold is text.
    """
    kind = type(module)
    own = _MODULES.get(kind.__name__) is kind
    fields = {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name")
    }
    name = kind.__name__ if own else f"{kind.__module__}.{kind.__qualname__}"
    return json.loads(json.dumps({"class": name, **fields}, default=repr))


def build_module(
    described: Mapping[str, Any], given: nn.Module | None, where: str
) -> nn.Module:
    """Return `given` if it matches the description, or build the module it names.

    Raises:
      ValueError: if the description is another one, or of a class that is not given.
    """
    if given is not None:
        if describe_module(given) != described:
            raise ValueError(
                f"{where} holds a generator of the module {dict(described)}, got "
                f"{describe_module(given)}; pass the module of its training."
            )
        return given
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in described.items()
    }
    name = fields.pop("class")
    if name not in _MODULES:
        raise ValueError(
            f"{where} holds a generator of the class {name}, which is not of this "
            "library; pass `module`, an equal one."
        )
    return _MODULES[name](**fields)


def check_params(
    module: nn.Module,
    params: Params,
    image_shape: tuple[int, int, int],
    conditional: bool,
    where: str,
) -> None:
    """Raise `ValueError` unless weights are finite and have the module's shapes."""
    inputs = [jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)]
    if conditional:
        inputs.append(jax.ShapeDtypeStruct((1,), jnp.int32))
    variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    wanted = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables["params"])
    found = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    if wanted != found:
        raise ValueError(
            f"{where} holds weights of other shapes than those of its module "
            f"{describe_module(module)}; it was saved by other code."
        )
    for path, leaf in jax.tree.leaves_with_path(params):
        if not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(
                f"{where} holds weights that are not finite "
                f"({jax.tree_util.keystr(path)}); train the generator again."
            )
