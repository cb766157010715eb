"""Solve many small optimisation problems at once, independent of attacks."""

from advgan_jax.optimizers.box_lbfgs import converged, init, minimize, step
from advgan_jax.optimizers.box_problem import BoxLBFGSResult, Options, State, Status
from advgan_jax.optimizers.box_step import begin, propose, revise, running, update

__all__ = [
    "BoxLBFGSResult",
    "Options",
    "State",
    "Status",
    "begin",
    "converged",
    "init",
    "minimize",
    "propose",
    "revise",
    "running",
    "step",
    "update",
]
