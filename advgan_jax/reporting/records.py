"""Tables of any columns, for spreadsheets and, a paper's numbers beside, Markdown."""

import csv
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advgan_jax.reporting.files import Path, replacing

PAPER = " (paper)"  # ends the name of a column with a paper's number
_NONE = "-"


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of any fields, numbers in full, as a CSV file.

    Args:
      path: where to; replaced when the new file is whole.
      records: at least one; columns are all their fields in the order of appearance, a
        field that a row does not have, or that is None, is an empty cell.
    """
    with (
        replacing(path) as partial,
        partial.open("w", encoding="utf8", newline="") as file,
    ):
        writer = csv.DictWriter(file, _columns(records))
        writer.writeheader()
        writer.writerows(records)


def markdown_records(records: Sequence[Mapping[str, Any]]) -> str:
    """Rows of any fields as a table in Markdown.

    Args:
      records: as in `write_csv`. A column whose name ends with ` (paper)` has no
        place of its own: its number follows ours in parentheses.

    Returns:
      Lines without a newline at the end.
    """
    columns = _columns(records)
    shown = [column for column in columns if not column.endswith(PAPER)]
    lines = [shown, ["---"] * len(shown)]
    lines += [[_cell(record, column) for column in shown] for record in records]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def matrices(
    records: Sequence[Mapping[str, Any]], columns: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of some columns, for `heatmap`.

    Args:
      records: as in `write_csv`.
      columns: C names.

    Returns:
      Ours and the paper's, float `[R, C]`, NaN where there is none.
    """

    def taken(end: str) -> np.ndarray:
        names = [column + end for column in columns]
        lines = [[record.get(name, np.nan) for name in names] for record in records]
        return np.array(lines, float)

    return taken(""), taken(PAPER)


def _columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


def _cell(record: Mapping[str, Any], column: str) -> str:
    ours, paper = record.get(column), record.get(column + PAPER)
    return _text(ours) if paper is None else f"{_text(ours)} ({_text(paper)})"


def _text(value: Any) -> str:
    if value is None:
        return _NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)
