"""Digests of arrays and of JSON values, which reveal that a copy has changed.

A digest is a SHA-256 sum in hexadecimal. It does not depend on the process, the device
or the library's version. Two gigabytes take about a second.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SHORT = 16  # digits of a digest that stands in a file name or a message


def of_array(array: Any) -> str:
    """Return the digest of an array's dtype, shape and values.

    Args:
      array: numpy or JAX array of any shape and dtype, also of typed keys.
    """
    kind = ""
    if isinstance(array, jax.Array) and jnp.issubdtype(
        array.dtype, jax.dtypes.prng_key
    ):
        kind, array = str(array.dtype), jax.random.key_data(array)
    values = np.asarray(array)
    found = hashlib.sha256(f"{kind}{values.dtype.name}{values.shape}".encode())
    plain: Any = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    found.update(plain)
    return found.hexdigest()


def of_arrays(tree: Any) -> dict[str, str]:
    """Return the digest of each array of a pytree by its path, such as `model/step`."""
    return {name: of_array(leaf) for name, leaf in named_leaves(tree)}


def named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over the paths and the leaves of a pytree.

    A dictionary with the names of a state's fields has the same paths as the state.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def of_json(value: Any) -> str:
    """Return the digest of JSON values; the order of keys does not matter."""
    loaded = json.loads(json.dumps(value))  # with text as keys
    return hashlib.sha256(json.dumps(loaded, sort_keys=True).encode()).hexdigest()


def program_text(fn: Callable[..., Any], *arguments: Any) -> str:
    """Return the program that JAX traces, as text without addresses in memory."""
    return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(fn)(*arguments)))


def seal(value: Any) -> dict[str, Any]:
    """Return JSON values together with their digest, for `unseal`."""
    return {"digest": of_json(value), "value": value}


def unseal(sealed: Any) -> Any:
    """Return the sealed values; `ValueError` if they are not those of `seal`."""
    if not isinstance(sealed, Mapping) or set(sealed) != {"digest", "value"}:
        raise ValueError("it has no digest, or more than one value")
    if sealed["digest"] != of_json(sealed["value"]):
        raise ValueError("its digest does not match")
    return sealed["value"]
