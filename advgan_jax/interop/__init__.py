"""Models of other libraries as models of this one, and its attacks in other libraries.

| from | call |
|---|---|
| Flax Linen | `from_linen` |
| Flax NNX, in evaluation mode | as it is |
| Equinox | `from_equinox` |
| Haiku | `jax.tree_util.Partial(transformed.apply, params, None)` |
| Keras 3 on JAX | `from_keras` |
| PyTorch | `from_torch` |
| ONNX | `from_onnx` |
| scikit-learn, any NumPy function | `from_host` |

`as_foolbox_attack`, `as_art_attack` and `as_torch_attack` make attacks of other
libraries, and `push_to_hub` uploads a trained generator. Each library is imported when
its function is called.
"""

from advgan_jax.interop.host import from_host
from advgan_jax.interop.hub import push_to_hub
from advgan_jax.interop.jax_models import from_equinox, from_keras, from_linen
from advgan_jax.interop.onnx import from_onnx
from advgan_jax.interop.other_libraries import (
    as_art_attack,
    as_foolbox_attack,
    as_torch_attack,
)
from advgan_jax.interop.preprocessing import preprocessed
from advgan_jax.interop.pytorch import from_torch

__all__ = [
    "as_art_attack",
    "as_foolbox_attack",
    "as_torch_attack",
    "from_equinox",
    "from_host",
    "from_keras",
    "from_linen",
    "from_onnx",
    "from_torch",
    "preprocessed",
    "push_to_hub",
]
