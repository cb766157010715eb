"""Run all tables: measure a row, store it, write the table, draw the figure.

A row is stored under everything that decides its numbers. An interrupted run resumes
with the next row.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from advgan_jax.reporting import PAPER, save_figure
from advgan_jax.reporting.environment import describe_origin
from advgan_jax.reporting.files import to_json
from advgan_jax.reporting.published import write_records
from advgan_jax.runs import measure
from advgan_jax.runs.artifacts import Artifacts
from advgan_jax.runs.papers.rows import Record, Row, Table

ALL = "all"
# What a method makes, by the name that the configuration chooses.
Makers = Mapping[str, Callable[[ConfigDict], list[Table]]]


def run(artifacts: Artifacts, makers: Makers, choice: str) -> list[dict[str, Any]]:
    """Make the chosen tables; after each row their files contain all rows so far.

    Return the rows of `results.json` behind all tables of this configuration in the
    workdir, also those of earlier runs, each once.
    """
    config, results = artifacts.run.config, []
    for table in tables_of(config, makers, choice):
        records: list[Record] = []
        for row in table.rows:
            finished = _finished(artifacts, row)
            records += _records(table, row, finished["values"])
            _write(artifacts, table, records, finished["made"])
    for row in (row for table in tables_of(config, makers, ALL) for row in table.rows):
        finished = artifacts.run.store.find(*_place(artifacts, row))
        for result in finished["results"] if finished else []:
            if result not in results:
                results.append(result)
    return results


def tables_of(config: ConfigDict, makers: Makers, choice: str) -> list[Table]:
    """Return the tables that a choice names."""
    names = makers if choice == ALL else [choice]
    return [table for name in names for table in makers[name](config)]


def _finished(artifacts: Artifacts, row: Row) -> dict[str, Any]:
    """Return a row's numbers, and where and when they were measured."""

    def _make() -> dict[str, Any]:
        found = {
            column: measure.measure_entry(artifacts, entry)
            for column, entry in row.entries.items()
        }
        models = {model for entry in row.entries.values() for model in entry.models}
        finished = {
            "values": {column: value for column, (value, _) in found.items()},
            "results": [result for _, behind in found.values() for result in behind],
            "models": {model.title: artifacts.describe(model) for model in models},
            "made": describe_origin(),
        }
        return to_json(finished)  # as it is when it is loaded

    return artifacts.run.store.get(*_place(artifacts, row), _make)


def _place(artifacts: Artifacts, row: Row) -> tuple[str, dict[str, Any]]:
    """Return a row's kind in the store, and every setting that decides its numbers."""
    depends_on = {
        column: {
            "entry": entry._asdict(),
            "models": [artifacts.describe(model) for model in entry.models],
            "settings": artifacts.depends_on(entry),
        }
        for column, entry in row.entries.items()
    }
    return f"rows/{row.name}", depends_on


def _records(table: Table, row: Row, values: Mapping[str, Any]) -> list[Record]:
    """Return the lines of a row: titles, our numbers, published numbers, and facts."""
    (first, *_) = values.values()
    records = []
    for line in first if isinstance(first, list) else [values]:
        titles = {title: line.get(title, text) for title, text in row.titles.items()}
        record, name = dict(titles), " ".join(titles.values())
        for column in (column for column in line if column not in titles):
            record[column] = line[column]
            if (name, column) in table.published:
                record[column + PAPER] = table.published[name, column]
        records.append(record | dict(row.facts))
    return records


def _write(
    artifacts: Artifacts,
    table: Table,
    records: Sequence[Record],
    made: Mapping[str, Any],
) -> None:
    """Write `tables/NAME.csv`, `.md` and `.json`, and `figures/NAME.png`."""
    if not records:
        return
    config, workdir = artifacts.run.config, artifacts.run.workdir
    entries = (entry for row in table.rows for entry in row.entries.items())
    shares = {column for column, entry in entries if entry.metric in measure.SHARES}
    write_records(
        workdir / "tables" / table.name,
        records,
        origin=made,
        title=table.title,
        seed=config.seed,
        note="Machine, versions and date are those of the last row.",
        percent=[c for c in records[0] if c in shares or c.endswith(" error")],
    )
    if table.figure is not None:
        figure = table.figure(artifacts, records)
        save_figure(figure, workdir / "figures" / f"{table.name}.png")
