"""Tables of the papers: each row trained, measured and set beside what was printed.

A row that is finished is a file; a run that was killed goes on with the next one.
"""

import datetime
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset
from advgan_jax.models import CLASSIFIERS
from advgan_jax.reporting import (
    PAPER,
    device_name,
    heatmap,
    matrices,
    time_chart,
    versions,
    write_json,
)
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import advgan, aigan, blackbox, compare_generators
from advgan_jax.runs.reproduce import cells
from advgan_jax.runs.reproduce.identity import GENERATORS, cell_identity, section_of
from advgan_jax.runs.reproduce.paper import EPSILON
from advgan_jax.runs.reproduce.rows import TABLES, Cell, Net, Row
from advgan_jax.runs.reproduce.workshop import Workshop
from advgan_jax.runs.run import Run
from advgan_jax.runs.szegedy import output

ALL = "all"
_METHODS = {
    "advgan": advgan,
    "aigan": aigan,
    "blackbox": blackbox,
    "fitted": advgan,
    "generators": compare_generators,
}


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    if config.table not in (*TABLES, ALL):
        raise unknown_name("table", config.table, (*TABLES, ALL))
    advgan.check_evaluation(config, dataset)
    check_at_least("evaluation.batch_size", config.evaluation.batch_size, 1)
    check_at_least("num_timed", config.num_timed, 1)
    check_at_least("num_surrogates", config.num_surrogates, 1)
    _check_what_tables_set(config)
    workshop = Workshop(Run(config, pathlib.Path(), dataset))  # makes nothing here
    rows = [row for table in _chosen(config) for row in TABLES[table](config)]
    asked = [cell for row in rows for cell in row.cells.values()]
    # Many cells ask for the same: each is looked at once.
    for section, net in dict.fromkeys(pair for c in asked for pair in _trainings(c)):
        own = workshop.config_of(net, section)
        _METHODS[section].check(own, dataset)
        if section == "fitted":
            from_config.training_plan(own.training, workshop.training_set(section))
    for name in {cell.attack for cell in asked} - {None, *GENERATORS}:
        _check_attack(config, name, dataset)


def _check_what_tables_set(config: ConfigDict) -> None:
    """Refuses what would be overwritten in silence, or fail after hours."""
    unknown = sorted(set(config.trainings) - set(CLASSIFIERS))
    if unknown:
        raise unknown_name("target model in `trainings`", unknown[0], CLASSIFIERS)
    for name in ("models", "aigan_models"):
        if not config[name]:
            raise ValueError(f"`{name}` must name at least one net, got none.")
    theirs = {
        ("advgan", "target_training", "defence"): from_config.UNDEFENDED,
        ("blackbox", "distillation"): "dynamic",
        # Where it is spent a generator is trained with fewer answers than its row says.
        ("blackbox", "queries", "budget"): None,
        ("generators", "aigan_workdir"): None,
        ("generators", "advgan_workdirs"): None,
        ("generators", "advgan", "target_class"): None,
        **{(name, "target_class"): None for name in ("advgan", "fitted", "blackbox")},
    }
    for path, value in theirs.items():
        found = reduce(getitem, path, config)
        if found != value:
            raise ValueError(
                f"`{'.'.join(path)}` is each table's own choice, got {found!r}; leave "
                f"it {value!r}."
            )


def _check_attack(config: ConfigDict, name: str, dataset: Dataset) -> None:
    if name not in config.attacks:
        raise unknown_name("attack", name, config.attacks)
    attack = from_config.bound_attack(config, name)
    from_config.trace_attack(attack, dataset.train.image_shape, dataset.num_classes)
    own = config.attacks[name].get("epsilon", config.epsilon)
    if own != config.epsilon:
        raise ValueError(
            f"`attacks.{name}.epsilon` must be the `epsilon` of all attacks, "
            f"{config.epsilon:g}, got {own:g}; set --config.epsilon alone."
        )


def _trainings(cell: Cell) -> Iterator[tuple[str, Net]]:
    """What is trained for a cell: sections of the configuration, and against what."""
    for net in (cell.on, *cell.through):
        yield section_of(net), net
    if cell.metric.startswith("success_"):
        yield "generators", cell.on
    elif cell.attack in GENERATORS:
        yield GENERATORS[cell.attack], cell.through[0]


