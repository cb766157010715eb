"""Docstrings are half Markdown: single backticks, tables, and code without `::`."""

import re
from typing import Any

from sphinx.application import Sphinx

_HEADS = ("Returns:", "Yields:")
# What signatures show instead of the types that an alias stands for.
_ARRAY = r"~?jax\.[\w.]*Array"
_ALIASES = {
    _ARRAY + r" \| ~?numpy\.ndarray \| ~?numpy\.bool \| ~?numpy\.number"
    r" \| bool \| int \| float \| complex": "ArrayLike",
    rf"~?collections\.abc\.Callable\[\[{_ARRAY}\], {_ARRAY}\]": "LogitsFn",
    r"\btuple\[float, float\]": "Bounds",
    _ARRAY: "Array",
}

# Roles and literals, which stay; and code in single backticks, perhaps with a plural s.
_MARKED = re.compile(r":[\w:]+:`[^`]*`|``[^`]+``|`([^`]+)`(\w?)")


def _literal(match: re.Match[str]) -> str:
    """Double the backticks, so that colons and backslashes are not read as markup."""
    if match[1] is None:
        return match[0]
    return f"``{match[1]}``" + (f"\\ {match[2]}" if match[2] else "")


def _table(rows: list[str]) -> list[str]:
    """Return a Markdown table as a directive."""
    cells = [re.split(r"(?<!\\)\|", row.strip().strip("|")) for row in rows]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (cells[0], *cells[2:]):
        for mark, cell in zip("*" + " " * len(row), row, strict=False):
            lines.append(f"   {mark} - {cell.strip()}")
    return [*lines, ""]


def _tables(lines: list[str]) -> list[str]:
    done: list[str] = []
    rows: list[str] = []
    for line in (*lines, ""):
        if line.startswith("|"):
            rows.append(line)
            continue
        done += _table(rows) if rows else []
        rows = []
        done.append(line)
    return done[:-1]


def _code(lines: list[str]) -> list[str]:
    """Mark blocks that an empty line and four spaces set off as code."""
    done: list[str] = []
    last = ""  # the last line that is not empty
    for line in lines:
        starts = line.startswith("    ") and done and not done[-1].strip()
        if starts and last and last[0] not in " .*-":
            done += ["::", ""]
        done.append(line)
        last = line if line.strip() else last
    return done


def _returns(lines: list[str]) -> list[str]:
    """Write what is returned as a field: Napoleon would take a colon for a type."""
    done: list[str] = []
    inside = False
    for line in lines:
        if line in _HEADS:
            inside = True
            done.append(f":{line[:-1].lower()}:")
        elif inside and line.strip() and not line.startswith(" "):
            inside = False
            done.append(line)
        else:
            done.append(line)
    return done


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list):
    """Rewrite a docstring in place, before Napoleon does."""
    lines[:] = _returns(_code(_tables(lines)))
    lines[:] = _MARKED.sub(_literal, "\n".join(lines)).split("\n")


def _sign(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: Any, out: Any
) -> tuple[Any, Any]:
    """Name types as the code does."""
    texts = []
    for text in (signature, out):
        for long, alias in _ALIASES.items():
            text = text and re.sub(long, alias, text)
        texts.append(text)
    return texts[0], texts[1]


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any):
    """Omit the fields of named tuples, which their class describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to autodoc."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-signature", _sign)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
