"""Trained generators: attacks that need one forward pass and no model.

`TrainedGenerator` is what every training of a generator returns. `load_generator`
reads it from the checkpoints of a run.
"""

from advgan_jax.generators.from_checkpoints import (
    describe_generator,
    find_threat_model,
    from_description,
    is_saved,
    load_generator,
)
from advgan_jax.generators.modules import describe_module
from advgan_jax.generators.record import TrainedOn
from advgan_jax.generators.trained import TrainedGenerator

__all__ = [
    "TrainedGenerator",
    "TrainedOn",
    "describe_generator",
    "describe_module",
    "find_threat_model",
    "from_description",
    "is_saved",
    "load_generator",
]
