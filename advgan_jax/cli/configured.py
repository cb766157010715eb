"""Start a command that reads a configuration: its flags, then its imports."""

import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from advgan_jax import __version__
from advgan_jax.cli import arguments, commands, errors, options
from advgan_jax.cli.commands import COMMANDS


def run(name: str, given: Sequence[str]) -> None:
    """Parse the arguments of a command, announce what it does, and do it."""
    # ml_collections reads overrides of a configuration only from `sys.argv`.
    sys.argv = [sys.argv[0], *_with_config(name, given)]
    options.define(name)
    errors.parse(sys.argv)
    config: Any = flags.FLAGS.config
    named = [str(config.get(part, "")) for part in ("method", "dataset")]
    where = [] if name == "challenge" else [f"in {options.workdir()}"]
    print(f"advgan_jax {__version__}:", *named, *where, flush=True)
    if name == "challenge":
        from advgan_jax.cli import challenge

        challenge.run()
    else:
        from advgan_jax.cli import command

        command.run()


def describe(name: str) -> str:
    """Return the configurations and the options of a command, for its help."""
    described = options.define(name)
    lines = ["", "configurations:", *_list_configs(name), "", "options:"]
    for option in described:
        flag: Any = flags.FLAGS[option]
        shown = f"--{option}" if flag.boolean else f"--{option}=..."
        lines.append(f"  {shown:<24} {flag.help}")
    return "\n".join(lines)


def _with_config(name: str, given: Sequence[str]) -> list[str]:
    """Return the arguments, first of them `--config` with the path of a file."""
    if name in commands.CHOICES:
        choice = commands.CHOICES[name]
        given = arguments.with_scale(given, choice, name, commands.SCALES)
    if name == "evaluate":
        given = arguments.with_folder(given)
    if name == "attack":
        given = arguments.with_attacks(given)
    value, rest = arguments.split(given)
    if not value:
        print(f"`{name}` takes these configurations:", *_list_configs(name), sep="\n")
        sys.stdout.flush()
        errors.exit_with_error(
            "--config is missing; give a configuration, for example "
            f"`advgan-jax {name} {COMMANDS[name].examples[0]}`."
        )
    owners = {owner: command.configs for owner, command in COMMANDS.items()}
    return [f"--config={arguments.find(value, owners, name)}", *rest]


def _list_configs(name: str) -> list[str]:
    return [f"  {c:<16} {arguments.describe(c)}" for c in COMMANDS[name].configs]
