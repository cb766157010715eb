"""Render the tables of docs/performance.md from the results that are committed.

    python benchmarks/render.py

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; the rest of the page
stays. Needs no other package.
"""

import json
import pathlib
import re
import statistics

_HERE = pathlib.Path(__file__).parent
PAGE = _HERE.parent / "docs" / "performance.md"
NORMS = {"linf": "L-inf", "l2": "L2", "l1": "L1"}
OURS = "advgan_jax"
NONE = "\N{EN DASH}"


def rows_of(pattern):
    """Return the rows of all files of a name, the files in alphabetical order."""
    paths = sorted((_HERE / "results").glob(pattern))
    if not paths:
        raise FileNotFoundError(f"There are no results {pattern}.")
    return [row for path in paths for row in json.loads(path.read_text())["rows"]]


def figures_of(name):
    """Return the figures of a file of `run.py`."""
    path = _HERE / "results" / name
    return json.loads(path.read_text())["figures"]


def titled(row):
    """Return the model of a row, as the page calls it."""
    name, _, defence = row["model"].partition(", ")
    name = name.replace("mnist", "MNIST")
    title = {"": name, "none": name}.get(defence, f"{name}, adversarially trained")
    return (
        title if row.get("images", 500) == 500 else f"{title}, {row['images']} images"
    )


def number(value):
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share, digits=1):
    return f"{100 * share:.{digits}f} %"


def agreement():
    """Return the table of `agreement.py`."""
    lines = [
        "| model | norm, epsilon | attack | ours | reference (its seeds) "
        "| same verdict | of two seeds | seconds, ours | reference's |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows_of("agreement-*.json"):
        theirs, between = row["reference"], row["between_seeds"]
        reference = percent(statistics.mean(theirs))
        if len(theirs) > 1:
            reference += f" ({100 * min(theirs):.1f} to {percent(max(theirs))})"
        cells = (
            titled(row),
            f"{NORMS[row['norm']]} {row['epsilon']:g}",
            row["component"],
            percent(statistics.mean(row["robust_accuracy"])),
            reference,
            percent(statistics.mean(row["agreement"])),
            percent(statistics.mean(between)) if between else NONE,
            f"{row['seconds'][0]:.0f}",
            f"{statistics.median(row['reference_seconds']):.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def distances():
    """Return the table of `least_distances.py`."""
    lines = [
        "| model | norm | attack | ours | adversarial-library | ratio | seconds, ours "
        "| adversarial-library's |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows_of("least-distances-*.json"):
        cells = (
            *(titled(row), NORMS[row["norm"]], row["attack"]),
            *(f"{row[name]:.4f}" for name in ("median", "adv-lib median")),
            f"{row['ratio']:.3f}",
            *(f"{row[name]:.0f}" for name in ("seconds", "adv-lib seconds")),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def optimality(pattern):
    """Return the table of a file of `optimality.py`."""
    lines = [
        "| norm | library | attack | optimality | success | median distance "
        "| seconds |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows_of(pattern):
        median = row["median"]
        cells = (
            NORMS[row["norm"]],
            "ours" if row["library"] == OURS else row["library"],
            row["attack"].replace("_", " "),
            f"{row['optimality']:.3f}",
            percent(row["success"], 0),
            NONE if median is None else f"{median:.3f}",
            f"{row['seconds']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def suite(name):
    """Return the table of a file of `run.py`."""
    lines = [
        "| part | figure | ours | rival | its figure | ratio | goal |",
        "|---|---|---:|---|---:|---:|---|",
    ]
    for row in figures_of(name):
        goal, verdict = (row.get(name) for name in ("goal", "verdict"))
        cells = (
            *(row["part"].replace("_", " "), row["figure"]),
            f"{number(row['ours'])} {row['unit']}",
            row["rival"] or NONE,
            *(number(row[name]) for name in ("theirs", "ratio")),
            f"{goal}, {verdict}" if goal else NONE,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


TABLES = {
    "agreement": agreement,
    "optimality of mnist-C": lambda: optimality("optimality-mnist-C.json"),
    "optimality of mnist-C-robust": lambda: optimality(
        "optimality-mnist-C-robust.json"
    ),
    "least distances": distances,
    "suite cpu": lambda: suite("cpu.json"),
}


def render(page):
    """Return the text of a page with new tables."""

    def _table(found):
        return "\n".join([found[1], "", *TABLES[found[2]](), "", "<!-- end -->"])

    marked = r"(<!-- table: ([^>]+) -->)\n.*?<!-- end -->"
    return re.sub(marked, _table, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf8")), encoding="utf8")
