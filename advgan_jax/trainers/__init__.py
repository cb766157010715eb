"""Train a generator against any model by one call.

Each function takes a frozen model, or an oracle, and images. It returns a
`generators.TrainedGenerator`. `defaults` chooses what a caller omits, and `Options`
has what all of them share: folders, devices, progress.
"""

from advgan_jax.trainers.advgan import train_advgan
from advgan_jax.trainers.aigan import train_aigan
from advgan_jax.trainers.blackbox import train_blackbox
from advgan_jax.trainers.checkpointed import Options, Stopped

__all__ = ["Options", "Stopped", "train_advgan", "train_aigan", "train_blackbox"]
