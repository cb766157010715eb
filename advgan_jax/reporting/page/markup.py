"""HTML from Python: all text is escaped unless it is `Html`, which `tag` makes."""

import html
from collections.abc import Mapping, Sequence
from typing import Any


class Html(str):
    """Finished HTML, which is not escaped again."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """Return an element with escaped children and attributes.

    Args:
      name: of the element.
      *children: `Html`, or anything else as text; None is nothing.
      **attributes: `class_` is `class`, `data_x` is `data-x`; None omits the
        attribute.
    """
    opened = name
    for key, value in attributes.items():
        if value is not None:
            name_ = key.rstrip("_").replace("_", "-")
            opened += f' {name_}="{html.escape(str(value))}"'
    content = join(*children)
    return Html(f"<{opened}>{content}</{name}>")


def join(*children: Any) -> Html:
    """Return children one after the other, escaped as in `tag`."""
    return Html(
        "".join(
            c if isinstance(c, Html) else html.escape(str(c))
            for c in children
            if c is not None
        )
    )


def table(records: Sequence[Mapping[str, tuple[Any, Any]]]) -> Html:
    """Return records as a table that the page's script can sort.

    A cell is what is shown and what is sorted; columns are the fields of the first.
    """
    names = list(records[0])
    numeric = {n for r in records for n in names if isinstance(r[n][1], int | float)}
    head = (
        tag("th", tag("button", name, type="button"), scope="col") for name in names
    )
    rows = (
        tag(
            "tr",
            *(
                tag(
                    "td",
                    shown,
                    data_value=value,
                    class_="number" if name in numeric else None,
                )
                for name, (shown, value) in record.items()
            ),
        )
        for record in records
    )
    parts = (tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("div", tag("table", *parts, class_="sortable"), class_="wide")
