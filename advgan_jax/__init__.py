"""Generator-based adversarial attacks as pure functions of JAX.

`attacks` has the attacks, `models` the papers' networks, `oracles` turns a model into a
black box, `blackbox` attacks it, `data` loads the data sets, `training` has pure
training steps, `analysis` bounds layers and explains units, and `evaluation` measures
attacks.

`train_advgan`, `train_aigan` and `train_blackbox` train a generator against any model.
They return a `TrainedGenerator`, an attack that can be saved, loaded and exported.
`load_generator` reads one from the checkpoints of a run, and `zoo` has trained ones.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
# Functions and classes, by the part that has them.
_FROM = {
    "TrainedGenerator": "generators",
    "load_generator": "generators",
    "train_advgan": "trainers",
    "train_aigan": "trainers",
    "train_blackbox": "trainers",
}
__all__ = [
    "TrainedGenerator",
    "analysis",
    "attacks",
    "blackbox",
    "data",
    "evaluation",
    "interop",
    "load_generator",
    "models",
    "oracles",
    "train_advgan",
    "train_aigan",
    "train_blackbox",
    "trainers",
    "training",
    "zoo",
]

if TYPE_CHECKING:
    from advgan_jax import (
        analysis,
        attacks,
        blackbox,
        data,
        evaluation,
        interop,
        models,
        oracles,
        trainers,
        training,
        zoo,
    )
    from advgan_jax.generators import TrainedGenerator, load_generator
    from advgan_jax.trainers import train_advgan, train_aigan, train_blackbox


def __getattr__(name: str) -> Any:
    """Import a part on first use, so that `import advgan_jax` is fast."""
    import importlib

    if name in _FROM:
        return getattr(importlib.import_module(f"advgan_jax.{_FROM[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"advgan_jax.{name}")
    raise AttributeError(f"module 'advgan_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Show the public names, not the modules that happen to be imported."""
    return sorted(__all__)
