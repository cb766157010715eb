"""Published tables: results as JSON files, and the page that shows them.

Each file of `results/` contains one `PublishedTable`. The command
`python experiments/render_results.py` renders `RESULTS.md` from all of them.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from advgan_jax.files import Path, read_json
from advgan_jax.reporting.environment import command_line
from advgan_jax.reporting.files import replacing, to_json, write_json
from advgan_jax.reporting.tables import (
    PAPER,
    markdown_lines,
    markdown_records,
    percent,
    write_csv,
)

LOW, HIGH = " (low)", " (high)"  # end the names of columns with an interval's limits
_HEAD = """# Results

<!-- Rendered from results/*.json by `python experiments/render_results.py`. -->

Numbers in parentheses are the paper's, those in brackets 95 % Wilson intervals. Success
is counted over the images that the model classifies correctly without an attack; for a
targeted attack, over those that are not of the target class either. What the numbers
mean is discussed in [docs/experiments](docs/experiments); run times are in
[docs/performance.md](docs/performance.md).
"""

Cell = str | int | float | bool | None


@dataclasses.dataclass(frozen=True)
class PublishedTable:
    """One table of results and its origin; None if a value is unknown.

    Each row contains its cells by column. `X (paper)` is the paper's number in column
    X, `X (low)` and `X (high)` are the limits of its confidence interval.
    """

    title: str
    command: str | None  # shell commands that compute the numbers, one on each line
    seed: int | None  # None if rows differ in it
    machine: str | None  # the device and its size, without a host name
    versions: Mapping[str, str | None]  # of packages, by name
    date: str | None  # ISO 8601
    source: str | None  # of the numbers, for example a run or a commit
    note: str | None  # what a reader must know to compare the numbers
    rows: Sequence[Mapping[str, Cell]]
    percent: Sequence[str] = ()  # columns of shares, shown as percentages

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are shown, in order of appearance."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [name for name in names if not name.endswith((PAPER, LOW, HIGH))]


def write_table(path: Path, table: PublishedTable) -> None:
    """Write a table as JSON, completely or not at all; NaN and infinity become null.

    Raises:
      ValueError: if a field has a wrong type or a row has an unknown column.
    """
    fields = to_json(dataclasses.asdict(table))
    _checked(os.fspath(path), PublishedTable(**fields))
    write_json(path, fields)


def write_records(
    path: Path,
    records: Sequence[Mapping[str, Cell]],
    *,
    origin: Mapping[str, Any],
    **fields: Any,
) -> None:
    """Write a run's table as `PATH.csv`, `PATH.md` and `PATH.json`.

    `origin` is what `environment.describe_origin` returned when the numbers were
    measured; see `PublishedTable` for the other fields.
    """
    write_csv(f"{path}.csv", records)
    with replacing(f"{path}.md") as partial:
        partial.write_text(markdown_records(records) + "\n", encoding="utf8")
    made = {"machine": origin["device"], "versions": origin["versions"]}
    fields |= {"date": origin["date"], "command": command_line(), "source": None}
    write_table(f"{path}.json", PublishedTable(rows=records, **made, **fields))


def read_table(path: Path) -> PublishedTable:
    """Read a table that `write_table` wrote.

    Raises:
      ValueError: if the file contains no such table; names every fault.
    """
    name = os.fspath(path)
    fields = read_json(path, "a JSON object", "copy it from the run again")
    known = {field.name: field for field in dataclasses.fields(PublishedTable)}
    required = {k for k, f in known.items() if f.default is dataclasses.MISSING}
    faults = [f"`{field}` is missing" for field in sorted(required - set(fields))]
    faults += [f"`{field}` is unknown" for field in sorted(set(fields) - set(known))]
    if faults:
        raise ValueError(f"{name}: {'; '.join(faults)}. Known fields: {[*known]}.")
    return _checked(name, PublishedTable(**fields))


def render_markdown(table: PublishedTable) -> str:
    """Render a table as a section of a Markdown page: heading, rows and origin."""
    columns = table.columns
    cells = [[_cell(table, row, column) for column in columns] for row in table.rows]
    versions = ", ".join(f"{k} {v}" for k, v in table.versions.items() if v)
    facts = [
        None if table.seed is None else f"seed {table.seed}",
        table.machine or "machine not recorded",
        versions or None,
        table.date or "date not recorded",
        f"source: {table.source}" if table.source else None,
    ]
    origin = "; ".join(filter(None, facts))
    sentences = [origin[0].upper() + origin[1:] + ".", table.note]
    commands = [f"`{line}`" for line in (table.command or "").splitlines()]
    last = "<br>".join([*commands, " ".join(filter(None, sentences))])
    return f"## {table.title}\n{markdown_lines(columns, *cells)}\n\n{last}"


def render_page(folder: Path) -> str:
    """Render a page of all tables (`*.json`) of a folder, in the order of their names.

    Raises:
      ValueError: if a file contains no table, or there is none.
    """
    paths = sorted(pathlib.Path(folder).glob("*.json"), key=lambda path: path.stem)
    if not paths:
        raise ValueError(
            f"`{folder}` must contain at least one table (*.json), got none."
        )
    sections = [render_markdown(read_table(path)) for path in paths]
    return "\n".join([_HEAD, "\n\n".join(sections), ""])


def _cell(table: PublishedTable, row: Mapping[str, Cell], column: str) -> str:
    """Format a cell, with its interval in brackets and the paper's in parentheses."""
    is_share = column in table.percent
    text = _text(row.get(column), is_share)
    interval = [_text(row.get(column + end), is_share) for end in (LOW, HIGH)]
    if interval != ["-", "-"]:
        numbers = [number.removesuffix(" %") for number in (text, *interval)]
        places = [len(number.partition(".")[2]) for number in numbers]
        # 99.8 is 99.80 next to 99.94; a missing limit stays a dash.
        value, *limits = (
            number + "0" * (max(places) - own if own else 0)
            for number, own in zip(numbers, places, strict=True)
        )
        text = f"{value}{' %' * is_share} [{', '.join(limits)}]"
    printed = row.get(column + PAPER)
    if printed is None:
        return text
    return f"{text} ({_text(printed, is_share).removesuffix(' %')})"


def _text(value: Cell, is_share: bool) -> str:
    """Format a value; computed numbers have four digits."""
    if value is None:
        return "-"
    if isinstance(value, str | bool):
        return str(value)
    if is_share:
        return f"{percent(value, 2).removesuffix('0')} %"
    short = f"{value:.4g}"
    # 99.0 and 0.10 keep their digits.
    return f"{value:,}" if float(short) == value else short


def _checked(name: str, table: PublishedTable) -> PublishedTable:
    """Return a table; raise an error that names the file and every fault."""
    faults = []
    required = {"title": str, "versions": Mapping, "percent": Sequence}
    texts = ("command", "machine", "date", "source", "note")
    for field, kind in {**required, "seed": int, **dict.fromkeys(texts, str)}.items():
        value = getattr(table, field)
        if not isinstance(value, kind) and (value is not None or field in required):
            faults.append(f"`{field}` must be {kind.__name__}, got {value!r}")
    if not isinstance(table.rows, Sequence) or not table.rows:
        faults.append(f"`rows` must be a list of at least one row, got {table.rows!r}")
    else:
        faults += _row_faults(table)
    if faults:
        raise ValueError(f"{name}: {'; '.join(faults)}.")
    return table


def _row_faults(table: PublishedTable) -> list[str]:
    """Describe the wrong cells and unknown columns of a table's rows."""
    for row in table.rows:
        if not isinstance(row, Mapping):
            return [f"each row must be an object of cells, got {row!r}"]
    faults = [
        f"cell `{column}` must be a number, text or null, got {value!r}"
        for row in table.rows
        for column, value in row.items()
        if not isinstance(value, str | int | float | None)
    ]
    shown = set(table.columns)
    names = {name for row in table.rows for name in row} - shown
    owners = {name: name.rsplit(" (", 1)[0] for name in sorted(names)}
    faults += [
        f"`{n}` has no column `{o}`" for n, o in owners.items() if o not in shown
    ]
    unknown = [name for name in table.percent if name not in shown]
    return faults + [f"`percent` names no column `{name}`" for name in unknown]
