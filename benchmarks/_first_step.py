"""Run an experiment up to its first training step, then exit.

python benchmarks/_first_step.py experiments/train.py --config=configs/advgan.py
"""

import os
import pathlib
import runpy
import sys

import jax

from advgan_jax import parallel

_compile_steps = parallel.compile_steps


def _exit_after_first(*args, **options):
    run = _compile_steps(*args, **options)

    def first(*args):
        jax.block_until_ready(run(*args))
        # Saving and closing are not part of the start.
        os._exit(0)

    return first


parallel.compile_steps = _exit_after_first
sys.argv = sys.argv[1:]
sys.path.insert(0, str(pathlib.Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
sys.exit("the experiment made no training step")
