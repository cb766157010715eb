"""Reports: a self-contained page for a run, or for several in comparison.

The page needs no network and no server. Its policy forbids both, and all text in it is
escaped.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from advgan_jax import parallel
from advgan_jax.files import Path
from advgan_jax.reporting.files import replacing
from advgan_jax.reporting.logs import write_results
from advgan_jax.reporting.page.contents import read_contents
from advgan_jax.reporting.page.document import render
from advgan_jax.reporting.samples import harmless

__all__ = ["REPORT", "finish_run", "write_report"]

REPORT = "report.html"


def write_report(workdirs: Sequence[Path], path: Path | None = None) -> pathlib.Path:
    """Write the report of runs or trainings, and return its path.

    Args:
      workdirs: the folders of finished runs, or of trainings by `train_advgan` and its
        like, at least one; several are compared. A training has no results, only
        curves and settings.
      path: the file to write; by default `report.html` in the workdir of one run, and
        `comparison.html` in the first of several.

    Raises:
      FileNotFoundError: if a folder holds neither, or a run that has not finished.
      ValueError: if a file of a run is damaged.
    """
    runs = []
    for found in map(read_contents, workdirs):
        own = found.workdir.absolute().name
        alike = sum(run.workdir.absolute().name == own for run in runs)
        name = f"{found.name} ({alike + 1})" if alike else found.name
        runs.append(found._replace(name=name))
    name = REPORT if len(runs) == 1 else "comparison.html"
    place = runs[0].workdir / name if path is None else pathlib.Path(path)
    page = render(runs)
    with replacing(place) as partial:
        partial.write_text(page, encoding="utf8")
    return place


def finish_run(
    workdir: Path, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> None:
    """Write `results.json`, see `write_results`, and then the report.

    A report that cannot be written does not make a finished run fail.
    """
    write_results(workdir, rows, config)
    if parallel.is_first():
        with harmless(f"{REPORT} is not written"):
            write_report([workdir])
