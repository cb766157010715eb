"""Generator-based adversarial attacks as pure functions of JAX.

`attacks` holds the attacks, `models` the networks of the papers, `oracles` what makes
black boxes of them, `data` the data sets, `training` pure training steps, `analysis`
bounds of layers and what units respond to, and `evaluation` what measures an attack.
`load_generator` turns the checkpoint of a trained generator into an attack.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = [
    "analysis",
    "attacks",
    "data",
    "evaluation",
    "load_generator",
    "models",
    "oracles",
    "training",
]

if TYPE_CHECKING:
    from advgan_jax import (
        analysis,
        attacks,
        data,
        evaluation,
        models,
        oracles,
        training,
    )
    from advgan_jax.runs.from_config import load_generator


def __getattr__(name: str) -> Any:
    """Imports a part when it is first used: importing the package stays cheap."""
    import importlib

    if name == "load_generator":
        return importlib.import_module("advgan_jax.runs.from_config").load_generator
    if name in __all__:
        return importlib.import_module(f"advgan_jax.{name}")
    raise AttributeError(f"module 'advgan_jax' has no attribute {name!r}")
