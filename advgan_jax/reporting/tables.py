"""Tables: results for the terminal, and records of any fields as CSV or Markdown.

Rows come from `evaluation.make_row`. Records are mappings, at least one; their columns
are all their fields in order of appearance.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from advgan_jax.checks import unknown_name
from advgan_jax.evaluation import ROW_KEYS
from advgan_jax.files import Path
from advgan_jax.reporting.files import replacing

PAPER = " (paper)"  # ends the name of a column with a paper's numbers
# "success" combines the rate, its interval and its denominator.
DEFAULT_COLUMNS = (
    *("dataset", "target_model", "attack", "threat_model", "target_class", "epsilon"),
    *("clean_accuracy", "robust_accuracy", "success", "rounded_success_rate"),
    *("linf_max", "l2_mean", "queries", "images_per_second"),
)
_HEADERS = {
    "target_model": "model",
    "threat_model": "threat model",
    "target_class": "class",
    "num_images": "images",
    "clean_accuracy": "clean acc.",
    "robust_accuracy": "robust acc.",
    "attack_success_rate": "success rate",
    "success": "attack success [95 % interval]",
    "success_over": "over",
    "success_low": "low",
    "success_high": "high",
    "rounded_success_rate": "rounded",
    "linf_max": "max L-inf",
    "l2_mean": "mean L2",
    "rms_mean": "mean RMS",
    "images_per_second": "images/s",
}
_PERCENT = {
    *("clean_accuracy", "robust_accuracy"),
    *("attack_success_rate", "success_low", "success_high", "rounded_success_rate"),
}
_TEXT = {
    *("experiment", "dataset", "target_model", "attack", "threat_model", "norm"),
    *("success", "success_over"),
}
_NONE = "-"
_Record = Mapping[str, Any]


def format_table(rows: Sequence[_Record], columns: Sequence[str] | None = None) -> str:
    """Return results as a table for the terminal, with aligned columns.

    Args:
      rows: from `evaluation.make_row`.
      columns: fields of the rows, or `success`; by default `DEFAULT_COLUMNS` without
        those that are None in every row.

    Raises:
      ValueError: for an unknown column; lists the known ones.
    """
    known = (*ROW_KEYS, "success")
    for column in columns or ():
        if column not in known:
            raise unknown_name("column", column, known)
    if columns is None:
        columns = [
            c
            for c in DEFAULT_COLUMNS
            if c == "success" or not rows or any(row[c] is not None for row in rows)
        ]
    lines = [[_HEADERS.get(column, column) for column in columns]]
    lines += [[_result_cell(row, column) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    aligned = (
        "  ".join(
            cell.ljust(width) if column in _TEXT else cell.rjust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in aligned)


def markdown_records(records: Sequence[_Record]) -> str:
    """Return records as a table in Markdown.

    The numbers of a column whose name ends with ` (paper)` follow ours in parentheses.
    """
    columns = [name for name in _fields(records) if not name.endswith(PAPER)]

    def _cell(record: _Record, column: str) -> str:
        ours, paper = record.get(column), record.get(column + PAPER)
        return _text(ours) if paper is None else f"{_text(ours)} ({_text(paper)})"

    cells = ([_cell(record, column) for column in columns] for record in records)
    return markdown_lines(columns, *cells)


def write_csv(path: Path, records: Sequence[_Record]) -> None:
    """Replace a CSV file by records; numbers keep all digits.

    A field that a record lacks, or that is None, becomes an empty cell.
    """
    with replacing(path) as new, new.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, _fields(records))
        writer.writeheader()
        writer.writerows(records)


def matrices(
    records: Sequence[_Record], columns: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return our numbers and the paper's in C columns, float `[R, C]`; NaN for none."""
    ours, paper = (
        np.array([[r.get(c + end, np.nan) for c in columns] for r in records], float)
        for end in ("", PAPER)
    )
    return ours, paper


def percent(share: float, digits: int = 1) -> str:
    """Format a share in percent, for example `99.1`.

    Decimals are added until a share between 0 and 1 differs from 0 and 100.
    """
    text = f"{100 * share:.{digits}f}"
    rounded_away = 0 < share < 1 and float(text) in (0, 100)
    return percent(share, digits + 1) if rounded_away and digits < 6 else text


def format_success(row: _Record) -> str:
    """Format a success rate, for example `99.1 % [98.9, 99.3] of 9,912 correct`."""
    if row["attack_success_rate"] is None:
        return _NONE
    names = ("attack_success_rate", "success_low", "success_high")
    rate, low, high = (percent(row[name]) for name in names)
    num_images = row["num_images"]
    # A row lacks the number of images that were correct and of another class.
    over = {
        "all": f"all {num_images:,}",
        "correct": f"{round(num_images * row['clean_accuracy']):,} correct",
        "correct-not-target": "correct, not target",
    }[row["success_over"]]
    return f"{rate} % [{low}, {high}] of {over}"


def _result_cell(row: _Record, column: str) -> str:
    """Format one field of a row of results."""
    if column == "success":
        return format_success(row)
    value = row[column]
    if value is None or isinstance(value, bool | str):
        return _text(value)
    if column in _PERCENT:
        return f"{percent(value)} %"
    if isinstance(value, int) and column != "seed":
        return f"{value:,}"
    if column == "images_per_second":
        return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
    return _text(value)


def _text(value: Any) -> str:
    """Format any value, floats with four digits."""
    if value is None:
        return _NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _fields(records: Sequence[_Record]) -> list[str]:
    """Return the fields of all records in order of appearance."""
    return list(dict.fromkeys(name for record in records for name in record))


def markdown_lines(header: Sequence[str], *cells: Iterable[str]) -> str:
    """Join a header and the cells of each row to a table in Markdown."""
    lines = (header, ["---"] * len(header), *cells)
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def write_generators(
    path: Path,
    summary: Mapping[str, _Record],
    titles: Mapping[str, str],
    classes: Sequence[str],
) -> None:
    """Write compared generators as Markdown, with the success towards each class.

    Args:
      path: of the file.
      summary: by method: `success_by_target`, `success_mean`, `l2_mean`,
        `num_generators`, `training_seconds_total`, `generation_seconds_per_1000`.
      titles: the name of each method.
      classes: the names of the target classes.
    """
    records = []
    for name, values in summary.items():
        total, distance = values["training_seconds_total"], values["l2_mean"]
        rates = zip(classes, values["success_by_target"], strict=True)
        record = {
            "": titles[name],
            "generators": str(values["num_generators"]),
            "training, all": "not timed" if total is None else f"{total:,.0f} s",
            "1,000 images": f"{1000 * values['generation_seconds_per_1000']:,.0f} ms",
            "mean L2": "-" if distance is None else f"{distance:.2f}",
            "mean success": f"{values['success_mean']:.2%}",
        }
        records.append(record | {wanted: f"{rate:.2%}" for wanted, rate in rates})
    with replacing(path) as partial:
        partial.write_text(markdown_records(records) + "\n", encoding="utf8")
