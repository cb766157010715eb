"""Attacks by name, attacks with their hyper-parameters bound, and several as one."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from advgan_jax import checks
from advgan_jax.attacks import criteria
from advgan_jax.attacks._api import keyword_defaults
from advgan_jax.attacks.apgd import apgd
from advgan_jax.attacks.carlini_wagner_l2 import carlini_wagner_l2
from advgan_jax.attacks.carlini_wagner_linf import carlini_wagner_linf
from advgan_jax.attacks.deepfool import deepfool
from advgan_jax.attacks.generator import advgan, aigan
from advgan_jax.attacks.gradient import bim, fgsm, ilcm, mi_fgsm
from advgan_jax.attacks.lbfgs import lbfgs
from advgan_jax.attacks.pgd import pgd
from advgan_jax.attacks.transfer import transfer
from advgan_jax.logits import as_pytree, check_inputs, predict
from advgan_jax.types import Array, Attack, Bounds, LogitsFn

# A new attack is one line here; `make_attack`, the configs and the tests' contract
# know it from then on.
ATTACKS: dict[str, Callable[..., Array]] = {
    "advgan": advgan,
    "aigan": aigan,
    "apgd": apgd,
    "bim": bim,
    "carlini_wagner_l2": carlini_wagner_l2,
    "carlini_wagner_linf": carlini_wagner_linf,
    "deepfool": deepfool,
    "fgsm": fgsm,
    "ilcm": ilcm,
    "lbfgs": lbfgs,
    "mi_fgsm": mi_fgsm,
    "pgd": pgd,
    "transfer": transfer,
}


# An evaluation at several sizes gives each with its call.
_GIVEN_AT_CALL = ("epsilon",)


@dataclass(frozen=True)
class BoundAttack:
    """An attack with some of its hyper-parameters; is itself an `Attack`.

    Attributes:
      name: as in the registry.
      function: the attack.
      hyperparams: what was bound; arguments of a call take precedence.
    """

    name: str
    function: Callable[..., Array]
    hyperparams: Mapping[str, Any]

    def __call__(
        self,
        logits_fn: LogitsFn,
        images: Array,
        labels: Array | None = None,
        **arguments: Any,
    ) -> Array:
        """Runs the attack; see `types.Attack`."""
        merged = {**self.hyperparams, **arguments}
        return self.function(logits_fn, images, labels, **merged)

    @property
    def known(self) -> frozenset[str]:
        """Names of all hyper-parameters that a call takes, `key` and all."""
        return _known(self.function, self.hyperparams)


def make_attack(name: str, **hyperparams: Any) -> BoundAttack:
    """An attack with its hyper-parameters bound.

    Args:
      name: a key of `ATTACKS`.
      **hyperparams: keyword arguments of that attack. Their values are checked when it
        is called.

    Returns:
      A function of the form of `types.Attack`.

    Raises:
      ValueError: for an unknown name; lists the known ones.
      TypeError: for an unknown hyper-parameter, or one that is missing; `epsilon` may
        be given at the call.
    """
    if name not in ATTACKS:
        raise checks.unknown_name("attack", name, ATTACKS)
    function = ATTACKS[name]
    known = _known(function, hyperparams)
    for given in hyperparams:
        if given not in known:
            error = checks.unknown_name(f"argument of {name}", given, known)
            raise TypeError(str(error))
    for required, default in keyword_defaults(function).items():
        if required in _GIVEN_AT_CALL or default is not inspect.Parameter.empty:
            continue
        if required not in hyperparams:
            raise TypeError(f"`{name}` needs the argument `{required}`.")
    return BoundAttack(name, function, MappingProxyType(dict(hyperparams)))


def _known(function: Callable[..., Array], given: Mapping[str, Any]) -> frozenset[str]:
    """Keyword arguments of an attack and of the attack that it passes them on to."""
    if isinstance(function, BoundAttack):
        return function.known
    names = frozenset(keyword_defaults(function))
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        inner = given.get("attack", keyword_defaults(function)["attack"])
        names |= _known(inner, {})
    return names


def worst_case(attacks: Sequence[Attack]) -> Attack:
    """For each image the worst of several attacks.

    Args:
      attacks: as `make_attack` returns them, best with one threat model. They run in
        this order, with keys of their own.

    Returns:
      An attack that keeps for each image the first result that succeeds on the model,
      else the one of least margin. It takes no hyper-parameters.

    Raises:
      ValueError: without attacks.
    """
    attacks = tuple(attacks)
    if not attacks:
        raise ValueError("`attacks` must hold at least one attack, got none.")

    def ensemble(
        logits_fn: LogitsFn,
        images: Array,
        labels: Array | None = None,
        *,
        key: Array | None = None,
        targeted: bool = False,
        bounds: Bounds = (0.0, 1.0),
    ) -> Array:
        """The worst of several attacks on each image; see `worst_case`."""
        logits_fn = as_pytree(logits_fn)
        images, labels = check_inputs(logits_fn, images, labels, bounds)
        if labels is None and not targeted:
            labels = predict(logits_fn, images)
        best = None
        for index, attack in enumerate(attacks):
            own_key = None if key is None else jax.random.fold_in(key, index)
            x = attack(
                logits_fn, images, labels, key=own_key, targeted=targeted, bounds=bounds
            )
            best = _worse(logits_fn, best, x, labels, targeted=targeted)
        return best[0]

    return ensemble


@jax.jit(static_argnames="targeted")
def _worse(logits_fn, best, x, labels, *, targeted):
    """The images, and what the model says of them, that are further along."""
    logits = logits_fn(x)
    succeeded = criteria.succeeded(logits, labels, targeted=targeted)
    left = criteria.margin(logits, labels, targeted=targeted)
    if best is None:
        return x, succeeded, left
    old, old_succeeded, old_left = best
    better = ~old_succeeded & (succeeded | (left < old_left))
    return (
        jnp.where(better[:, None, None, None], x, old),
        succeeded | old_succeeded,
        jnp.where(better, left, old_left),
    )
