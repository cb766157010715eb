"""Models that a name finds: functions of the user's own code, and ONNX files.

| name | model |
|---|---|
| `package.module:function` | what `function()` or `function(weights)` returns |
| `torch:package.module:function` | the PyTorch module that it returns |
| `onnx:PATH` | an ONNX file, by `from_onnx`; it has no gradients |
| `zoo:NAME` | a target model that `zoo.load` returns |

Importing a module executes its code, which is the user's own. `weights` is a path.
"""

import functools
import hashlib
import importlib
import inspect
import logging
import os
import pathlib
import sys
import traceback
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import digest, zoo
from advgan_jax.checks import unknown_name
from advgan_jax.files import one_line
from advgan_jax.interop.onnx import from_onnx
from advgan_jax.interop.pytorch import from_torch
from advgan_jax.logits import as_function, check_inputs, check_logits_fn
from advgan_jax.types import LogitsFn

_log = logging.getLogger(__name__)
_ONNX, _TORCH, _ZOO = "onnx:", "torch:", "zoo:"
_known: dict[tuple[str, str | None], dict[str, str]] = {}


def is_imported(name: str) -> bool:
    """Return whether a model's name is one of this module's, and not a library's."""
    return ":" in name


def identify(
    name: str, weights: str | None = None, *, again: bool = False
) -> dict[str, str]:
    """Return digests of all files of a model that are known.

    They are the weights (or the ONNX file), and the source of the function's module,
    or all Python files of its package. What the function reads otherwise is unknown.

    Args:
      name: see above.
      weights: the path of a file or a folder.
      again: read the files anew; otherwise the digests are those of the first call, to
        which a loaded model belongs.

    Raises:
      FileNotFoundError: if the weights are missing.
      ImportError: if the module cannot be imported.
      ValueError: if the name is wrong, or the source has changed since its import.
    """
    key = (name, weights)
    if not again and key in _known:
        return _known[key]
    found = {}
    if name.startswith((_ONNX, _ZOO)) and weights is not None:
        kind = "An ONNX file" if name.startswith(_ONNX) else "A model of the zoo"
        raise ValueError(
            f"{kind} contains its weights, got the weights {weights}; omit them."
        )
    if name.startswith(_ZOO):
        found["weights"] = zoo.card(name.removeprefix(_ZOO))["digest"]
    elif name.startswith(_ONNX):
        path = pathlib.Path(name.removeprefix(_ONNX))
        _check_exists(path)
        # Large weights lie beside the file, with names that begin with its own.
        found["weights"] = _digest(path.parent.glob(f"{path.name}*"))
    else:
        function = _function(name)
        if weights is not None:
            _check_exists(pathlib.Path(weights))
            found["weights"] = _digest(_files(pathlib.Path(weights), "*"))
        found["source"] = _source(function, _split(name)[0])
        known = _known.get(key, found)
        if known["source"] != found["source"]:
            raise ValueError(
                f"The source of {name} has changed since it was imported; start a new "
                "process."
            )
    _known[key] = found
    return found


def load(name: str, weights: str | None, num_classes: int) -> LogitsFn:
    """Return the model of a name, the same one until its files change.

    Raises:
      ImportError: if the module, PyTorch or ONNX Runtime cannot be imported.
      TypeError: if the function returns no model.
      ValueError: if the function fails or has other arguments.
    """
    return _load(name, weights, num_classes, digest.of_json(identify(name, weights)))


@functools.lru_cache(maxsize=2)
def _load(name: str, weights: str | None, num_classes: int, identity: str) -> LogitsFn:
    del identity  # only distinguishes
    if name.startswith(_ONNX):
        return from_onnx(name.removeprefix(_ONNX), num_classes)
    if name.startswith(_ZOO):
        return zoo.load(name.removeprefix(_ZOO))
    function, given = _function(name), () if weights is None else (weights,)
    _check_arguments(function, name, given)
    try:
        model = function(*given)
    except Exception as error:
        raise ValueError(f"{name} failed: {_describe(error)}") from error
    if not callable(model):
        raise TypeError(
            f"{name} must return a model, a function from images [B, H, W, C] to "
            f"logits, got {type(model).__name__}."
        )
    found: Any = model
    return from_torch(found, num_classes) if name.startswith(_TORCH) else found


def check_model(
    logits_fn: LogitsFn, name: str, images: np.ndarray, num_classes: int
) -> None:
    """Raise `ValueError` unless a model returns finite logits of the known classes."""
    try:
        model = as_function(logits_fn)
        check_inputs(model, images, None, (0.0, 1.0))
        found = check_logits_fn(model, jnp.asarray(images))
    except Exception as error:  # of the user's code
        raise ValueError(f"The model {name} is unusable: {_describe(error)}") from error
    if found != num_classes:
        raise ValueError(
            f"The model {name} must have the {num_classes} classes of the data set, "
            f"got {found}."
        )


