"""Tables of any columns."""

import csv

import numpy as np

from advgan_jax.reporting import PAPER, markdown_records, matrices, write_csv

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
