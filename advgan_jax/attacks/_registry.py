"""The registry of attacks; functions that bind, check and combine them."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from advgan_jax import checks, losses, tracing
from advgan_jax.attacks._api import keyword_defaults, refuse_unknown
from advgan_jax.attacks._descent import Candidate, keep_first, succeeded
from advgan_jax.attacks._norms import NORMS
from advgan_jax.attacks.apgd import apgd, apgd_targeted
from advgan_jax.attacks.carlini_wagner import carlini_wagner_l2
from advgan_jax.attacks.carlini_wagner_linf import carlini_wagner_linf
from advgan_jax.attacks.ddn import ddn
from advgan_jax.attacks.deepfool import deepfool
from advgan_jax.attacks.ead import DECISIONS, ead
from advgan_jax.attacks.estimates import bandits, nes, spsa
from advgan_jax.attacks.fab import fab, fab_targeted
from advgan_jax.attacks.fmn import fmn
from advgan_jax.attacks.generator import advgan, aigan
from advgan_jax.attacks.gradient import bim, fgsm, ilcm, mi_fgsm, pgd
from advgan_jax.attacks.hop_skip_jump import hop_skip_jump
from advgan_jax.attacks.lbfgs import SOLVERS, lbfgs
from advgan_jax.attacks.rays import rays
from advgan_jax.attacks.signhunter import signhunter
from advgan_jax.attacks.simba import simba
from advgan_jax.attacks.square import square
from advgan_jax.attacks.transfer import AVERAGES, transfer
from advgan_jax.logits import apply, as_function, check_inputs, predict
from advgan_jax.types import Array, Attack, Bounds, LogitsFn

# CONTRIBUTING.md lists what else a new attack needs.
ATTACKS: dict[str, Attack] = {
    "advgan": advgan,
    "aigan": aigan,
    "apgd": apgd,
    "bandits": bandits,
    "apgd_targeted": apgd_targeted,
    "bim": bim,
    "carlini_wagner_l2": carlini_wagner_l2,
    "carlini_wagner_linf": carlini_wagner_linf,
    "ddn": ddn,
    "deepfool": deepfool,
    "ead": ead,
    "fab": fab,
    "fab_targeted": fab_targeted,
    "fgsm": fgsm,
    "hop_skip_jump": hop_skip_jump,
    "fmn": fmn,
    "ilcm": ilcm,
    "lbfgs": lbfgs,
    "mi_fgsm": mi_fgsm,
    "nes": nes,
    "pgd": pgd,
    "rays": rays,
    "signhunter": signhunter,
    "simba": simba,
    "spsa": spsa,
    "square": square,
    "transfer": transfer,
}


# Names that no attack knows are rejected when it is bound; an attack may know fewer.
_CHOICES: dict[str, Collection[str]] = {
    "average": AVERAGES,
    "decision": DECISIONS,
    "loss": losses.ADVERSARIAL_LOSSES,
    "norm": NORMS,
    "solver": SOLVERS,
}
QUERY_ATTACKS = frozenset(n for n, fn in ATTACKS.items() if hasattr(fn, "make_method"))


@dataclass(frozen=True)
class BoundAttack:
    """An `Attack` with some of its hyper-parameters bound.

    Attributes:
      name: as in the registry.
      function: the attack.
      hyperparams: the bound ones; arguments of a call take precedence. Do not change
        the dictionary.
    """

    name: str
    function: Attack
    hyperparams: Mapping[str, Any] = field(hash=False)  # arrays have no hash

    def __call__(
        self,
        logits_fn: LogitsFn,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        **arguments: Any,
    ) -> Array:
        """Run the attack; see `types.Attack`."""
        merged = {**self.hyperparams, **arguments}
        return self.function(logits_fn, images, labels, **merged)

    @property
    def arguments(self) -> dict[str, Any]:
        """All keyword arguments; a required one not bound is `Parameter.empty`."""
        return {**_defaults(self.function, self.hyperparams), **self.hyperparams}

    @property
    def known(self) -> frozenset[str]:
        """Names of all keyword arguments of a call, `key` included."""
        return frozenset(self.arguments)


def make_attack(name: str, **hyperparams: Any) -> BoundAttack:
    """Return an attack with its hyper-parameters bound.

    Args:
      name: a key of `ATTACKS`.
      **hyperparams: keyword arguments of that attack. Names of norms, losses and the
        like are checked now, other values when it is called.

    Returns:
      A function of the form of `types.Attack`.

    Raises:
      ValueError: for an unknown name, also of a norm or a loss; lists the known ones.
      TypeError: for an unknown hyper-parameter, or one that is missing; `epsilon` may
        be given at the call.

    Example:
      >>> import jax.numpy as jnp
      >>> from advgan_jax import attacks
      >>> fgsm = attacks.make_attack("fgsm", epsilon=0.1)
      >>> model = lambda images: images.reshape(-1, 4) @ jnp.array([[1.0, -1.0]] * 4)
      >>> print(fgsm(model, jnp.full((1, 2, 2, 1), 0.5)).ravel())
      [0.4 0.4 0.4 0.4]
    """
    if name not in ATTACKS:
        raise checks.unknown_name("attack", name, ATTACKS)
    function = ATTACKS[name]
    known = _defaults(function, hyperparams)
    # An evaluation at several sizes passes each `epsilon` with its call.
    refuse_unknown(name, known, hyperparams, later=("epsilon",))
    # A function of the caller's, to which `transfer` forwards, may know other names.
    run = hyperparams.get("attack", function)
    ours = getattr(run, "function", run) in ATTACKS.values()
    for argument, choices in _CHOICES.items():
        value, checked = hyperparams.get(argument), ours or argument == "average"
        if checked and isinstance(value, str) and value not in choices:
            raise checks.unknown_name(argument, value, choices)
    return BoundAttack(name, function, dict(hyperparams))


def _defaults(function: Attack, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of an attack and of the one it forwards them to."""
    if isinstance(function, BoundAttack):
        return function.arguments
    own = keyword_defaults(function)
    parameters = inspect.signature(function).parameters.values()
    if "attack" in own and any(p.kind is p.VAR_KEYWORD for p in parameters):
        own = {**_defaults(given.get("attack", own["attack"]), {}), **own}
    return own


