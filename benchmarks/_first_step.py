"""Runs an experiment up to its first training step, and leaves.

python benchmarks/_first_step.py experiments/train.py --config=configs/advgan.py
"""

import os
import pathlib
import runpy
import sys

import jax

from advgan_jax import parallel

_compile_steps = parallel.compile_steps


def _leave_after_first(*args, **options):
    run = _compile_steps(*args, **options)

    def first(*args):
        jax.block_until_ready(run(*args))
        # Nothing is to be saved or closed: that is no part of the start.
        os._exit(0)

    return first


parallel.compile_steps = _leave_after_first
sys.argv = sys.argv[1:]
sys.path.insert(0, str(pathlib.Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
sys.exit("The experiment made no training step.")
