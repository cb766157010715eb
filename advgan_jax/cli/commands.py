"""The sub-commands of `advgan-jax`: what each does, takes and prints as its help."""

from typing import NamedTuple


class Command(NamedTuple):
    """A sub-command.

    Attributes:
      summary: what it does, in one line.
      usage: its arguments.
      examples: three of them.
      configs: the configurations that it takes by name.
    """

    summary: str
    usage: str
    examples: tuple[str, str, str]
    configs: tuple[str, ...] = ()


_RUN = "--config=CONFIG[:VARIANT] [--config.KEY=VALUE ...] [options]"

COMMANDS: dict[str, Command] = {
    "train": Command(
        "train a generator or a target model, and evaluate it",
        _RUN,
        (
            "--config=advgan",
            "--config=advgan:mnist --config.epsilon=0.2 --workdir=runs/weaker",
            "--config=aigan --resume",
        ),
        ("advgan", "advgan_blackbox", "aigan", "defence", "generators", "target_model"),
    ),
    "attack": Command(
        "compare attacks on one target model",
        f"[--attacks=NAME,...] {_RUN}",
        (
            "--config=attacks",
            "--config=attacks:mnist --attacks=autoattack,pgd",
            "--config=attacks --config.attacks.pgd.num_steps=100 --workdir=runs/long",
        ),
        ("attacks", "query_frontier"),
    ),
    "evaluate": Command(
        "measure a trained generator on a data set and a target model",
        "FOLDER [--levels=256] [--config=evaluate[:VARIANT]] [--config.KEY=VALUE ...] "
        "[options]",
        (
            "runs/advgan-digits-small --levels=256",
            "runs/advgan-mnist-C --config.target_model=A",
            "zoo:advgan/digits",
        ),
        ("evaluate",),
    ),
    "export": Command(
        "save a trained generator as a folder or as a program",
        "FOLDER --format=folder|stablehlo|onnx --out=PATH",
        (
            "runs/advgan-digits-small --format=stablehlo --out=generator.stablehlo",
            "runs/advgan-digits-small --format=folder --out=generator",
            "zoo:advgan/digits --format=onnx --out=generator.onnx",
        ),
    ),
    "report": Command(
        "write the report of a run, or of several in comparison, as one HTML page",
        "WORKDIR... [--out=PATH]",
        (
            "runs/advgan-digits-small",
            "runs/advgan-digits-small --out=report.html",
            "runs/advgan-mnist-A runs/advgan-mnist-B --out=comparison.html",
        ),
    ),
    "reproduce": Command(
        "make the tables of the papers, with the published numbers",
        "--table=TABLE [--scale=smoke|cpu|full] [--config.KEY=VALUE ...] [options]",
        (
            "--table=all --scale=smoke",
            "--table=2 --scale=cpu --workdir=runs/tables",
            "--table=challenge --scale=full",
        ),
        ("reproduce",),
    ),
    "challenge": Command(
        "measure a classifier's accuracy on a file of adversarial images",
        "--config=defence[:VARIANT] --config.target_model_dir=DIR --file=FILE",
        (
            "--config=defence --config.target_model_dir=models --file=attack.npy",
            "--config=defence:mnist --config.target_model_dir=models --file=attack.npy",
            "--config=defence --config.epsilon=0.2 --config.target_model_dir=models "
            "--file=attack.npy",
        ),
        ("defence",),
    ),
    "szegedy": Command(
        'run the studies of "Intriguing properties of neural networks"',
        "--study=STUDY [--scale=smoke|cpu|full] [--config.KEY=VALUE ...] [options]",
        (
            "--study=all --scale=smoke",
            "--study=distortion --scale=cpu",
            "--study=units --scale=cpu --resume",
        ),
        ("szegedy",),
    ),
}
# The choice of the commands that make tables; see `arguments.with_scale`.
CHOICES = {"reproduce": "table", "szegedy": "study"}
SCALES = {"smoke": "smoke", "cpu": "mnist", "full": "full"}


def overview() -> str:
    """Return the list of the sub-commands."""
    lines = ["usage: advgan-jax COMMAND [arguments]", ""]
    lines += [f"  {name:<11}{one.summary}" for name, one in COMMANDS.items()]
    return "\n".join([*lines, "", "`advgan-jax COMMAND --help` shows examples."])


def usage(name: str) -> str:
    """Return how a sub-command is called, and three examples."""
    command = COMMANDS[name]
    lines = [f"usage: advgan-jax {name} {command.usage}", "", command.summary, ""]
    lines += [f"  advgan-jax {name} {example}" for example in command.examples]
    return "\n".join(lines)
