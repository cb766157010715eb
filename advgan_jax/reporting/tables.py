"""Rows of results as tables: for the terminal, for Markdown, for spreadsheets."""

from collections.abc import Mapping, Sequence
from typing import Any

from advgan_jax.checks import unknown_name
from advgan_jax.evaluation import ROW_KEYS

# "success" stands for the rate, its interval and its denominator together.
DEFAULT_COLUMNS = (
    "dataset",
    "target_model",
    "attack",
    "threat_model",
    "target_class",
    "epsilon",
    "clean_accuracy",
    "robust_accuracy",
    "success",
    "linf_max",
    "l2_mean",
    "queries",
    "images_per_second",
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
    "linf_max": "max L-inf",
    "l2_mean": "mean L2",
    "rms_mean": "mean RMS",
    "images_per_second": "images/s",
}
_PERCENT = {
    "clean_accuracy",
    "robust_accuracy",
    "attack_success_rate",
    "success_low",
    "success_high",
}
_TEXT = {"experiment", "dataset", "target_model", "attack", "threat_model", "norm"} | {
    "success",
    "success_over",
}
_NONE = "-"


def format_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> str:
    """A table for the terminal, columns aligned.

    Args:
      rows: from `evaluation.make_row`.
      columns: fields of the rows, or `success`; default `DEFAULT_COLUMNS` without those
        that apply to no row.

    Returns:
      Lines without a newline at the end.

    Raises:
      ValueError: for an unknown column; lists the known ones.
    """
    columns, cells = _cells(rows, columns)
    lines = [[_header(c) for c in columns], *cells]
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


def markdown_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> str:
    """A table in Markdown.

    Args:
      rows: from `evaluation.make_row`.
      columns: as in `format_table`.

    Returns:
      Lines without a newline at the end.

    Raises:
      ValueError: for an unknown column; lists the known ones.
    """
    columns, cells = _cells(rows, columns)
    rule = ["---" if column in _TEXT else "---:" for column in columns]
    lines = ([_header(c) for c in columns], rule, *cells)
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def percent(share: float, digits: int = 1) -> str:
    """A share in percent that says 0 or 100 only where it is so.

    Args:
      share: from 0 to 1.
      digits: after the point, more where needed to tell it from 0 and 1.

    Returns:
      For example `99.1`, or `99.98` where one digit would say 100.0.
    """
    text = f"{100 * share:.{digits}f}"
    rounded_away = 0 < share < 1 and float(text) in (0, 100)
    return percent(share, digits + 1) if rounded_away and digits < 6 else text


def format_success(row: Mapping[str, Any]) -> str:
    """Success rate, interval and denominator of a row.

    Args:
      row: from `evaluation.make_row`.

    Returns:
      For example `99.1 % [98.9, 99.3] of 9,912 correct`.
    """
    if row["attack_success_rate"] is None:
        return _NONE
    rate, low, high = (
        percent(row[name])
        for name in ("attack_success_rate", "success_low", "success_high")
    )
    num_images = row["num_images"]
    # Rows do not say how many images were both right and of another class.
    over = {
        "all": f"all {num_images:,}",
        "correct": f"{round(num_images * row['clean_accuracy']):,} correct",
        "correct-not-target": "correct, not target",
    }[row["success_over"]]
    return f"{rate} % [{low}, {high}] of {over}"


def _cells(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None
) -> tuple[Sequence[str], list[list[str]]]:
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
    return columns, [[_cell(row, column) for column in columns] for row in rows]


def _header(column: str) -> str:
    return _HEADERS.get(column, column)


def _cell(row: Mapping[str, Any], column: str) -> str:
    if column == "success":
        return format_success(row)
    value = row[column]
    if value is None:
        return _NONE
    if column in _PERCENT:
        return f"{percent(value)} %"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int) and column != "seed":
        return f"{value:,}"
    if column == "images_per_second":
        return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
