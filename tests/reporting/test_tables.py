"""Tables, character by character."""

import csv

import numpy as np
import pytest

from advgan_jax.evaluation import ROW_KEYS
from advgan_jax.reporting import (
    PAPER,
    format_table,
    markdown_records,
    matrices,
    write_csv,
)
from advgan_jax.reporting.tables import format_success, percent

ROW = {
    **dict.fromkeys(ROW_KEYS),
    "dataset": "mnist",
    "target_model": "C",
    "attack": "pgd",
    "threat_model": "white-box",
    "targeted": False,
    "epsilon": 0.3,
    "num_images": 10_000,
    "clean_accuracy": 0.9912,
    "robust_accuracy": 0.0089,
    "attack_success_rate": 0.99102,
    "success_over": "correct",
    "success_low": 0.98896,
    "success_high": 0.99271,
    "linf_max": 0.30000001,
    "seed": 2018,
}


def test_format_table():
    columns = ("attack", "epsilon", "num_images", "clean_accuracy", "success", "seed")
    other = {
        **ROW,
        "attack": "carlini_wagner_l2",
        "epsilon": None,
        "success_over": "all",
    }
    assert format_table([ROW, other], columns).splitlines() == [
        "attack             epsilon  images  clean acc.  attack success [95 % interval]        seed",  # noqa: E501
        "-----------------  -------  ------  ----------  ------------------------------------  ----",  # noqa: E501
        "pgd                    0.3  10,000      99.1 %  99.1 % [98.9, 99.3] of 9,912 correct  2018",  # noqa: E501
        "carlini_wagner_l2        -  10,000      99.1 %  99.1 % [98.9, 99.3] of all 10,000     2018",  # noqa: E501
    ]


def test_columns_that_apply_to_no_row_are_left_out():
    header = format_table([ROW]).splitlines()[0]
    assert "mean L2" not in header
    assert "images/s" not in header
    assert "mean L2" in format_table([ROW, {**ROW, "l2_mean": 1.5}])
    assert len(format_table([]).splitlines()) == 2


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"success_over": "correct-not-target"}, "] of correct, not target"),
        ({"attack_success_rate": 0.99996}, "99.996 % [98.9"),
        ({"attack_success_rate": 1.0, "success_high": 1.0}, "100.0 % [98.9, 100.0]"),
        ({"attack_success_rate": None}, "-"),
    ],
)
def test_success(changes, text):
    assert text in format_success({**ROW, **changes})


def test_percent_says_none_and_all_only_where_it_is_so():
    assert [percent(x) for x in (0, 1e-4, 0.5, 0.9996, 1)] == [
        "0.0", "0.01", "50.0", "99.96", "100.0",
    ]  # fmt: skip
    assert percent(1 - 1e-12) == "100.000000"


def test_unknown_column():
    with pytest.raises(ValueError, match=r"column 'epsilons'. Did you mean 'epsilon'"):
        format_table([ROW], ["epsilons"])
    with pytest.raises(ValueError, match="Unknown column 'x'"):
        format_table([], ["x"])


def test_csv_keeps_all_digits(tmp_path):
    write_csv(tmp_path / "rows.csv", [ROW])
    with (tmp_path / "rows.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == ROW_KEYS
    assert float(row["attack_success_rate"]) == ROW["attack_success_rate"]
    assert row["queries"] == ""


RECORDS = [
    {"model": "a|b", "error": 0.25, "error" + PAPER: 0.3, "images": 10},
    {"model": "c", "error": 1 / 3, "more": None},
]


def test_csv_has_all_columns_and_digits(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    write_csv(path, RECORDS)
    with path.open(newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["model", "error", "error (paper)", "images", "more"]
    assert rows[0]["error (paper)"] == "0.3"
    assert float(rows[1]["error"]) == 1 / 3
    assert rows[1]["images"] == rows[1]["more"] == ""


def test_markdown_puts_the_paper_in_parentheses():
    assert markdown_records(RECORDS).splitlines() == [
        "| model | error | images | more |",
        "| --- | --- | --- | --- |",
        r"| a\|b | 0.25 (0.3) | 10 | - |",
        "| c | 0.3333 | - | - |",
    ]


def test_matrices_of_our_numbers_and_the_papers():
    ours, published = matrices(RECORDS, ["error", "images", "more"])
    nan = np.nan
    np.testing.assert_array_equal(ours, [[0.25, 10, nan], [1 / 3, nan, nan]])
    np.testing.assert_array_equal(published, [[0.3, nan, nan], [nan, nan, nan]])
