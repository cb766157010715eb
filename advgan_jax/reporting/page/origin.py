"""How to repeat runs, as HTML: their commands, settings, versions and figures."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from advgan_jax.reporting.page.contents import Contents
from advgan_jax.reporting.page.markup import Html, table, tag
from advgan_jax.reporting.page.pictures import data_url

_MOST_FIGURES = 350_000  # bytes of the embedded pictures
_NONE = "-"


def repeat(runs: Sequence[Contents]) -> Iterator[Html]:
    """Yield how to repeat each run, its settings and its versions."""
    yield tag("h2", "Repeat it")
    for run in runs:
        if len(runs) > 1:
            yield tag("h3", run.name)
        one = "run" if run.step is None else "training"
        command = run.results.get("command")
        text = command or f"The {one} has not stored its command."
        yield tag("pre", tag("code", text))
    settings = [_flatten(run.results["config"]) for run in runs]
    names = dict.fromkeys(name for one in settings for name in one)
    if len(runs) > 1:
        shared = [n for n in names if all(n in one for one in settings)]
        unequal = [n for n in shared if len({one[n] for one in settings}) > 1]
        if unequal:
            yield tag("h3", "Settings in which the runs differ")
            yield _settings(runs, settings, unequal)
    yield tag(
        "details", tag("summary", "All settings"), _settings(runs, settings, names)
    )
    versions = [
        {k: str(v) for k, v in run.results["versions"].items()}
        | {"device": run.results["device"]}
        for run in runs
    ]
    packages = dict.fromkeys(name for one in versions for name in one)
    yield tag(
        "details", tag("summary", "Versions"), _settings(runs, versions, packages)
    )


def figures(run: Contents) -> Iterator[Html]:
    """Yield the pictures that a run drew, as many as the limit of the page allows."""
    left, shown, omitted = _MOST_FIGURES, [], []
    for path in run.figures:
        content = path.read_bytes()
        if len(content) > left:
            omitted.append(f"figures/{path.name}")
            continue
        left -= len(content)
        picture = Html(f'<img alt="" src="{data_url(content)}">')
        shown.append(tag("div", tag("h3", path.stem), picture, class_="figure"))
    if omitted:
        shown.append(tag("p", "Too large for this page: ", ", ".join(omitted)))
    if shown:
        yield tag("details", tag("summary", "Figures"), *shown)


def _settings(
    runs: Sequence[Contents], values: Sequence[Mapping[str, str]], names: Iterable[str]
) -> Html:
    """Return a table of values, a column for each run."""
    titles = ["value"] if len(runs) == 1 else [run.name for run in runs]
    records: list[dict[str, tuple[str, str]]] = []
    for name in names:
        record = {"name of the setting": (name, name)}
        for title, known in zip(titles, values, strict=True):
            text = known.get(name, _NONE)
            record[title] = (text, text)
        records.append(record)
    return table(records)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings as text, by dotted names."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.dumps(value, ensure_ascii=False)
    return found
