"""Names that are chosen from a list; the error for an unknown one suggests the nearest.

This module imports nothing large, because commands reject a mistyped name at once.
"""

import difflib
from collections.abc import Iterable, Mapping


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the error for an unknown name, which lists the known ones."""
    known = sorted(known)
    near = _nearest(str(name).lower(), {one.lower(): one for one in known})
    hint = f" Did you mean {near!r}?" if near else ""
    return ValueError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")


def _nearest(name: str, known: Mapping[str, str]) -> str | None:
    """Return the name that is meant: it is alike, or abbreviated by its initials."""
    alike = difflib.get_close_matches(name, known, n=3)
    # `steps` is as much like `step_size` as like `num_steps`, which contains it.
    alike.sort(key=lambda one: name not in one.split("_"))
    letters = "".join(filter(str.isalnum, name))
    short = [
        one
        for one in known
        if len(letters) > 1
        and "".join(word[:1] for word in one.split("_")).startswith(letters)
    ]
    found = [*alike, *short]
    return known[found[0]] if found else None
