"""Optimisers that solve many small problems at once; they know nothing of attacks."""

from advgan_jax.optimizers.box_lbfgs import converged, init, minimize, running, step
from advgan_jax.optimizers.box_problem import BoxLBFGSResult, Options, State, Status

__all__ = [
    "BoxLBFGSResult",
    "Options",
    "State",
    "Status",
    "converged",
    "init",
    "minimize",
    "running",
    "step",
]
