"""Formulas as MathML, which browsers display without a script or a font."""

from typing import Any

from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

_LOG = logging.getLogger(__name__)


def _convert(latex: str, node: Any, display: str) -> str:
    try:
        return convert(latex.replace("\n", " "), display=display)
    except Exception as error:
        _LOG.warning("%r of %r", error, latex, location=node)
        return ""


def _inline(writer: Any, node: Any) -> None:
    writer.body.append(_convert(node.astext(), node, "inline"))
    _skip()


def _block(writer: Any, node: Any) -> None:
    formula = _convert(node.astext(), node, "block")
    writer.body.append(f'<div class="math notranslate nohighlight">{formula}</div>\n')
    _skip()


def _skip() -> None:
    from docutils import nodes

    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
