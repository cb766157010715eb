"""What each study leaves behind: a CSV file, a Markdown table and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from advgan_jax.evaluation import Evaluation, evaluate_clean, make_clean_row
from advgan_jax.reporting import (
    PAPER,
    markdown_records,
    replacing,
    save_figure,
    write_csv,
)
from advgan_jax.runs.run import Run
from advgan_jax.runs.szegedy.nets import Net


def write(
    run: Run, name: str, records: Sequence[Mapping[str, Any]], figure: Figure | None
) -> None:
    """Writes `tables/NAME.csv`, `tables/NAME.md` and `figures/NAME.png`."""
    write_csv(run.workdir / "tables" / f"{name}.csv", records)
    with replacing(run.workdir / "tables" / f"{name}.md") as partial:
        partial.write_text(markdown_records(records) + "\n", encoding="utf8")
    if figure is not None:
        save_figure(figure, run.workdir / "figures" / f"{name}.png")


def beside(
    run: Run, column: str, ours: float, paper: float | str | None
) -> dict[str, Any]:
    """Our number and, on the data set that the paper uses, the paper's beside it."""
    if run.config.dataset != "mnist" or paper is None:
        return {column: ours}
    return {column: ours, column + PAPER: paper}


def clean(run: Run, net: Net, where: str = "test") -> Evaluation:
    """A net on all images of a split, as they are."""
    split = getattr(run.dataset, where)
    return evaluate_clean(net.logits_fn, split.images, split.labels)


def clean_row(run: Run, net: Net) -> dict[str, Any]:
    """The row of `results.json` of a net that nothing attacks."""
    return make_clean_row(
        clean(run, net),
        experiment=run.config.method,
        dataset=run.config.dataset,
        target_model=net.name,
        seed=run.config.seed,
    )
