"""The numbers of runs as HTML: the head of the page, and the tables of results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advgan_jax.reporting.page.contents import Contents, describe, warnings
from advgan_jax.reporting.page.markup import Html, table, tag
from advgan_jax.reporting.tables import format_success, percent

_NONE, _SHARE = "-", "share"
# The field of a row behind each column, and how to show it.
_COLUMNS = {
    "attack": ("attack", ""),
    "class": ("target_class", "d"),
    "success": ("attack_success_rate", ""),
    "after 8 bits": ("rounded_success_rate", _SHARE),
    "robust accuracy": ("robust_accuracy", _SHARE),
    "clean accuracy": ("clean_accuracy", _SHARE),
    "norm": ("norm", ""),
    "epsilon": ("epsilon", ".4g"),
    "threat model": ("threat_model", ""),
    "data": ("dataset", ""),
    "model": ("target_model", ""),
    "max L-inf": ("linf_max", ".4g"),
    "mean L2": ("l2_mean", ".4g"),
    "queries": ("queries", ",.0f"),
    "queries, median": ("queries_median", ",.0f"),
    "seconds": ("seconds", ".4g"),
    "images/s": ("images_per_second", ",.0f"),
}


def title(runs: Sequence[Contents]) -> str:
    """Return the title of the page."""
    if len(runs) > 1:
        return f"Comparison of {len(runs)} runs"
    return f"Report of {runs[0].name}"


def head(runs: Sequence[Contents]) -> Iterator[Html]:
    """Yield the title, the most important numbers of one run, and warnings."""
    yield tag("h1", title(runs))
    config = runs[0].results["config"]
    named = [config.get(n) for n in ("method", "dataset", "target_model")]
    if len(runs) == 1:
        words = [n for n in named if isinstance(n, str)]
        words.append(f"seed {config.get('seed')}")
        yield tag("p", " · ".join([*words, runs[0].results["device"]]), class_="soft")
        if cards := list(_cards(runs[0])):
            yield tag("div", *cards, class_="cards")
    found = [
        text if len(runs) == 1 else f"{run.name}: {text}"
        for run in runs
        for text in warnings(run)
    ]
    if found:
        yield tag("ul", *(tag("li", text) for text in found), class_="warnings")


def _cards(run: Contents) -> Iterator[Html]:
    """Yield the most important numbers, and the training time."""
    yield from _cards_of_rows(run) if run.rows else _newest_success(run)
    if run.seconds is not None:
        yield _card(_duration(run.seconds), "training time")


def _card(number: str, *words: str) -> Html:
    return tag("div", tag("b", number), *(tag("span", w) for w in words), class_="card")


def _newest_success(run: Contents) -> Iterator[Html]:
    """Yield the success that a training without results logged last."""
    where = "on training batches"
    if run.results["config"].get("method") == "advgan_blackbox":
        where += " of the distilled model"
    for step, rate in run.curves.get("training", {}).get("success_rate", ())[-1:]:
        words = ("success in training", where, f"at step {step:,}")
        yield _card(f"{percent(rate)} %", *words)


def _cards_of_rows(run: Contents) -> Iterator[Html]:
    """Yield the numbers of the row of all classes or attacks, else of the first."""
    whole = [
        r
        for r in run.rows
        if r.get("attack") == "ensemble"
        or (r.get("targeted") and r.get("target_class") is None)
    ]
    row = (whole or run.rows)[0]
    sample = run.samples[run.rows.index(row)]
    if row.get("attack_success_rate") is not None:
        rate, rest = _success(row, sample).split(" % ", 1)
        yield _card(f"{rate} %", f"attack success {rest}", describe(row))
        accuracy = percent(row["robust_accuracy"])
        before = percent(row["clean_accuracy"])
        yield _card(f"{accuracy} %", "accuracy under attack", f"{before} % without it")
        if row.get("l2_mean") is not None:
            bound = f"L-inf at most {row['linf_max']:.3g}"
            yield _card(f"{row['l2_mean']:.3g}", "mean L2 of the successes", bound)
    else:
        of = f"of {row['num_images']:,} images"
        yield _card(f"{percent(row['clean_accuracy'])} %", "accuracy", of)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def results(runs: Sequence[Contents]) -> Iterator[Html]:
    """Yield the table of all rows."""
    records = []
    for run in runs:
        for row, sample in zip(run.rows, run.samples, strict=True):
            first = {} if len(runs) == 1 else {"run": (run.name, run.name)}
            records.append(first | _cells(row, sample))
    if not records:
        return
    used = [n for n in records[0] if any(r[n][1] is not None for r in records)]
    if len(runs) == 1:  # the head of the page names them
        used = [n for n in used if n not in ("data", "model")]
    yield tag("h2", "Results")
    yield tag(
        "p",
        "Brackets are 95 % Wilson intervals. Success is counted over the images that "
        "the model classifies correctly without the attack, and for a targeted attack "
        "over those of them that are not of the wanted class.",
        class_="soft",
    )
    yield table([{name: record[name] for name in used} for record in records])


def _success(row: Mapping[str, Any], sample: Mapping[str, Any] | None) -> str:
    """Return a success rate, its interval and its denominator."""
    text = format_success(row)
    if sample is None:
        return text
    # A row does not have the number of images of a targeted attack.
    return text.replace("of correct", f"of {sample['by_class'][1].sum():,} correct")


def _cells(
    row: Mapping[str, Any], sample: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """Return what a row shows, and what it is sorted by, in each column."""
    cells = {}
    for title, (field, form) in _COLUMNS.items():
        value = row.get(field)
        is_success = title == "success" and value is not None
        text = _success(row, sample) if is_success else _text(value, form)
        cells[title] = (text, value)
    return cells


def _text(value: Any, form: str) -> Any:
    if value is None:
        return _NONE
    if form == _SHARE:
        return f"{percent(value)} %"
    return format(value, form) if form else value


def tables(run: Contents, number: int) -> Iterator[Html]:
    """Yield the tables that a run made; the page has so many runs."""
    for one in run.tables:
        records = []
        names = dict.fromkeys(name for row in one.rows for name in row)
        for row in one.rows:
            record = {}
            for name in names:
                value = row.get(name)
                form = ".4g" if isinstance(value, float) else ""
                is_share = form and name in one.percent
                record[name] = (_text(value, _SHARE if is_share else form), value)
            records.append(record)
        yield tag("h2", one.title if number == 1 else f"{run.name}: {one.title}")
        yield table(records)
