"""The type and the range of every setting of a configuration, in one table.

`check_settings` compares a whole configuration with the table. It needs no data and no
model, so a wrong number is rejected before anything is loaded, written or trained. What
depends on the data or on two settings together is checked where it is used.
"""

import contextlib
import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from advgan_jax.attacks import ATTACKS
from advgan_jax.attacks.lbfgs import SOLVERS
from advgan_jax.attacks.transfer import AVERAGES
from advgan_jax.checks import LARGEST_SEED, unknown_name
from advgan_jax.losses import ADVERSARIAL_LOSSES, GAN_LOSSES
from advgan_jax.models import CLASSIFIERS
from advgan_jax.oracles.answers import ANSWERS
from advgan_jax.parallel import MODES
from advgan_jax.training.blackbox import CHOICES, DISTILLATIONS
from advgan_jax.training.precision import COMPUTE_DTYPES

OPTIMIZERS = ("adam", "sgd")
UNDEFENDED = "none"  # the defence of most target models
DEFENCES = ("adv", "ensemble", "iterative", "trades")
NORMS = ("l1", "l2", "linf")
# No training of these sizes ends within a human life.
_MOST = 10**9


class Rule(NamedTuple):
    """What a setting may be.

    Attributes:
      expected: in words.
      accepts: whether a value is right.
      names: the accepted names; empty for a setting of another kind.
    """

    expected: str
    accepts: Callable[[Any], bool]
    names: tuple[str, ...] = ()


def integer(least: int, most: int = _MOST) -> Rule:
    """Accept an integer in a closed range."""

    def _accepts(value: Any) -> bool:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        return is_integer and least <= value <= most

    expected = f">= {least}" if most == _MOST else f"from {least} to {most}"
    return Rule(f"an integer {expected}", _accepts)


def number(
    least: float, most: float = math.inf, *, but: tuple[float, ...] = ()
) -> Rule:
    """Accept a finite number in a closed range, but for some of its ends."""

    def _accepts(value: Any) -> bool:
        is_real = isinstance(value, int | float) and not isinstance(value, bool)
        return (
            is_real and math.isfinite(value) and least <= value <= most
        ) and value not in but

    first, last = "[("[least in but], "])"[most in but]
    expected = f"in {first}{least:g}, {most:g}{last}"
    if most == math.inf:
        expected = f"{'>' if least in but else '>='} {least:g}"
    return Rule(f"a finite number {expected}", _accepts)


def one_of(names: Iterable[str]) -> Rule:
    """Accept one of several names."""
    names = tuple(sorted(names))
    known = f"one of {', '.join(names)}"
    return Rule(known, lambda value: isinstance(value, str) and value in names, names)


def optional(rule: Rule) -> Rule:
    """Accept no value, too."""

    def _accepts(value: Any) -> bool:
        return value is None or rule.accepts(value)

    return Rule(f"{rule.expected}, or omitted", _accepts, rule.names)


def each(rule: Rule, least: int = 0, most: int | None = None) -> Rule:
    """Accept `least` to `most` items in a tuple or list, each by a rule."""

    def _accepts(value: Any) -> bool:
        if not isinstance(value, tuple | list) or len(value) < least:
            return False
        return (most is None or len(value) <= most) and all(map(rule.accepts, value))

    count = f"{'exactly' if least == most else 'at least'} {least}" * (least > 0)
    return Rule(
        " ".join(f"a tuple of {count} values, each {rule.expected}".split()), _accepts
    )


def several(rule: Rule) -> Rule:
    """Accept one or more different items."""
    some = each(rule, 1)

    def _accepts(value: Any) -> bool:
        return some.accepts(value) and len(set(value)) == len(value)

    return Rule(f"one or more different values, each {rule.expected}", _accepts)


FLAG = Rule("True or False", lambda value: isinstance(value, bool))
TEXT = Rule("a text", lambda value: isinstance(value, str) and bool(value.strip()))
SEED = integer(0, LARGEST_SEED)
LEARNING_RATE = number(0, 10, but=(0,))
_COUNT, _POSITIVE, _WEIGHT = integer(1), number(0, but=(0,)), number(0, 1e6)
_SWITCHES = ("random_start", "stop_at_success", "middle_first", "as_in_autoattack")