def check_predictions(
    name: str, predictions: np.ndarray, before: np.ndarray, labels: np.ndarray
) -> None:
    """Raise `ValueError` unless a model predicts the same classes as before.

    Not all its files are known, and predictions reveal other changes. Warn of a model
    that classifies less than twice as many images as chance, one of `K`.
    """
    if not np.array_equal(before, predictions):
        raise ValueError(
            f"{name} predicts other classes than before for "
            f"{np.sum(before != predictions)} of {len(labels)} test images, though its "
            "known files are the same; start again with --overwrite."
        )
    accuracy = np.mean(predictions == labels)
    if accuracy < 2 / (1 + np.max(labels)):
        _log.warning(
            "The target model %s classifies only %.1f %% of the test images correctly; "
            "does it expect pixels from 0 to 1, and the classes of this data set?",
            name,
            100 * accuracy,
        )


def check_gradients(
    logits_fn: LogitsFn, name: str, image_shape: tuple[int, ...], user: str
) -> None:
    """Raise `ValueError` unless JAX can differentiate a model; nothing is computed."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    try:
        jax.eval_shape(jax.grad(lambda x: jnp.sum(logits_fn(x))), images)
    except Exception as error:
        raise ValueError(
            f"The model {name} has no gradients, and {user} needs them; use "
            "`square`, `transfer`, or the configuration `advgan_blackbox`."
        ) from error


def _split(name: str) -> tuple[str, str]:
    """Return the names of the module and of the function."""
    module, colon, function = name.removeprefix(_TORCH).partition(":")
    words = [*module.split("."), function]
    if not colon or not all(word.isidentifier() for word in words):
        raise ValueError(
            "The name of a model must be `package.module:function`, "
            f"`torch:package.module:function`, `onnx:PATH` or `zoo:NAME`, got {name!r}."
        )
    return module, function


def _function(name: str) -> Any:
    module_name, function = _split(name)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise ImportError(
                f"No module named {missing!r}, which {name!r} names; run in the folder "
                "that contains it, or install it."
            ) from error
        raise ImportError(f"{name} cannot be imported: {_describe(error)}") from error
    if not hasattr(module, function):
        public = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
        raise unknown_name(f"function of {module_name}", function, public)
    found = getattr(module, function)
    if not callable(found):
        raise TypeError(
            f"{name} must be a function that returns a model, got "
            f"{type(found).__name__}."
        )
    return found


def _check_arguments(function: Any, name: str, given: tuple[str, ...]) -> None:
    """Raise `ValueError` if a function cannot be called with the given arguments."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        expected = "the path of the weights" if given else "no argument"
        raise ValueError(
            f"{name} is called with {expected} and must return the model, got the "
            f"signature {signature}; weights are a path, `target_weights`."
        ) from error


def _source(function: Any, module_name: str) -> str:
    """Return the digest of the Python files that a function is known to depend on."""
    module = sys.modules[module_name]
    defining = sys.modules.get(getattr(function, "__module__", ""), module)
    files = {file for one in (module, defining) for file in _module_files(one)}
    if not files:
        raise ValueError(f"The module {module_name} must have a file, got none.")
    return _digest(files)


def _module_files(module: ModuleType) -> list[pathlib.Path]:
    """Return the file of a module, or all Python files of its package."""
    package = sys.modules[module.__name__.split(".")[0]]
    folders = [pathlib.Path(folder) for folder in getattr(package, "__path__", ())]
    if folders:
        return [file for folder in folders for file in folder.rglob("*.py")]
    file = getattr(module, "__file__", None)
    return [pathlib.Path(file)] if file else []


def _files(path: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    return list(path.rglob(pattern)) if path.is_dir() else [path]


def _check_exists(path: pathlib.Path) -> None:
    if not path.is_file() and not (path.is_dir() and any(path.iterdir())):
        raise FileNotFoundError(f"{path} does not exist; expected a model's weights.")


def _digest(paths: Iterable[pathlib.Path]) -> str:
    """Return the digest of the contents of files and, of several, of their names."""
    contents = {}
    for path in sorted(path for path in paths if path.is_file()):
        with path.open("rb") as file:
            contents[path] = hashlib.file_digest(file, "sha256").hexdigest()
    if len(contents) > 1:
        root = os.path.commonpath(contents)
        contents = {os.path.relpath(p, root): one for p, one in contents.items()}
        return digest.of_json(contents)[: digest.SHORT]
    return "".join(contents.values())[: digest.SHORT]


def _describe(error: BaseException) -> str:
    """Return one line about an error in the user's code, with its place."""
    notes = " ".join(n for n in getattr(error, "__notes__", []) if "frames" not in n)
    text = f"{type(error).__name__}: {one_line(error)}"
    # An error in a host function comes with JAX's own words around it.
    inner = [line for line in str(error).splitlines() if "Error: " in line]
    if isinstance(error, jax.errors.JaxRuntimeError) and inner:
        text = inner[-1].strip()
    if isinstance(error, SyntaxError):
        place = f"({error.filename}, line {error.lineno})"
        return f"{type(error).__name__}: {error.msg} {place}"
    *_, frame = traceback.extract_tb(error.__traceback__)
    place = f" ({frame.filename}, line {frame.lineno})"
    own = f"{os.sep}advgan_jax{os.sep}" in frame.filename or "jax" in frame.filename
    return f"{text} {notes}".strip() + ("" if own else place)
