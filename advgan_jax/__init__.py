"""Generator-based adversarial attacks as pure functions of JAX.

`attacks` has the attacks, `models` the papers' networks, `oracles` turns a model into a
black box, `data` loads the data sets, `training` has pure training steps, `analysis`
bounds layers and explains units, and `evaluation` measures attacks. `load_generator`
returns a trained generator as an attack, from the checkpoints of a run.
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
    from advgan_jax.generators import load_generator


def __getattr__(name: str) -> Any:
    """Import a part on first use, so that `import advgan_jax` is fast."""
    import importlib

    if name == "load_generator":
        return importlib.import_module("advgan_jax.generators").load_generator
    if name in __all__:
        return importlib.import_module(f"advgan_jax.{name}")
    raise AttributeError(f"module 'advgan_jax' has no attribute {name!r}")