def run(run: Run) -> list[dict[str, Any]]:
    """Makes the configured table, or all of them.

    Args:
      run: the run.

    Returns:
      Rows of `results.json`, those behind all tables that the folder has by now, also
      from earlier runs, as far as they were measured with this configuration. A line
      that stands behind several numbers is there once.
    """
    workshop = Workshop(run)
    for table in _chosen(run.config):
        records = []
        for row in TABLES[table](run.config):
            finished = _finished(workshop, table, row)
            records.append(_record(run, row, finished["values"]))
            # After each row, so that a killed run leaves what it has.
            figure = _figure(table, row, records)
            output.write(run, f"table-{table}", records, figure)
    return _results(workshop)


def _chosen(config: ConfigDict) -> Sequence[str]:
    return tuple(TABLES) if config.table == ALL else (config.table,)


def _finished(workshop: Workshop, table: str, row: Row) -> dict[str, Any]:
    """A row's numbers, measured unless its file is there already."""
    path = _path(workshop, table, row)
    if parallel.agreed(path.exists()):
        return json.loads(path.read_text(encoding="utf8"))
    found = {name: cells.measure(workshop, row.cells[name]) for name in row.cells}
    finished = {
        "values": {name: value for name, (value, _) in found.items()},
        "results": _once(result for _, behind in found.values() for result in behind),
        "nets": {net.title: workshop.description(net) for net in _nets(row)},
        # What `results.json` says of these is of the run that wrote it last.
        "made": {
            "versions": versions(),
            "device": device_name(),
            "date": datetime.date.today().isoformat(),
        },
    }
    write_json(path, finished)
    return finished


def _path(workshop: Workshop, table: str, row: Row) -> pathlib.Path:
    """Where a finished row lies: named by all that its numbers depend on."""
    slug = re.sub(r"[^\w.-]+", "_", row.name)
    trained = [workshop.description(net) for net in _nets(row)]
    told = [cell_identity(workshop.told, cell) for cell in row.cells.values()]
    digits = from_config.fingerprint([told, row.cells, trained])
    return workshop.run.workdir / "rows" / f"table-{table}" / f"{slug}-{digits}.json"


def _nets(row: Row) -> list[Net]:
    """All nets of a row, each once."""
    found = (net for cell in row.cells.values() for net in (cell.on, *cell.through))
    return list(dict.fromkeys(found))


def _results(workshop: Workshop) -> list[dict[str, Any]]:
    found = []
    for table, rows in TABLES.items():
        for row in rows(workshop.run.config):
            path = _path(workshop, table, row)
            if parallel.agreed(path.exists()):
                found += json.loads(path.read_text(encoding="utf8"))["results"]
    return _once(found)


def _once(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for result in results:
        if result not in kept:
            kept.append(result)
    return kept


def _record(run: Run, row: Row, values: dict[str, float | None]) -> dict[str, Any]:
    """A line of the table: titles, our numbers, the paper's where they compare."""
    record: dict[str, Any] = dict(row.titles)
    printed = row.paper if run.config.epsilon == EPSILON else {}
    for column, value in values.items():
        ours = float("nan") if value is None else value
        record |= output.beside(run, column, ours, printed.get(column))
    return record | dict(row.facts)


def _figure(table: str, row: Row, records: Sequence[dict[str, Any]]) -> Figure:
    names = [" ".join(record[title] for title in row.titles) for record in records]
    columns = list(row.cells)
    if columns == ["seconds"]:
        return _times(dict(zip(names, records, strict=True)))
    title = f"Table {table}" if table.isdigit() else table
    ours, published = matrices(records, columns)
    return heatmap(ours, names, columns, title, published=published)


def _times(records: Mapping[str, dict[str, Any]]) -> Figure:
    printed = "seconds" + PAPER
    return time_chart(
        {name: record["seconds"] for name, record in records.items()},
        label="seconds for 1,000 images",
        title="Table 1",
        published={n: r[printed] for n, r in records.items() if printed in r},
    )