def trace_attack(
    attack: Callable[..., Array],
    image_shape: tuple[int, int, int],
    num_classes: int,
    **options: Any,
) -> None:
    """Trace an attack on `image_shape`, so that it raises for wrong hyper-parameters.

    `options` are those of the call, such as `targeted=True`. A model without weights
    replaces the surrogate of an attack that needs one.
    """

    def _logits_fn(images):
        return jnp.zeros((len(images), num_classes)) + jnp.sum(images)

    def _craft(images, labels):
        return attack(_logits_fn, images, labels, key=jax.random.key(0), **options)

    if "surrogate_fn" in getattr(attack, "known", ()):
        options["surrogate_fn"] = _logits_fn
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    jax.eval_shape(_craft, images, jax.ShapeDtypeStruct((1,), jnp.int32))


def worst_case(attacks: Sequence[Attack]) -> Attack:
    """Return the attack that keeps, for each image, the worst of several attacks.

    Args:
      attacks: as `make_attack` returns them, best with one threat model. They run in
        this order, each with its own key.

    Returns:
      An attack without hyper-parameters. It returns for each image the first result
      that succeeds; if none does, the one of least margin.

    Raises:
      ValueError: without attacks.
    """
    attacks = tuple(attacks)
    if not attacks:
        raise ValueError("`attacks` must hold at least one attack, got none.")
    return _WorstCase(attacks)


@dataclass(frozen=True)
class _WorstCase:
    """The attack that `worst_case` returns."""

    attacks: tuple[Attack, ...]

    def __call__(
        self,
        logits_fn: LogitsFn,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        key: Array | None = None,
        targeted: bool = False,
        bounds: Bounds = (0.0, 1.0),
    ) -> Array:
        """Run the attacks; see `types.Attack`."""
        model = as_function(logits_fn)
        images, labels = check_inputs(model, images, labels, bounds)
        if labels is None and not targeted:
            labels = predict(model, images)
        best: Any = None
        for index, attack in enumerate(self.attacks):
            own_key = None if key is None else tracing.fold_in(key, index)
            x = attack(
                logits_fn, images, labels, key=own_key, targeted=targeted, bounds=bounds
            )
            models, found = {"logits_fn": model}, (best, x, labels)
            best = tracing.call(_worse, models, *found, targeted=targeted)
        return best.images


def _worse(models, best, x, labels, *, targeted):
    """Choose between the best so far, which may be None, and `x`."""
    logits = apply(models, x)
    success = succeeded(logits, labels, targeted=targeted)
    margin = losses.logit_margin(logits, labels, targeted=targeted)
    new = Candidate(x, success, margin)
    return new if best is None else keep_first(best, new)
