"""The reference has every public name, and the examples of docstrings work."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from typing import TypeVar

import pytest

import advgan_jax

COMMANDS = ("cli", "configs", "__main__")  # their users read docs/runs.md
EXAMPLES = (
    "attacks.fgsm",
    "attacks.make_attack",
    "evaluation.evaluate",
    "evaluation.wilson_interval",
    "interop.from_host",
    "oracles",
)
TRAINING = "trainers.train_advgan"  # its example takes longer


def public_modules():
    """Packages and modules that a user may import names from."""
    for found in pkgutil.walk_packages(advgan_jax.__path__, "advgan_jax."):
        parts = found.name.split(".")[1:]
        if parts[0] in COMMANDS or any(part.startswith("_") for part in parts):
            continue
        above = [".".join(["advgan_jax", *parts[:i]]) for i in range(1, len(parts))]
        # A package that lists its names has no public modules below it.
        if not any(hasattr(importlib.import_module(p), "__all__") for p in above):
            yield importlib.import_module(found.name)


def public_names(module):
    """Names that a module offers: its `__all__`, or what it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    names = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = getattr(node, "targets", None) or [node.target]
            names += [t.id for t in targets if isinstance(t, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def documented(page):
    """Names and objects on a page, whichever module they are imported from."""
    for chunk in re.split(r"\.\. automodule:: ", page)[1:]:
        module = importlib.import_module(chunk.split()[0])
        excluded = re.match(r"\S+\n   :exclude-members: (.*)", chunk)
        # Without a docstring of its own, a constant is described by hand.
        named = re.findall(r"\.\. py:data:: (\w+)", chunk)
        for name in public_names(module):
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                named += [name] * (not excluded or name not in excluded[1].split(", "))
        yield from ((name, id(getattr(module, name))) for name in named)


def test_reference_has_every_public_name(repository):
    pages = [p.read_text(encoding="utf8") for p in repository.glob("docs/api/*.md")]
    known = {pair for page in pages for pair in documented(page)}
    modules = list(public_modules())
    assert len(modules) >= 30
    missing = [
        f"{module.__name__}.{name}"
        for module in [advgan_jax, *modules]
        for name in public_names(module)
        for value in [getattr(module, name)]
        if not inspect.ismodule(value)
        and not isinstance(value, TypeVar)
        and (name, id(value)) not in known
    ]
    assert not missing, "docs/api/ lacks:\n" + "\n".join(missing)


def test_every_page_of_the_reference_is_listed(repository):
    index = (repository / "docs" / "api" / "index.md").read_text(encoding="utf8")
    listed = re.findall(r"^(\w+)$", index, flags=re.MULTILINE)
    pages = {page.stem for page in repository.glob("docs/api/*.md")}
    assert sorted(listed) == sorted(pages - {"index"})


def find(name):
    """Return a public name's last part, its value and its docstring."""
    place, _, last = f"advgan_jax.{name}".rpartition(".")
    value = getattr(importlib.import_module(place), last)
    return last, value, inspect.getdoc(value)


def run_example(name):
    """Run the examples of a public name's docstring; return how many lines ran."""
    last, value, text = find(name)
    test = doctest.DocTestParser().get_doctest(text, {last: value}, name, None, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    found = []
    runner.run(test, out=found.append)
    assert not runner.failures, "".join(found)
    return runner.tries


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_of_a_docstring_works(name):
    assert run_example(name) >= 2


@pytest.mark.slow
def test_example_of_a_training_works():
    assert run_example(TRAINING) >= 3


def lines_of(text):
    """Return the lines of the examples in a docstring, which may be None."""
    return tuple(e.source for e in doctest.DocTestParser().get_examples(text or ""))


def test_every_example_is_tested(repository):
    """An example that nobody runs is wrong one day."""
    tested = {lines_of(find(name)[2]) for name in (*EXAMPLES, TRAINING)}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = {
        f"{path.relative_to(repository)}: {getattr(node, 'name', 'module')}": lines
        for path in (repository / "advgan_jax").rglob("*.py")
        if ">>> " in (text := path.read_text(encoding="utf8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, documented) and (lines := lines_of(ast.get_docstring(node)))
    }
    assert not {place for place, lines in found.items() if lines not in tested}
    assert set(found.values()) == tested  # each name above has an example
