"""Arguments of a command before its flags are parsed: configurations and scales.

A configuration is named as in `advgan:mnist`, or by the path of a file. ml_collections
knows paths only, and reads overrides such as `--config.epsilon=0.2` after the path.
"""

import argparse
import ast
import pathlib
import re
from collections.abc import Mapping, Sequence

from advgan_jax import configs, zoo
from advgan_jax.cli.errors import exit_with_error
from advgan_jax.names import unknown_name

_CONFIGS = pathlib.Path(configs.__file__).parent
_FLAG = re.compile(r"--?config(?:=(.*))?", re.DOTALL)


def names() -> list[str]:
    """Return the names of the configurations that the package contains."""
    return sorted(p.stem for p in _CONFIGS.glob("*.py") if not p.stem.startswith("_"))


def describe(name: str) -> str:
    """Return the first line of a configuration's docstring; this imports nothing."""
    text = (_CONFIGS / f"{name}.py").read_text(encoding="utf8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0].rstrip(".")


def split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the value of `--config`, or None, and the other arguments."""
    values, rest, following = [], [], iter(arguments)
    for argument in following:
        match = _FLAG.fullmatch(argument)
        if match is None:
            rest.append(argument)
        else:
            values.append(next(following, "") if match[1] is None else match[1])
    if len(values) > 1:
        exit_with_error(f"Give --config once, got {' and '.join(values)}.")
    return (values[0] if values else None), rest


def find(value: str, owners: Mapping[str, Sequence[str]], command: str) -> str:
    """Return the path that `--config` has for ml_collections, with the variant.

    Args:
      value: the name of a configuration or the path of a file, with or without a
        variant.
      owners: the configurations that each command takes.
      command: the command; a configuration of another one ends the process.
    """
    name, *variant = value.split(":", 1)
    if name.endswith(".py") or "/" in name or "\\" in name:
        return value
    if name not in names():
        error = unknown_name("configuration", name, names())
        exit_with_error(f"{error} The path of a file works, too.")
    if name not in owners[command]:
        other = next(owner for owner, taken in owners.items() if name in taken)
        exit_with_error(
            f"`{command}` does not take the configuration {name!r}; use "
            f"`advgan-jax {other} --config={value}`."
        )
    return ":".join([str(_CONFIGS / f"{name}.py"), *variant])


def with_folder(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of `evaluate`, FOLDER first, as flags of a configuration.

    For the workdir of a run, the default is the configuration of that run; for an
    entry of the zoo, the data set and the target model of its training.
    """
    folder, *given = arguments or [""]
    if not folder or folder.startswith("-"):
        exit_with_error(
            "FOLDER comes first, the workdir of a run or a saved generator; see "
            "`advgan-jax evaluate --help`."
        )
    own, rest = _known(given, "levels")
    value, others = split(rest)
    if folder.startswith("zoo:"):
        try:
            entry, folder = folder.removeprefix("zoo:"), zoo.find(folder)
        except ValueError as error:
            exit_with_error(error)
        made = zoo.card(entry)
        if made["target"] is None:
            exit_with_error(
                f"{entry} is a target model; FOLDER is that of a generator."
            )
        if value is None:
            value = f"evaluate:{made['dataset']}"
            others = [f"--config.target_model=zoo:{made['target']}", *others]
    if value is None and not pathlib.Path(folder, "config.json").is_file():
        exit_with_error(
            f"{folder} is not the workdir of a run; for a saved generator give its "
            f"data set: `advgan-jax evaluate {folder} --config=evaluate:DATASET`, such "
            "as `evaluate:digits`, and the model by `--config.target_model`."
        )
    levels = [f"--config.evaluation.levels={own.levels}"] if own.levels else []
    found = f"--config={value or f'evaluate:{folder}'}"
    return [found, *others, f"--config.generator_dir={folder}", *levels]


def _known(
    arguments: Sequence[str], *names: str
) -> tuple[argparse.Namespace, list[str]]:
    """Return the values of a command's own flags, and the other arguments."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False
    )
    for name in names:
        parser.add_argument(f"--{name}")
    try:
        return parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        exit_with_error(error)


def with_scale(
    arguments: Sequence[str],
    choice: str,
    config_name: str,
    scales: Mapping[str, str],
) -> list[str]:
    """Return arguments with `--CHOICE` and `--scale` as flags of a configuration.

    `choice` is a field such as `study`; `scales` maps each scale to a variant of the
    configuration `config_name`. A wrong scale ends the process.
    """
    own, rest = _known(arguments, choice, "scale")
    chosen = getattr(own, choice)
    given, _ = split(rest)
    if own.scale is not None and own.scale not in scales:
        exit_with_error(unknown_name("scale", own.scale, scales))
    if given and own.scale:
        exit_with_error("--scale chooses the configuration; omit it with --config.")
    config = [] if given else [f"--config={config_name}:{scales[own.scale or 'cpu']}"]
    selected = [f"--config.{choice}={chosen}"] if chosen else []
    return [*config, *rest, *selected]


def with_attacks(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of `attack` with `--attacks=NAME,...` as a setting."""
    own, rest = _known(arguments, "attacks")
    if own.attacks is None:
        return list(arguments)
    value, others = split(rest)
    names = tuple(name.strip() for name in own.attacks.split(","))
    return [f"--config={value or 'attacks'}", *others, f"--config.names={names}"]