# By the last parts of a setting's name; `*` is any one part. The longest name wins.
RULES: dict[str, Rule] = {
    # Runs.
    **dict.fromkeys(("method", "table", "study", "dataset", "target_model"), TEXT),
    **dict.fromkeys(("data_dir", "target_model_dir", "target_weights"), optional(TEXT)),
    **dict.fromkeys(("advgan_workdirs", "aigan_workdir"), optional(TEXT)),
    "generator_dir": optional(TEXT),
    "seed": SEED,
    "surrogate.seed": optional(SEED),
    "surrogate.target_model": optional(one_of(CLASSIFIERS)),
    "parallel": one_of(MODES),
    "max_resident_bytes": integer(0, 2**63 - 1),
    # Attacks in general. Pixels are in [0, 1], and so is a bound in L-infinity.
    "epsilon": number(0, 1),
    "epsilons": each(number(0, 1)),
    **dict.fromkeys(("epsilon_l1", "epsilon_l2"), number(0)),
    "epsilons_l2": each(number(0)),
    "target_class": optional(integer(0)),
    "target_classes": several(integer(0)),
    "random_targets": FLAG,
    "names": several(TEXT),
    # Training.
    **dict.fromkeys(("num_images", "queries.budget"), optional(_COUNT)),
    "num_epochs": integer(0),
    "batch_size": _COUNT,
    "optimizer": one_of(OPTIMIZERS),
    "learning_rate": LEARNING_RATE,
    "weight_decay": number(0, 100),
    "label_smoothing": number(0, 1, but=(1,)),
    "max_shift": integer(0),
    **dict.fromkeys(("flip", "predicted_labels", "replay", "autoencoder"), FLAG),
    "compute_dtype": one_of(COMPUTE_DTYPES),
    "epochs_per_checkpoint": _COUNT,
    "steps_per_call": optional(_COUNT),
    "defence": one_of((UNDEFENDED, *DEFENCES)),
    "defences.*.training.learning_rate": optional(LEARNING_RATE),
    "clean_weight": number(0, 1),
    "divergence_weight": _WEIGHT,
    "warmup_epochs": number(0),
    "sources": each(one_of(CLASSIFIERS), 1),
    # Generators, discriminators and their losses.
    "generator.widths": each(integer(1, 4096), 3, 3),
    "discriminator.widths": each(integer(1, 4096), 1),
    "num_residual": integer(0, 1000),
    "num_heads": integer(1, 2),
    **dict.fromkeys(("loss", "loss.adversarial"), one_of(ADVERSARIAL_LOSSES)),
    "loss.gan": one_of(GAN_LOSSES),
    **dict.fromkeys(("gan_weight", "hinge_weight", "class_weight", "weight"), _WEIGHT),
    **dict.fromkeys(("confidence", "hinge_bound", "decay", "overshoot"), _WEIGHT),
    # The black box.
    "distillation": optional(one_of(DISTILLATIONS)),
    "answers": one_of(ANSWERS),
    "distilled.model": one_of(CLASSIFIERS),
    **dict.fromkeys(("num_rounds", "steps_per_round", "initial_rounds"), _COUNT),
    "queries.clean": _COUNT,
    "queries.perturbed_per_round": integer(0),
    "queries.choice": one_of(CHOICES),
    # Evaluation.
    **dict.fromkeys(("grid_images", "monitor_images"), _COUNT),
    "levels": optional(integer(2, 2**16)),
    # The arguments of attacks.
    "decision": one_of(("elastic_net", "l1")),
    "kind": one_of((*ATTACKS, "autoattack")),
    "version": one_of(("standard", "plus")),
    "norm": one_of(NORMS),
    **dict.fromkeys(("num_steps", "first_level"), integer(0)),
    **dict.fromkeys(("num_restarts", "num_search_steps", "memory"), _COUNT),
    **dict.fromkeys(("num_pairs", "num_initial_samples", "num_classes_tried"), _COUNT),
    **dict.fromkeys(("num_candidates", "restart_after"), optional(_COUNT)),
    **dict.fromkeys(("num_queries", "num_seeds", "most_images"), _COUNT),
    "budgets": each(_COUNT, 1),
    "hybrid_search": one_of(("signhunter", "signhunter_strips", "square")),
    "square.loss": optional(one_of(ADVERSARIAL_LOSSES)),
    "initial_share": number(0, 1, but=(0,)),
    **dict.fromkeys(("radius", "exploration", "prior_step_size"), _POSITIVE),
    "tolerance": number(0),
    "spsa.learning_rate": optional(LEARNING_RATE),
    "rays.epsilon": optional(number(0, 1)),
    "hop_skip_jump.epsilon": optional(number(0)),
    "step_size": optional(_POSITIVE),
    **dict.fromkeys(_SWITCHES, FLAG),
    **dict.fromkeys(("initial_loss_weight", "initial_distance_weight"), _POSITIVE),
    **dict.fromkeys(("max_const", "min_tau"), _POSITIVE),
    "tau_factor": number(0, 1, but=(0, 1)),
    "solver": one_of(SOLVERS),
    "average": one_of(AVERAGES),
    # The tables.
    "models": several(TEXT),
    "aigan_models": several(one_of(CLASSIFIERS)),
    **{
        f"{name}_model": one_of(CLASSIFIERS)
        for name in ("speed", "blackbox", "transfer", "challenge")
    },
    **dict.fromkeys(("num_timed", "num_surrogates"), _COUNT),
    # The studies of Szegedy et al.
    **dict.fromkeys(("half_models", "spectral_models"), several(TEXT)),
    **dict.fromkeys(("attack", "title"), TEXT),
    "noise": each(number(0)),
    "amplified_to": number(0),
    "hidden": each(integer(1, 10**6)),
    **dict.fromkeys(("networks.*.weight_decay", "decays"), each(number(0, 100), 1)),
    **dict.fromkeys(("max_iterations", "calls_per_checkpoint"), _COUNT),
    **dict.fromkeys(("iterations_per_call", "units.num_images"), _COUNT),
    **dict.fromkeys(("gradient_tolerance", "value_tolerance"), number(0)),
    "units": integer(1, 10**6),
    "sparsity": number(0, 1, but=(0, 1)),
    **dict.fromkeys(("sparsity_weight", "l1_weight"), _WEIGHT),
    **dict.fromkeys(("num_directions", "num_permutations"), _COUNT),
    "layerwise.model": TEXT,
    "variants": several(TEXT),
    **dict.fromkeys(("pool_size", "num_replaced", "num_mixed"), _COUNT),
    "steps_per_replacement": _COUNT,
    "rms": optional(_POSITIVE),
    "activation": one_of(("sigmoid", "relu")),
    "num_validation": integer(0),
    **dict.fromkeys(("dropout", "input_dropout"), number(0, 1, but=(1,))),
}


