"""Describe tables as data: which number to measure for which row and column."""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from types import MappingProxyType
from typing import Any, NamedTuple

from advgan_jax.reporting.style import Figure
from advgan_jax.settings import UNDEFENDED

Record = dict[str, Any]  # a line of a table by column


class TargetModel(NamedTuple):
    """A classifier that is attacked or measured."""

    name: str  # of `models.CLASSIFIERS`, or a section of `config.networks`
    defence: str = UNDEFENDED  # see `config.target_training.defence`
    seed: int = 0  # added to the run's
    # Of the tables' configuration, which trains it: `advgan`; `blackbox`, on images
    # that the attacker does not have; or `aigan`, for the comparison of generators.
    section: str = "advgan"
    half: int | None = None  # 1 or 2: trained on that half of the training set
    variant: str | None = None  # a way of layer-wise training

    @property
    def title(self) -> str:
        """Return the name in rows of `results.json` and in file names."""
        parts = [self.name] + [self.defence] * (self.defence != UNDEFENDED)
        parts += [f"seed{self.seed}"] * (self.seed > 0)
        title = "-".join(parts + [self.section] * (self.section != "advgan"))
        title += f"@{self.half}" * (self.half is not None)
        return title + f", {self.variant}" * (self.variant is not None)


class Entry(NamedTuple):
    """One number of a table, or several lines that are measured together."""

    metric: str  # a key of `measure.METRICS`
    on: TargetModel  # the model that is measured
    # A section of `config.attacks`; `advgan` or `aigan`, a generator that is trained on
    # `through`; `fitted`, one that is trained on the images that it attacks; `dynamic`
    # or `static`, one that is trained on the answers of `through`; None: clean images.
    attack: str | None = None
    # The attacker's models, which it averages; of `repeated`, the compared ones.
    through: tuple[TargetModel, ...] = ()
    # `test` or `train`; `half 1` or `half 2` of the training set; `challenge`: all test
    # images, under the challenge's rules; `trained on` or `validation` in layer-wise
    # training.
    images: str = "test"
    size: float | None = None  # RMS of the noise, or of amplified perturbations

    @property
    def models(self) -> list[TargetModel]:
        """Return the models that the entry needs, each once."""
        return list(dict.fromkeys((self.on, *self.through)))


class Row(NamedTuple):
    """A row of a table."""

    titles: Mapping[str, str]  # the first columns
    # What to measure, by column. An entry that gives several lines is the only one of
    # its row, and its lines bring their own columns.
    entries: dict[str, Entry]
    facts: Mapping[str, Any] = MappingProxyType({})  # columns without measurement

    @property
    def name(self) -> str:
        """Return the name, which is unique within the table."""
        return " ".join(self.titles.values())


class Table(NamedTuple):
    """A table, its published numbers and its figure."""

    name: str  # of its files
    title: str
    rows: Sequence[Row]
    # By row and column; text for a published bound. Empty where the configuration is
    # not comparable.
    published: Mapping[tuple[str, str], float | str] = MappingProxyType({})
    # Draws the records so far; None for a table without a figure.
    figure: Callable[[Any, Sequence[Record]], Figure] | None = None


def published(paper: str, table: str) -> dict[tuple[str, str], Any]:
    """Return a table of `published/` by row and column; empty if the paper has none."""
    path = files("advgan_jax.runs.papers") / "published" / f"{paper}.json"
    found = json.loads(path.read_text(encoding="utf8")).get(table, {"rows": {}})
    return {
        (row, column): number / 100 if "percent" in found else number
        for row, line in found["rows"].items()
        for column, number in zip(found["columns"], line, strict=True)
    }
