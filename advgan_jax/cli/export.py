"""Save the generator of a run, a folder or the zoo as a folder or as a program."""

from collections.abc import Sequence

from advgan_jax.cli.errors import Parser, exit_with_error

FORMATS = ("folder", "stablehlo", "onnx")


def run(given: Sequence[str]) -> None:
    """Run the export, as a command."""
    parser = Parser("export")
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", metavar="PATH", required=True)
    chosen = parser.parse_args(given)
    print(f"exporting the generator of {chosen.folder} to {chosen.out}", flush=True)
    try:
        _export(chosen.folder, chosen.format, chosen.out)
    # The messages contain the cure. This command runs where training cannot, so it
    # does not import `faults`.
    except (ImportError, OSError, TypeError, ValueError) as error:
        exit_with_error(error)
    print(f"{chosen.out} is complete ({chosen.format})")


def _export(folder: str, form: str, path: str) -> None:
    from advgan_jax import zoo
    from advgan_jax.generators import load_generator

    generator = load_generator(zoo.find(folder))
    if form == "folder":
        generator.save(path)
    else:
        generator.export(path, form)
