"""Every setting of every configuration has a rule, and the rules reject nonsense."""

import importlib
import inspect
import math
import pkgutil

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from advgan_jax import configs
from advgan_jax.attacks import ATTACKS
from advgan_jax.settings import check_settings, find_rule

MODULES = [m.name for m in pkgutil.iter_modules(configs.__path__) if m.name[0] != "_"]
# What attacks get from a call or a training, and never from a configuration.
GIVEN = {"key", "targeted", "bounds", "attack", "surrogate_fn"}
GIVEN |= {"generator", "params", "logits_fn", "images", "labels", "parameters"}
GIVEN |= {"sufficient_distance"}  # curves need the least distances


def every_config():
    for name in MODULES:
        module = importlib.import_module(f"advgan_jax.configs.{name}")
        try:
            module.get_config("no such variant")
        except ValueError as error:
            variants = str(error).split("Known: ")[1].rstrip(".").split(", ")
        for variant in variants:
            yield f"{name}:{variant}", module.get_config(variant)


def test_every_setting_of_every_configuration_keeps_its_rule():
    names = set()
    for title, config in every_config():
        names.add(title)
        check_settings(config.to_dict())
    assert len(names) == 34


def test_every_argument_of_every_attack_has_a_rule():
    for name, attack in ATTACKS.items():
        for argument, parameter in inspect.signature(attack).parameters.items():
            if argument in GIVEN or parameter.kind is parameter.VAR_KEYWORD:
                continue
            rule = find_rule(f"attacks.{name}.{argument}")
            assert rule is not None, (name, argument)
            if parameter.default is not parameter.empty:
                assert rule.accepts(parameter.default), (name, argument)


@pytest.mark.parametrize(
    "wrong", [math.nan, math.inf, -1, True, "1", None, (1, 2), {}, 10**40, np.int64(-1)]
)
def test_no_number_of_any_configuration_accepts_nonsense(wrong):
    """None is right for a placeholder alone; 10**40 for an unbounded real number."""
    for title, config in every_config():
        for name, value in flatten_dict(config.to_dict(), sep=".").items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            rule = find_rule(name)
            if wrong is None and "learning_rate" in name:
                continue  # of a defence: it may be that of `target_training`
            if wrong == 10**40 and rule.expected.startswith("a finite number >"):
                continue
            if rule.expected.endswith("omitted") and wrong is None:
                continue
            assert not rule.accepts(wrong), (title, name)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 2**32}, "`seed` must be an integer from 0 to 4294967295, got 4294"),
        ({"seed": -1}, "`seed` must be an integer from 0"),
        ({"seed": 1.0}, "`seed` must be an integer from 0"),
        ({"surrogate": {"seed": 2**63}}, r"`surrogate\.seed` must be"),
        ({"sead": 1}, "Unknown setting 'sead'. Did you mean 'seed'"),
        ({"training": 3}, "Unknown setting 'training'"),
        ({"epsilon": 8.0}, r"in \[0, 1\], got 8.0; .*divide by 255: 0.03137"),
        ({"a": {"epsilon": 8.0, "norm": "linf"}}, r"`a.epsilon` .*in \[0, 1\]"),
        ({"epsilons": ("a",)}, r"`epsilons` must be a tuple .* got \('a',\)"),
        ({"epsilons": 0.3}, "`epsilons` must be a tuple"),
        ({"names": ("pgd", "pgd")}, "one or more different"),
        ({"label_smoothing": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"learning_rate": 0.0}, r"in \(0, 10\], got 0.0"),
        ({"generator": {"widths": (8, 0, 8)}}, "each an integer from 1 to 4096"),
        ({"optimizer": "adamm"}, "Unknown optimizer 'adamm'. Did you mean 'adam'"),
        ({"optimizer": 3}, "`optimizer` must be one of adam, sgd, got 3"),
        ({"networks": {"f": {"weight_decay": 1e-3}}}, "must be a tuple"),
        ({"data_dir": ""}, "`data_dir` must be a text, or omitted, got ''"),
    ],
)
def test_messages_name_the_setting_and_the_range(changed, message):
    with pytest.raises(ValueError, match=message):
        check_settings(changed)


def test_a_bound_in_another_norm_may_be_large():
    check_settings({"attacks": {"pgd_l2": {"epsilon": 8.0, "norm": "l2"}}})


def test_the_largest_seed_is_right():
    check_settings({"seed": 2**32 - 1})
