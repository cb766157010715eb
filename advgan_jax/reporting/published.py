"""Published tables: results as JSON files, and the page that shows them.

Each file of `results/` is one `PublishedTable`. `RESULTS.md` is rendered from all of
them by `python experiments/render_results.py`, so a figure is stated once.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

from advgan_jax.reporting.files import Path, to_json, write_json
from advgan_jax.reporting.tables import PAPER, percent

LOW, HIGH = " (low)", " (high)"  # end the names of columns with an interval's limits
_NONE = "-"
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
    """One table of results and how it was made. What is not known is None.

    Attributes:
      title: the heading.
      command: the shell commands that make the numbers, one a line.
      seed: of the run; None if rows differ in it.
      machine: the device and its size, no host name.
      versions: of packages, by name.
      date: of the measurement, ISO 8601.
      source: where the numbers come from, for example a run or a commit.
      note: what a reader must know to compare the numbers.
      rows: the cells of each row by column. `X (paper)` holds the paper's number of
        column X, `X (low)` and `X (high)` the limits of its confidence interval.
      percent: columns whose numbers are shares, shown as percentages.
    """

    title: str
    command: str | None
    seed: int | None
    machine: str | None
    versions: Mapping[str, str | None]
    date: str | None
    source: str | None
    note: str | None
    rows: Sequence[Mapping[str, Cell]]
    percent: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are shown, in order of appearance."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [name for name in names if not name.endswith((PAPER, LOW, HIGH))]


def write_table(path: Path, table: PublishedTable) -> None:
    """Write a table as JSON, whole or not at all.

    Args:
      path: the file.
      table: what to write; NaN and infinity become null.

    Raises:
      ValueError: if a field has the wrong type or a row an unknown column.
    """
    written = PublishedTable(**to_json(dataclasses.asdict(table)))
    _check(os.fspath(path), written)
    write_json(path, dataclasses.asdict(written))


def read_table(path: Path) -> PublishedTable:
    """Read a table that `write_table` wrote.

    Args:
      path: the file.

    Returns:
      The table.

    Raises:
      ValueError: if the file is no such table; the message names every fault.
    """
    name = os.fspath(path)
    try:
        fields = json.loads(pathlib.Path(path).read_text(encoding="utf8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{name} must hold one JSON object, got {type(fields)}.")
    known = {field.name: field for field in dataclasses.fields(PublishedTable)}
    required = {k for k, f in known.items() if f.default is dataclasses.MISSING}
    faults = [f"`{field}` is missing" for field in sorted(required - set(fields))]
    faults += [f"`{field}` is unknown" for field in sorted(set(fields) - set(known))]
    if faults:
        raise ValueError(f"{name}: {'; '.join(faults)}. Known fields: {[*known]}.")
    table = PublishedTable(**fields)
    _check(name, table)
    return table


def render_markdown(table: PublishedTable) -> str:
    """Render a table as a section of a Markdown page.

    Args:
      table: the table.

    Returns:
      The heading, the rows, and a paragraph with command, seed, machine, date, source
      and note, without a newline at the end.
    """
    columns = table.columns
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(table, row, column) for column in columns] for row in table.rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    grid = "\n".join(f"| {' | '.join(line)} |" for line in escaped)
    return f"## {table.title}\n{grid}\n\n{_provenance(table)}"


def render_page(folder: Path) -> str:
    """Render the page of all tables of a folder, in the order of the file names.

    Args:
      folder: holds the `*.json` files.

    Returns:
      The page, with a newline at its end.

    Raises:
      ValueError: if a file is no table, or there is none.
    """
    paths = sorted(pathlib.Path(folder).glob("*.json"), key=lambda path: path.stem)
    if not paths:
        raise ValueError(f"`{folder}` must hold at least one table (*.json), got none.")
    sections = [render_markdown(read_table(path)) for path in paths]
    return "\n".join([_HEAD, "\n\n".join(sections), ""])


def _provenance(table: PublishedTable) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in table.versions.items() if v)
    facts = [
        None if table.seed is None else f"seed {table.seed}",
        table.machine or "machine not recorded",
        versions or None,
        table.date or "date not recorded",
        f"source: {table.source}" if table.source else None,
    ]
    made = "; ".join(fact for fact in facts if fact)
    commands = [f"`{line}`" for line in (table.command or "").splitlines()]
    sentences = [made[0].upper() + made[1:] + ".", table.note]
    return "<br>".join([*commands, " ".join(filter(None, sentences))])


def _cell(table: PublishedTable, row: Mapping[str, Cell], column: str) -> str:
    is_share = column in table.percent
    text = _text(row.get(column), is_share)
    low, high = row.get(column + LOW), row.get(column + HIGH)
    if low is not None or high is not None:
        text += f" [{_text(low, is_share)}, {_text(high, is_share)}]".replace(" %", "")
    printed = row.get(column + PAPER)
    if printed is None:
        return text
    return f"{text} ({_text(printed, is_share).removesuffix(' %')})"


def _text(value: Cell, is_share: bool) -> str:
    if value is None:
        return _NONE
    if isinstance(value, str | bool):
        return str(value)
    if is_share:
        return f"{percent(value, 2).removesuffix('0')} %"
    short = f"{value:.4g}"
    # Keeps 99.0 and 0.10 as they are, and cuts what was computed to four digits.
    return f"{value:,}" if float(short) == value else short


def _check(name: str, table: PublishedTable) -> None:
    faults = []
    texts = {"title": str, "seed": int, "versions": Mapping, "percent": Sequence}
    optional = {"command": str, "machine": str, "date": str, "source": str, "note": str}
    for field, kind in {**texts, **optional}.items():
        value = getattr(table, field)
        may_be_none = field in optional or field == "seed"
        if not isinstance(value, kind) and not (value is None and may_be_none):
            faults.append(f"`{field}` must be {kind.__name__}, got {value!r}")
    if not isinstance(table.rows, Sequence) or not table.rows:
        faults.append(f"`rows` must be a list of at least one row, got {table.rows!r}")
    else:
        faults += _row_faults(table)
    if faults:
        raise ValueError(f"{name}: {'; '.join(faults)}.")


def _row_faults(table: PublishedTable) -> list[str]:
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
