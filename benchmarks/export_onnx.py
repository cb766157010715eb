"""A generator as an ONNX file, for `generation.py --onnx=FILE`.

    python -m venv onnx
    onnx/bin/python -m pip install jax2onnx==0.17.1 onnxruntime==1.32.0
    PYTHONPATH=. onnx/bin/python benchmarks/export_onnx.py generator.onnx

An environment of its own, for jax2onnx wants another Orbax than this package. The
weights are random: time does not depend on them. A file is written only if ONNX Runtime
agrees with JAX on random images. It takes batches of any size.
"""

import pathlib
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from jax import export
from jax.extend.core import jaxpr_as_fun
from jax2onnx import to_onnx

from advgan_jax import models
from advgan_jax.projections import perturb

EPSILON = 0.3


def traced(fn, images):
    """The same function of one array, with nothing of Flax left in it.

    While jax2onnx traces, it swaps Flax's layers and `jnp.shape` for its own, and with
    that one Flax's convolution of a dilated input fails. It knows all of `lax`, so it
    gets what was traced before. That is faster in ONNX Runtime too.
    """
    # Only on a CPU `layers` take convolutions apart, into what suits XLA there.
    with mock.patch("jax.default_backend", return_value="gpu"):
        closed = jax.make_jaxpr(fn)(images)
    return lambda x: jaxpr_as_fun(closed)(x)[0]


def check(model, adversarial):
    """Raises `AssertionError` if ONNX Runtime and JAX disagree on random images.

    Returns:
      The greatest difference of a pixel.
    """
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name, worst = session.get_inputs()[0].name, 0.0
    for size in (1, 5, 300):
        images = np.random.default_rng(size).random((size, 28, 28, 1), np.float32)
        found, expected = session.run(None, {name: images})[0], adversarial(images)
        # Sums in another order, through 13 normalised layers; 3e-7 was found.
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)
        worst = max(worst, np.abs(found - expected).max())
    return worst


def main(path):
    generator = models.Generator(epsilon=EPSILON)
    params = generator.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))

    def adversarial(images):
        return perturb(images, generator.apply(params, images), EPSILON, (0.0, 1.0))

    def clipped(images):
        # Enough, as the generator keeps to epsilon, and what PyTorch does. `perturb`
        # keeps to it to the last bit, with what takes half the time in ONNX Runtime.
        return jnp.clip(images + generator.apply(params, images), 0.0, 1.0)

    (batch,) = export.symbolic_shape("B")
    images = jax.ShapeDtypeStruct((batch, 28, 28, 1), jnp.float32)
    model = to_onnx(traced(clipped, images), inputs=[images], return_mode="proto")
    worst = check(model, adversarial)
    pathlib.Path(path).write_bytes(model.SerializeToString())
    print(f"wrote {path}; differs from JAX by at most {worst:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
