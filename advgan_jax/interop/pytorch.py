"""PyTorch models as models of JAX programs, with gradients."""

import collections
import concurrent.futures
import importlib
import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.checks import optional_library, unknown_name
from advgan_jax.interop.host import (
    call_host,
    check_logits,
    check_num_classes,
    direct,
    logits_type,
)
from advgan_jax.interop.preprocessing import check_layout, preprocessed, to_layout
from advgan_jax.types import Array, LogitsFn

_BACKENDS = ("callback", "torchax")
_KEPT_GRAPHS = 4


def from_torch(
    module: Callable[..., Any],
    num_classes: int,
    *,
    layout: str = "NCHW",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    backend: str = "callback",
) -> LogitsFn:
    """Wrap a PyTorch model as a JAX model with gradients, under `jit` and `vmap`.

    PyTorch computes logits and gradients with the weights that the module has at the
    time of the call. Arrays of a CPU are shared with it, without a copy.

    Args:
      module: a `torch.nn.Module` in evaluation mode, or a function of tensors; it maps
        `[B, C, H, W]`, float32, to logits `[B, K]`. It stays on its device.
      num_classes: K.
      layout: the layout of its input, `NCHW` or `NHWC`.
      mean: of the normalisation, as in `preprocessed`; None if the module normalises.
      std: likewise.
      backend: `callback` calls PyTorch from the compiled program; best on a CPU.
        `torchax` translates the module into a JAX program, for accelerators: it copies
        the weights, so later changes of the module have no effect.

    Returns:
      The model, `[B, H, W, C] -> [B, K]` float32 logits.

    Raises:
      ImportError: if PyTorch, or torchax with a PyTorch that it supports, is missing.
      TypeError: if the module cannot be called.
      ValueError: if it is in training mode or an argument is wrong; when called, if it
        returns another shape than `[B, K]`.
    """
    check_layout(layout)
    check_num_classes(num_classes)
    if backend not in _BACKENDS:
        raise unknown_name("backend", backend, _BACKENDS)
    if not callable(module):
        raise TypeError(
            "`module` must be a PyTorch module or a function of tensors, got "
            f"{type(module).__name__}."
        )
    _check_mode(module)
    if backend == "torchax":
        logits_fn = _translate(module, layout)
    else:
        logits_fn = _callback(_shared(module, num_classes, layout))
    if mean is None and std is None:
        return logits_fn
    return preprocessed(logits_fn, mean=mean, std=std)


def _check_mode(module: Any) -> None:
    """Raise `ValueError` if a part of a module is in training mode."""
    parts = module.modules() if hasattr(module, "modules") else ()
    if any(part.training for part in parts):
        raise ValueError(
            "The PyTorch module must be in evaluation mode, got training mode: dropout "
            "and batch norm would change its answers; call `module.eval()`."
        )


def _shared(module: Any, num_classes: int, layout: str) -> "_TorchModel":
    """Return one object for each module, so that attacks on it compile once."""
    key = (id(module), num_classes, layout)
    with _lock:
        model = _models.get(key)
        if model is None:
            model = _models[key] = _TorchModel(module, num_classes, layout)
    return model


def _callback(model: "_TorchModel") -> LogitsFn:
    """Return a JAX function that calls PyTorch forward and backward."""

    @jax.custom_vjp
    def _logits_fn(images: Array) -> Array:
        _check_mode(model.module)
        return call_host(model.forward, logits_type(images, model.num_classes), images)

    def _forward(images: Array) -> tuple[Array, tuple[Array, Array]]:
        _check_mode(model.module)
        ticket_type = jax.ShapeDtypeStruct((), jnp.int32)
        types = (logits_type(images, model.num_classes), ticket_type)
        logits, ticket = call_host(model.forward_with_graph, types, images)
        return logits, (images, ticket)

    def _backward(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array]:
        images, ticket = kept
        inputs = (images, ticket, cotangent)
        return (call_host(model.backward, jax.typeof(images), *inputs),)

    def _now(images: Any) -> np.ndarray:
        _check_mode(model.module)
        return model.forward(images)

    _logits_fn.defvjp(_forward, _backward)
    return direct(_now, _logits_fn)