def check_settings(config: Mapping[str, Any]) -> None:
    """Raise `ValueError` for the first setting that has no rule or breaks its rule.

    Args:
      config: the resolved configuration as nested dictionaries.
    """
    for name, value, rule in _settings(config):
        if rule is None:
            known = [pattern.split(".")[-1] for pattern in RULES]
            raise unknown_name("setting", name.split(".")[-1], known)
        if isinstance(value, np.generic):
            value = value.item()
        if rule.accepts(value):
            continue
        if rule.names and isinstance(value, str):
            raise unknown_name(name, value, rule.names)
        cure = ""
        if name.split(".")[-1] == "epsilon" and number(1, 255).accepts(value):
            cure = f"; pixels are in [0, 1], so divide by 255: {value / 255:.4g}"
        raise ValueError(f"`{name}` must be {rule.expected}, got {value!r}{cure}.")


@contextlib.contextmanager
def complete() -> Iterator[None]:
    """Raise `ValueError` if the block reads a setting that a configuration lacks."""
    try:
        yield
    except (AttributeError, KeyError) as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        if "ml_collections" not in last.filename:
            raise
        reason = " ".join(str(error).split())
        raise ValueError(
            f"The configuration lacks a setting: {reason}; compare it with the one in "
            "`advgan_jax/configs/`."
        ) from error


def find_rule(name: str) -> Rule | None:
    """Return the rule of a setting by its dotted name; None without one."""
    found = [p for p in RULES if fnmatchcase(f".{name}", f"*.{p}")]
    return RULES[max(found, key=lambda p: p.count("."))] if found else None


def _settings(
    section: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Rule | None]]:
    """Yield the name, the value and the rule of each setting of a section."""
    for key, value in section.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _settings(value, f"{name}.")
        else:
            norm = section.get("norm") if key == "epsilon" else None
            own = f"{name}_{norm}" if norm in ("l1", "l2") else name
            yield name, value, find_rule(own)
