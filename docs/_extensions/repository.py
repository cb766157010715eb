"""Links that leave `docs/` work on the site too: to its pages, or to shown sources.

The pages are Markdown with relative links, as a browser of the repository needs them.
"""

import importlib
import inspect
import pathlib
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).parents[2]
# Pages at the root of the repository that are pages of the site.
_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "citing.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "RESULTS.md": "results.md",
    "docs/experiments": "experiments/advgan.md",
}
_FOLDERS = ("advgan_jax", "benchmarks", "configs", "experiments")
_LANGUAGES = {".py": "python", ".json": "json"}
_NUMBERED = {"lineanchors": "line", "linenos": "inline", "anchorlinenos": True}
_LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def _rewrite(text: str, source: str, page: str) -> str:
    """Rewrite links of a text in folder `source`, shown on a page in folder `page`.

    Both are relative to the repository.
    """

    def replace(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(source, match[1]))
        path = f"docs/{_PAGES[path]}" if path in _PAGES else path
        if path.startswith("docs/") and (ROOT / path).is_file():
            return f"]({posixpath.relpath(path, page)}{match[2] or ''})"
        return f"](source:{path})"

    return _LINK.sub(replace, text)


def _read_page(app: Sphinx, docname: str, content: list[str]) -> None:
    folder = posixpath.join("docs", posixpath.dirname(docname)).rstrip("/")
    content[0] = _rewrite(content[0], folder, folder)


def _read_included(
    app: Sphinx, path: pathlib.Path, docname: str, content: list[str]
) -> None:
    folder = posixpath.normpath(posixpath.join("docs", path.parent.as_posix()))
    content[0] = _rewrite(content[0], folder, "docs")


def _shown(path: pathlib.Path) -> bool:
    """Whether the site has a page of this path: sources, results and their folders."""
    names = path.relative_to(ROOT).parts
    if names[0] not in _FOLDERS or "__pycache__" in names:
        return False
    return path.is_dir() or path.suffix in _LANGUAGES


def _resolve(app: Sphinx, doctree: nodes.document) -> None:
    """Let links to sources lead to their pages."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        path = node["reftarget"].removeprefix("source:")
        if path != node["reftarget"] and _shown(ROOT / path):
            folder = posixpath.dirname(node["refdoc"]) or "."
            uri = posixpath.relpath(f"source/{path}.html", folder)
            link = nodes.reference("", "", *node.children, internal=True, refuri=uri)
            node.replace_self(link)


def source_of(info: dict[str, str]) -> str | None:
    """Return where the reference, in `docs/api/`, finds the source of a name."""
    value: Any = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        value = getattr(value, name, None)
    value = inspect.unwrap(value.fget if isinstance(value, property) else value)
    try:
        path = pathlib.Path(inspect.getsourcefile(value)).relative_to(ROOT)
        line = inspect.getsourcelines(value)[1]
    except (TypeError, ValueError, OSError):  # a constant, or of another library
        return None
    return f"../source/{path.as_posix()}.html#line-{line}"


def _show(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Make the pages of sources and of their folders."""
    found = [p for name in _FOLDERS for p in (ROOT / name, *(ROOT / name).rglob("*"))]
    for path in filter(_shown, found):
        name = path.relative_to(ROOT).as_posix()
        if path.is_dir():
            inside = [p.name for p in sorted(path.iterdir()) if _shown(p)]
            links = (f'<li><a href="{path.name}/{n}.html">{n}</a></li>' for n in inside)
            body = f"<ul>{''.join(links)}</ul>"
        else:
            body = app.builder.highlighter.highlight_block(
                path.read_text(encoding="utf8"), _LANGUAGES[path.suffix], **_NUMBERED
            )
        body = f"<h1>{name}</h1>\n{body}"
        yield f"source/{name}", {"title": name, "body": body}, "page.html"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the rewriting of links and the pages of sources."""
    app.connect("source-read", _read_page)
    app.connect("include-read", _read_included)
    app.connect("doctree-read", _resolve)
    app.connect("html-collect-pages", _show)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