class _TorchModel:
    """A PyTorch model of NumPy images `[B, H, W, C]`.

    A forward pass with a graph returns a ticket. The backward pass with this ticket
    uses the graph and frees it; without one it computes forward again. So a program
    that XLA reorders, repeats or shortens gets right gradients all the same.
    """

    def __init__(self, module: Callable[..., Any], num_classes: int, layout: str):
        self.torch = optional_library("torch", "`from_torch`")
        self.module, self.num_classes, self.layout = module, num_classes, layout
        self._graphs: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._tickets = itertools.count()
        self._lock = threading.Lock()
        # XLA calls from many threads; each would start PyTorch's own threads again.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "torch")

    def forward(self, images: Any) -> np.ndarray:
        """Return the logits `[B, K]`, float32."""
        return self._thread.submit(self._forward, images, False).result()[0]

    def forward_with_graph(self, images: Any) -> tuple[np.ndarray, np.int32]:
        """Return the logits and the ticket of their graph."""
        logits, graph = self._thread.submit(self._forward, images, True).result()
        with self._lock:
            ticket = next(self._tickets) % 2**31
            self._graphs[ticket] = graph
            while len(self._graphs) > _KEPT_GRAPHS:
                self._graphs.popitem(last=False)
        return logits, np.int32(ticket)

    def backward(self, images: Any, ticket: Any, cotangent: Any) -> np.ndarray:
        """Return the gradient `[B, H, W, C]` of `sum(logits * cotangent)`."""
        with self._lock:
            graph = self._graphs.pop(int(ticket), None)
        return self._thread.submit(self._backward, images, graph, cotangent).result()

    def _forward(self, images: Any, with_graph: bool) -> tuple[np.ndarray, Any]:
        torch = self.torch
        leaf = self._tensor(images).requires_grad_(with_graph)
        before = leaf._version
        with torch.set_grad_enabled(with_graph):
            inputs = leaf
            if self.layout == "NCHW" and leaf.ndim == 4:
                inputs = leaf.permute(0, 3, 1, 2)  # a view, in PyTorch's channels_last
            logits = self.module(inputs)
        if leaf._version != before:
            raise ValueError(
                "The PyTorch model changes its input in place, an array that JAX also "
                "uses; let it work on a copy."
            )
        if not isinstance(logits, torch.Tensor):
            raise ValueError(
                "The PyTorch model must return a tensor of logits, got "
                f"{type(logits).__name__}."
            )
        values = logits.detach().to("cpu", torch.float32).numpy()
        checked = check_logits(
            values, len(images), self.num_classes, "The PyTorch model"
        )
        return checked, (leaf, logits)

    def _backward(self, images: Any, graph: Any, cotangent: Any) -> np.ndarray:
        leaf, logits = graph or self._forward(images, True)[1]
        wanted = self._tensor(cotangent).to(logits.dtype)
        (gradient,) = self.torch.autograd.grad(logits, leaf, wanted)
        return gradient.to("cpu", self.torch.float32).contiguous().numpy()

    def _tensor(self, array: Any) -> Any:
        """Return an array as a tensor of the model's device and dtype."""
        tensor = self.torch.from_dlpack(np.asarray(array))
        for parameter in getattr(self.module, "parameters", tuple)():
            return tensor.to(parameter.device, parameter.dtype)
        return tensor


# An entry, and its module's id, last as long as a function or a program uses the model.
_models: weakref.WeakValueDictionary[Any, _TorchModel] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _translate(module: Any, layout: str) -> LogitsFn:
    """Translate a module into a JAX function by torchax."""
    try:
        torchax = importlib.import_module("torchax")
    except Exception as error:
        raise ImportError(
            "`backend='torchax'` needs torchax and a PyTorch that it supports: "
            f"python -m pip install {_TORCHAX}. It could not be imported: {error}"
        ) from error
    weights, fn = torchax.extract_jax(module)
    return lambda images: fn(weights, (to_layout(images, layout),))


_TORCHAX = "torchax==0.0.13 torch==2.12.0"
