"""The page: numbers and tables as HTML; curves and images as data for its script."""

import base64
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advgan_jax.reporting.files import to_json
from advgan_jax.reporting.page import numbers, origin
from advgan_jax.reporting.page.contents import Contents, describe
from advgan_jax.reporting.page.markup import Html, tag
from advgan_jax.reporting.page.pictures import make_sheets

_HERE = pathlib.Path(__file__).parent
_ORDERS = {
    "in order": "index 1",
    "largest margin first": "margin -1",
    "smallest margin first": "margin 1",
    "largest L2 first": "l2 -1",
    "smallest L2 first": "l2 1",
}
_ONLY = {"all images": "all", "attack succeeded": "fooled", "attack failed": "held"}


def render(runs: Sequence[Contents]) -> str:
    """Return one self-contained page of one run, or of several in comparison."""
    samples = [
        (run, row, sample)
        for run in runs
        for row, sample in zip(run.rows, run.samples, strict=True)
        if sample is not None
    ]
    pictures, sheets = make_sheets([sample for _, _, sample in samples])
    groups = _charts(runs)
    names = [_name(run, row, len(runs)) for run, row, _ in samples]
    data = {
        "charts": [charts for _, charts in groups],
        "samples": [
            _classes(sample) | {"images": images}
            for (_, _, sample), images in zip(samples, pictures, strict=True)
        ],
    }
    body = tag(
        "main",
        *numbers.head(runs),
        *numbers.results(runs),
        *_curves(runs, [title for title, _ in groups]),
        *(_images(names) if names else ()),
        *(part for run in runs for part in numbers.tables(run, len(runs))),
        *(origin.figures(runs[0]) if len(runs) == 1 else ()),
        *origin.repeat(runs),
    )
    return _page(numbers.title(runs), body, data, sheets)


def _page(title: str, body: Html, data: Any, sheets: Mapping[str, str]) -> str:
    """Return the whole document; its policy permits its own script and no network."""
    style = (_HERE / "page.css").read_text(encoding="utf8")
    style += "".join(
        f".{n} {{ background-image: url({u}); }}\n" for n, u in sheets.items()
    )
    script = (_HERE / "page.js").read_text(encoding="utf8")
    checked = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{checked}'"
    )
    # `<` would end the element early, whatever stands in a text.
    text = json.dumps(to_json(data), separators=(",", ":")).replace("<", "\\u003c")
    head = tag(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<link rel="icon" href="data:,">'),
        tag("title", title),
        tag("style", Html(style)),
    )
    scripts = (
        tag("script", Html(text), type="application/json", id="data"),
        tag("script", Html(script)),
    )
    page = tag("html", head, tag("body", body, *scripts), lang="en")
    return f"<!doctype html>\n{page}\n"


def _name(run: Contents, row: Mapping[str, Any], number: int) -> str:
    return describe(row) if number == 1 else f"{run.name}: {describe(row)}"


def _charts(runs: Sequence[Contents]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the charts of each training, with a curve for each run that has it."""
    trainings = dict.fromkeys(name for run in runs for name in run.curves)
    groups = []
    for training in trainings:
        metrics = dict.fromkeys(m for r in runs for m in r.curves.get(training, ()))
        charts = []
        for metric in metrics:
            series = [
                {"color": i, "points": run.curves[training][metric]}
                for i, run in enumerate(runs)
                if metric in run.curves.get(training, ())
            ]
            charts.append({"title": metric.replace("_", " "), "series": series})
        groups.append((training, charts))
    return groups


def _curves(runs: Sequence[Contents], titles: Sequence[str]) -> Iterator[Html]:
    """Yield the places of the curves, and a legend if there are several runs."""
    if not titles:
        return
    yield tag("h2", "Curves")
    if len(runs) > 1:
        lines = (
            tag("li", run.name, style=f"--color: var(--c{i % 8})")
            for i, run in enumerate(runs)
        )
        yield tag("ul", *lines, class_="legend")
    for number, title in enumerate(titles):
        place = tag("div", class_="charts", data_charts=number)
        if number == 0:
            yield place
        else:
            yield tag("details", tag("summary", title), place)


def _classes(sample: Mapping[str, Any]) -> dict[str, Any]:
    names = ("by_class", "pairs", "confusion")
    return {name: sample[name].tolist() for name in names if name in sample}


def _select(name: str, label: str, options: Mapping[str, Any]) -> Html:
    shown = (tag("option", text, value=value) for text, value in options.items())
    parts = (tag("label", label, for_=name), tag("select", *shown, id=name))
    return tag("span", *parts, class_="field")


def _images(names: Sequence[str]) -> Iterator[Html]:
    """Yield the controls and the places of images and classes."""
    unique = {name: i for i, name in enumerate(names)}
    if len(unique) < len(names):  # such as an attack at several sizes
        unique = {f"{name}, no. {i + 1}": i for i, name in enumerate(names)}
    yield tag("h2", "Images and classes")
    yield tag("div", _select("attack", "Attack", unique), class_="controls")
    pages = (
        tag("button", "Previous", type="button", id="back"),
        tag("span", id="count", aria_live="polite"),
        tag("button", "Next", type="button", id="next"),
    )
    controls = (_select("order", "Sort", _ORDERS), _select("only", "Show", _ONLY))
    yield tag(
        "div",
        tag("div", *controls, *pages, class_="controls"),
        tag("div", id="gallery", class_="gallery"),
        tag(
            "p",
            "Clean image, perturbation, adversarial image. In perturbations, mid-grey "
            "means no change, and black and white a change by ",
            tag("span", id="scale"),
            ". The margin is the number of logits by which the attack succeeds.",
            class_="soft",
        ),
        id="images",
    )
    places = (
        tag(
            "div",
            tag("h3", "Success by true class"),
            tag("div", id="classes", class_="bars"),
        ),
        tag("div", tag("h3", "Pairs of classes"), tag("div", id="pairs")),
    )
    yield tag("div", *places, class_="pair")
