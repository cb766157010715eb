"""What tables consist of: data that says what to measure, and measures nothing."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from advgan_jax.runs import from_config

Record = dict[str, Any]  # a line of a table by column


class TargetModel(NamedTuple):
    """A classifier that is attacked or measured."""

    name: str  # of `models.CLASSIFIERS`, or a section of `config.networks`
    defence: str = from_config.UNDEFENDED  # see `config.target_training.defence`
    seed: int = 0  # added to the run's
    is_black_box: bool = False  # trained on images that the attacker does not have
    half: int | None = None  # 1 or 2: trained on that half of the training set
    variant: str | None = None  # a way of layer-wise training

    @property
    def title(self) -> str:
        """The name in rows of `results.json` and in file names."""
        parts = [self.name] + [self.defence] * (self.defence != from_config.UNDEFENDED)
        parts += [f"seed{self.seed}"] * (self.seed > 0)
        title = "-".join(parts + ["blackbox"] * self.is_black_box)
        title += f"@{self.half}" * (self.half is not None)
        return title + f", {self.variant}" * (self.variant is not None)

    @property
    def section(self) -> str:
        """The section of the tables' configuration that says how it is trained."""
        return "blackbox" if self.is_black_box else "advgan"


class Entry(NamedTuple):
    """One number of a table, or several lines that are measured together.

    Attributes:
      metric: a key of `measure.METRICS`.
      on: the model that is measured.
      attack: a section of `config.attacks`; `advgan` or `aigan`, a generator that is
        trained on `through`; `fitted`, one that is trained on the images that it
        attacks; `dynamic` or `static`, one that is trained on the answers of `through`;
        None for images that no attack has changed.
      through: the models that the attacker has; several are averaged.
      images: `test` or `train`; `half 1` or `half 2` of the training set; `challenge`,
        all test images under the challenge's rules.
      size: RMS of the noise, or that to which perturbations are amplified.
    """

    metric: str
    on: TargetModel
    attack: str | None = None
    through: tuple[TargetModel, ...] = ()
    images: str = "test"
    size: float | None = None

    @property
    def models(self) -> list[TargetModel]:
        """The models that it needs, each once."""
        return list(dict.fromkeys((self.on, *self.through)))


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      titles: the first columns.
      entries: what to measure, by column. An entry that gives several lines is the only
        one of its row, and its lines bring their own columns.
      facts: further columns that need no measurement.
    """

    titles: Mapping[str, str]
    entries: dict[str, Entry]
    facts: Mapping[str, Any] = MappingProxyType({})

    @property
    def name(self) -> str:
        """Unique within the table."""
        return " ".join(self.titles.values())


class Table(NamedTuple):
    """A table.

    Attributes:
      name: of its files.
      title: of the published table.
      rows: in order.
      printed: the paper's numbers by row and column, text where it prints a bound;
        empty where the configuration is not comparable.
      figure: draws the records so far; None for a table without a picture.
    """

    name: str
    title: str
    rows: Sequence[Row]
    printed: Mapping[tuple[str, str], float | str] = MappingProxyType({})
    figure: Callable[[Any, Sequence[Record]], Figure] | None = None


def by_place(
    lines: Mapping[str, Sequence[Any]], columns: Sequence[str], *, percent: bool = False
) -> dict[tuple[str, str], Any]:
    """Arrange printed lines, as many numbers as columns, for `Table.printed`."""
    return {
        (row, column): number / 100 if percent else number
        for row, line in lines.items()
        for column, number in zip(columns, line, strict=True)
    }
