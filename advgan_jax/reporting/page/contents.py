"""What a workdir holds for its report, read and checked."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from advgan_jax.checkpointing import Checkpoints
from advgan_jax.files import Path, read_json
from advgan_jax.reporting.logs import METRICS, RESULTS, read_metrics
from advgan_jax.reporting.published import PublishedTable, read_table
from advgan_jax.reporting.samples import read_sample
from advgan_jax.reporting.training_time import training_seconds

_MOST_POINTS = 300  # of a curve; more cannot be seen
_CURE = "delete the file and resume the run with --resume"
_MASKED = 0.01  # a share of images that is no accident

Curves = dict[str, list[tuple[int, float]]]


class Contents(NamedTuple):
    """A finished run, or a training by `train_advgan` and its like up to now.

    Attributes:
      name: the last part of the workdir's path.
      workdir: the folder.
      results: the content of `results.json`; of a training its settings, no rows.
      curves: points (step, value) by metric, by the name of the training.
      samples: the arrays of each row of `results`, see `reporting.samples`; or None.
      seconds: of the training; None if unknown.
      tables: those of papers, and others that the run made.
      figures: the paths of the pictures.
      step: of the last checkpoint of a training by the library; None for a run.
    """

    name: str
    workdir: pathlib.Path
    results: dict[str, Any]
    curves: dict[str, Curves]
    samples: list[dict[str, np.ndarray] | None]
    seconds: float | None
    tables: list[PublishedTable]
    figures: list[pathlib.Path]
    step: int | None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of `results.json`."""
        return self.results["rows"]


def read_contents(workdir: Path) -> Contents:
    """Read a finished run, or a training by `train_advgan` and its like.

    Raises:
      FileNotFoundError: if there is neither a run nor a training, or the run has not
        finished.
      ValueError: if a file is damaged.
    """
    folder = pathlib.Path(workdir)
    if (folder / "config.json").is_file():
        results, step = _results_of_run(folder), None
    else:
        results, step = _results_of_training(folder)
    return Contents(
        folder.absolute().name,
        folder,
        results,
        {name: found for name, at in _trainings(folder) if (found := _curves(at))},
        [read_sample(folder, row) for row in results["rows"]],
        training_seconds(folder),
        [read_table(file) for file in sorted(folder.glob("tables/*.json"))],
        sorted(folder.glob("figures/*.png")),
        step,
    )


def _results_of_run(folder: pathlib.Path) -> dict[str, Any]:
    """Read `results.json`; see `read_contents` for errors."""
    path = folder / RESULTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds a run that has not finished: it has no {RESULTS}; "
            "continue the run with --resume."
        )
    results = read_json(path, "the results of a run", _CURE)
    missing = {"rows", "config", "versions", "device"} - set(results)
    if missing or not isinstance(results["rows"], list):
        raise ValueError(
            f"{path} must be the results of a run, but lacks "
            f"{', '.join(sorted(missing)) or 'a list of rows'}; {_CURE}."
        )
    return results


def _results_of_training(folder: pathlib.Path) -> tuple[dict[str, Any], int]:
    """Return what a training by `train_advgan` and its like has in place of results.

    The settings are the description in its checkpoints; nothing was evaluated. The
    second value is the step of the last checkpoint.
    """
    settings, steps = {}, []
    if (folder / "checkpoints").is_dir():  # opening it would create it
        with Checkpoints(folder / "checkpoints") as checkpoints:
            settings, steps = checkpoints.describe(), checkpoints.steps()
    if "generator" not in settings:
        raise FileNotFoundError(
            f"{folder} is not the workdir of a run, which has config.json, or of a "
            "training by `train_advgan` and its like, which has checkpoints of a "
            "generator; pass what `--workdir` or `workdir=` was."
        )
    config = {"method": settings.pop("kind", None), **settings}
    unknown = {"versions": {}, "device": "unknown device"}
    return {"rows": [], "config": config, **unknown}, steps[-1]


def _trainings(folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Yield the name and the folder of each training of a run."""
    yield "training", folder
    for path in sorted(folder.glob(f"target_models/*/{METRICS}")):
        yield f"target model {path.parent.name}", path.parent


def _curves(folder: pathlib.Path) -> Curves:
    """Return the finite points of each metric, thinned out evenly."""
    rows = read_metrics(folder)
    names = dict.fromkeys(n for row in rows for n in row if n != "step")
    found = {}
    for name in names:
        known = [(r["step"], r[name]) for r in rows if r.get(name) is not None]
        keep = np.unique(np.linspace(0, len(known) - 1, _MOST_POINTS).astype(int))
        if known:
            found[name] = [known[i] for i in keep]
    return found


def warnings(contents: Contents) -> list[str]:
    """Return what a reader must know before using the numbers, one sentence each."""
    found = []
    if contents.step is not None:
        found.append(
            f"A call of the library trained this up to step {contents.step:,}; whether "
            "it finished is not stored, and no evaluation is stored. Load the "
            "generator with load_generator, and measure it with evaluate."
        )
    for row in contents.rows:
        name = describe(row)
        zero, odd = (row.get(f"gradient_{k}") or 0 for k in ("zero", "not_finite"))
        if zero + odd > _MASKED:
            found.append(
                f"{name}: gradients are masked. The gradient is zero on {zero:.1%} of "
                f"the images and not finite on {odd:.1%}, so a low success rate does "
                "not mean robustness."
            )
        # AutoAttack returns the clean image where it fails.
        by_design = str(row.get("attack")).startswith("autoattack")
        if (row.get("unchanged") or 0) > _MASKED and not by_design:
            found.append(
                f"{name}: the attack returned {row['unchanged']:.1%} of the images "
                "unchanged; more steps may find more."
            )
        rate, rounded = (
            row.get(k) for k in ("attack_success_rate", "rounded_success_rate")
        )
        if rate is not None and rounded is not None and rate - rounded > _MASKED:
            found.append(
                f"{name}: after rounding to 8 bits, success drops from {rate:.1%} to "
                f"{rounded:.1%}. Images stored in files are less adversarial."
            )
    attacked = [r for r in contents.rows if r.get("attack_success_rate") is not None]
    # These cannot be measured on rounded images.
    exact = contents.results["config"].get("method") == "query_frontier" or any(
        r["attack"].startswith("autoattack") for r in attacked
    )
    rounded = any(r.get("rounded_success_rate") is not None for r in attacked)
    if attacked and not exact and not rounded:
        found.append(
            "Success was not measured after rounding to 8 bits, which image files "
            "need; --config.evaluation.levels=256 measures it."
        )
    if any(r.get("num_images") and r["num_images"] < 100 for r in contents.rows):
        found.append("Fewer than 100 images were measured; the intervals are wide.")
    return found


def describe(row: Mapping[str, Any]) -> str:
    """Return a short name of a row of `results.json`."""
    parts = [row.get("attack") or "no attack"]
    if row.get("target_class") is not None:
        parts.append(f"towards {row['target_class']}")
    elif row.get("targeted"):
        parts.append("all target classes")
    if row.get("threat_model"):
        parts.append(f"({row['threat_model']})")
    return " ".join(parts)
