"""Layers point down: a module imports only from rows below its own."""

import ast

# From the ground up; modules of one row do not know each other.
ROWS = (
    ("names", "numbers", "progress", "types"),
    ("checks", "cpu", "digest", "files"),
    ("tracing",),
    ("data", "losses", "logits", "projections"),
    ("parallel", "optimizers", "oracles"),
    ("checkpointing",),
    ("attacks", "models"),
    ("training", "analysis", "blackbox"),
    ("evaluation", "generators"),
    ("reporting", "settings", "zoo"),
    ("trainers", "interop"),
    ("configs", "runs"),
    ("cli",),
    ("__main__",),
)
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
# Free to look at files, clocks, flags and configs; everything else is pure.
HOST_MODULES = {"absl", "ml_collections", "argparse", "time", "datetime", "tqdm"}
PURE = (
    "analysis",
    "attacks",
    "losses",
    "models",
    "projections",
    "optimizers",
)


def part_of(path, root):
    return path.relative_to(root).with_suffix("").parts[0]


def imported(path):
    """Dotted names of all that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(root):
    return [p for p in sorted(root.rglob("*.py")) if p != root / "__init__.py"]


def test_every_part_has_a_row(repository):
    root = repository / "advgan_jax"
    assert {part_of(p, root) for p in sources(root)} <= set(ROW_OF)


def test_imports_point_down(repository):
    root = repository / "advgan_jax"
    upward = []
    for path in sources(root):
        part = part_of(path, root)
        for name in imported(path):
            if not name.startswith("advgan_jax."):
                continue
            other = name.split(".")[1]
            if other != part and ROW_OF.get(other, -1) >= ROW_OF[part]:
                upward.append(f"{path.relative_to(root)} imports {name}")
    assert not upward, "\n".join(upward)


def test_no_package_imports_a_private_module_of_another(repository):
    private = []
    for path in sources(repository / "advgan_jax"):
        for name in imported(path):
            package = repository
            for part in name.split(".") if name.startswith("advgan_jax.") else ():
                hidden = part.startswith("_") and not part.startswith("__")
                if hidden and package not in path.parents:
                    private.append(f"{path.relative_to(repository)} imports {name}")
                package = package / part
    assert not private, "\n".join(private)


def test_pure_parts_read_no_clock_flag_or_config(repository):
    root = repository / "advgan_jax"
    impure = [
        f"{path.relative_to(root)} imports {name}"
        for path in sources(root)
        if part_of(path, root) in PURE
        for name in imported(path)
        if name.split(".")[0] in HOST_MODULES
    ]
    assert not impure, "\n".join(impure)


def test_only_runs_configs_and_commands_read_configurations(repository):
    root = repository / "advgan_jax"
    readers = [
        f"{path.relative_to(root)} imports {name}"
        for path in sources(root)
        if part_of(path, root) not in ("runs", "configs", "cli")
        for name in imported(path)
        if name.split(".")[0] == "ml_collections"
    ]
    assert not readers, "\n".join(readers)
