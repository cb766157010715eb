"""The house stays in order: documented, short, in plain words, at home anywhere."""

import ast
import functools
import io
import re
import tokenize

import pytest

CODE = ("advgan_jax", "experiments", "configs", "benchmarks")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "RESULTS.md")
LONGEST_FUNCTION, LONGEST_FILE = 60, 300
# Words of no field, or of another one, each with what to say instead.
BANNED = {
    r"nets?": "model",
    r"told|tells?": "name, report, reveal, describe",
    r"asks nothing": "need, query",
    r"hangs? on": "depend on",
    r"workshop": "store",
}
_BANNED = re.compile(
    rf"(?<![\w.\-/])(?:{'|'.join(BANNED)})(?![\w\-/(=\[]|\.\w)", re.IGNORECASE
)
_MACHINE_PATH = re.compile(r"(?<![\w.}$~/-])/(?:work|tmp|root|home)/")


@functools.cache
def sources(repository):
    """Path, text and syntax tree of each file of code."""
    paths = [p for folder in CODE for p in sorted((repository / folder).rglob("*.py"))]
    texts = [(p.relative_to(repository), p.read_text(encoding="utf8")) for p in paths]
    return [(path, text, ast.parse(text)) for path, text in texts]


@functools.cache
def pages(repository):
    """Path and text of each page that a visitor reads."""
    paths = [repository / name for name in PAGES if (repository / name).exists()]
    built = repository / "docs" / "_build"
    found = sorted((repository / "docs").rglob("*.md"))
    paths += [path for path in found if built not in path.parents]
    return [(p.relative_to(repository), p.read_text(encoding="utf8")) for p in paths]


def functions(tree):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def length(function):
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def prose(text, tree):
    """Docstrings, messages and comments of a file, with their lines."""
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and " " in value:  # a single word is a name
            yield node.lineno, value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def without_code(text):
    """Prose without what stands in code quotes, blocks and link targets."""
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`", " ", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def test_every_public_name_has_a_docstring(repository):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bare = [
        f"{path}:{node.lineno} {node.name}"
        for path, _, tree in sources(repository)
        if path.parts[0] == "advgan_jax"
        for node in ast.walk(tree)
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare, "\n".join(bare)


def test_functions_are_short(repository):
    long = [
        f"{path}:{node.lineno} {node.name} has {length(node)} lines"
        for path, _, tree in sources(repository)
        for node in functions(tree)
        if length(node) > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def test_files_are_short(repository):
    long = [
        f"{path} has {text.count(chr(10))} lines"
        for path, text, _ in sources(repository)
        if text.count("\n") > LONGEST_FILE
    ]
    assert not long, "\n".join(long)


def test_code_speaks_plainly(repository):
    found = [
        f"{path}:{line} {match[0]!r} in {' '.join(match.string.split())[:80]!r}"
        for path, text, tree in sources(repository)
        for line, words in prose(text, tree)
        for match in [_BANNED.search(without_code(words))]
        if match
    ]
    assert not found, "\n".join(found)


def test_pages_speak_plainly(repository):
    found = [
        f"{path}: {match[0]!r} in {paragraph[:80]!r}"
        for path, text in pages(repository)
        for paragraph in without_code(text).splitlines()
        for match in [_BANNED.search(paragraph)]
        if match
    ]
    assert not found, "\n".join(found)


def test_no_path_of_one_machine(repository):
    texts = [(path, text) for path, text, _ in sources(repository)]
    texts += [*pages(repository), (".ci/run", (repository / ".ci/run").read_text())]
    found = [
        f"{path}: {line.strip()}"
        for path, text in texts
        for line in text.splitlines()
        if _MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("words", "banned"),
    [
        ("Two nets agree.", True),
        ("the net of the run", True),
        ("It is told.", True),
        ("This hangs on the seed", True),
        ("the network, a netlist, internet", False),
        ("see example.net/page and net.py", False),
        ("`net` is a name", False),
        ("```\nnet\n```", False),
    ],
)
def test_the_rule_finds_words_and_no_parts_of_words(words, banned):
    assert bool(_BANNED.search(without_code(words))) == banned
