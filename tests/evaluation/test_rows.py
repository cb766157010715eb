"""The lines of `results.json`: fields, order, plain values."""

import dataclasses
import json

import numpy as np
import pytest

from advgan_jax.evaluation import ROW_KEYS, Evaluation, make_row, wilson_interval

EVALUATION = Evaluation(
    labels=np.array([0, 1, 2, 0]),
    target_labels=None,
    clean_predictions=np.array([0, 1, 2, 1]),
    adversarial_predictions=np.array([1, 0, 2, 1]),
    linf=np.array([0.1, 0.2, 0.3, 0.0]),
    l2=np.array([1.0, 3.0, 7.0, 0.0]),
    rms=np.array([0.5, 1.5, 3.5, 0.0]),
    seconds=2.0,
    gradient_zero=np.array([False, True, False, True]),
)
NAMES = {
    "experiment": "e",
    "dataset": "digits",
    "target_model": "small",
    "attack": "pgd",
    "threat_model": "white-box",
    "epsilon": 0.3,
    "norm": "linf",
    "seed": 7,
}


def test_row():
    row = make_row(EVALUATION, **NAMES)
    low, high = wilson_interval(2, 3)
    assert row == {
        "experiment": "e",
        "dataset": "digits",
        "target_model": "small",
        "attack": "pgd",
        "threat_model": "white-box",
        "targeted": False,
        "target_class": None,
        "epsilon": 0.3,
        "norm": "linf",
        "num_images": 4,
        "clean_accuracy": 0.75,
        "robust_accuracy": 0.25,
        "attack_success_rate": 2 / 3,
        "success_over": "correct",
        "success_low": low,
        "success_high": high,
        "unchanged": 0.0,
        "gradient_zero": 1 / 3,  # of the images that count
        "gradient_not_finite": None,
        "linf_max": 0.3,
        "l2_mean": 2.0,
        "rms_mean": 1.0,
        "seconds": 2.0,
        "images_per_second": 2.0,
        "queries": None,
        "wasted": None,
        "queries_mean": None,
        "queries_median": None,
        "seed": 7,
        "rounded_success_rate": None,
        "rounded_linf_max": None,
    }
    assert tuple(row) == ROW_KEYS


def test_rounded_images():
    rounded = dataclasses.replace(
        EVALUATION,
        adversarial_predictions=np.array([1, 1, 2, 1]),
        linf=np.array([0.2, 0.1, 0.3, 0.0]),
    )
    evaluation = dataclasses.replace(EVALUATION, rounded=rounded)
    row = make_row(evaluation, **NAMES)
    assert (row["rounded_success_rate"], row["rounded_linf_max"]) == (1 / 3, 0.3)


def test_plain_values_only():
    names = {**NAMES, "epsilon": np.float32(0.5), "seed": np.int64(3)}
    row = make_row(EVALUATION, **names, queries=np.int32(5))
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert type(row["seed"]) is type(row["queries"]) is int


def test_what_does_not_apply_is_none():
    missed = dataclasses.replace(
        EVALUATION,
        clean_predictions=EVALUATION.labels + 1,
        adversarial_predictions=EVALUATION.labels,
        seconds=None,
    )
    row = make_row(missed, **{**NAMES, "epsilon": None, "norm": None, "seed": None})
    empty = {key for key, value in row.items() if value is None}
    assert empty == {
        "target_class", "epsilon", "norm", "attack_success_rate", "success_low",
        "success_high", "unchanged", "gradient_zero", "gradient_not_finite", "l2_mean",
        "rms_mean", "seconds", "images_per_second", "queries", "wasted", "queries_mean",
        "queries_median", "seed", "rounded_success_rate", "rounded_linf_max",
    }  # fmt: skip


def test_success_over():
    row = make_row(EVALUATION, **NAMES, success_over="all")
    assert (row["success_over"], row["attack_success_rate"]) == ("all", 0.75)
    targeted = dataclasses.replace(EVALUATION, target_labels=np.array([1, 1, 1, 1]))
    row = make_row(targeted, **NAMES)
    assert row["targeted"] is True
    assert (row["success_over"], row["attack_success_rate"]) == (
        "correct-not-target",
        0.5,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threat_model": "whitebox"}, "Did you mean 'white-box'.*black-box-dynamic"),
        ({"norm": "Linf"}, "Unknown norm 'Linf'.*Known: l1, l2, linf"),
        ({"success_over": "right"}, "Unknown denominator 'right'"),
        ({"epsilon": 0.2999}, "at most `epsilon` = 0.2999 in the norm 'linf', got"),
        ({"epsilon": 0.29}, "at most `epsilon` = 0.29 in the norm 'linf', got one of"),
        ({"norm": "l2"}, "at most `epsilon` = 0.3 in the norm 'l2', got one of 7"),
        ({"epsilon": -1}, "`epsilon` must be .*got -1"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        make_row(EVALUATION, **{**NAMES, **change})
