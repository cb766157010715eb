"""Measure the accuracy of the classifier of the flags on a file of images."""

from absl import flags

from advgan_jax.cli import faults
from advgan_jax.cpu import process
from advgan_jax.runs.methods import challenge


def run() -> None:
    """Run the measurement, as a command."""
    faults.run(main, "Run the same command again to resume.")


def main(argv: list[str]) -> None:
    """Check the file, evaluate the classifier and print three numbers."""
    del argv
    faults.quiet_libraries()
    process.compute_in_caller()
    process.set_compilation_cache(flags.FLAGS.compilation_cache)
    process.keep_memory()
    found = challenge.measure_file(flags.FLAGS.config, flags.FLAGS.file)
    print(f"clean accuracy         {found.clean_accuracy:.2%}")
    print(f"accuracy on the file   {found.robust_accuracy:.2%}")
    print(f"largest perturbation   {found.linf.max():.6f}")
