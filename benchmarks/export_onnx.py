"""Export a generator as an ONNX file, for `generation.py --onnx=FILE`.

    python -m venv onnx
    onnx/bin/python -m pip install jax2onnx==0.17.1 onnxruntime==1.32.0
    PYTHONPATH=. onnx/bin/python benchmarks/export_onnx.py generator.onnx

It needs its own environment, because jax2onnx requires another version of Orbax. The
weights are random, because run time does not depend on them. The file takes batches of
any size. It is written only if ONNX Runtime agrees with JAX on random images.
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
    """Return the same function of one array, traced to `lax` operations.

    While jax2onnx traces, it replaces Flax's layers and `jnp.shape` by its own, and
    with its `jnp.shape` Flax's convolution of a dilated input fails. It supports all of
    `lax`, so it gets a traced function. That is faster in ONNX Runtime too.
    """
    # On a CPU, `cpu.layers` split convolutions into operations that suit XLA there.
    with mock.patch("jax.default_backend", return_value="gpu"):
        closed = jax.make_jaxpr(fn)(images)
    return lambda x: jaxpr_as_fun(closed)(x)[0]


def check(model, adversarial):
    """Check that ONNX Runtime and JAX agree on random images.

    Returns:
      The largest difference of a pixel.

    Raises:
      AssertionError: if they disagree.
    """
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name, worst = session.get_inputs()[0].name, 0.0
    for size in (1, 5, 300):
        images = np.random.default_rng(size).random((size, 28, 28, 1), np.float32)
        found, expected = session.run(None, {name: images})[0], adversarial(images)
        # Sums in another order, through 13 normalised layers; 3e-7 was measured.
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)
        worst = max(worst, np.abs(found - expected).max())
    return worst


def main(path):
    generator = models.Generator(epsilon=EPSILON)
    params = generator.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))

    def adversarial(images):
        return perturb(images, generator.apply(params, images), EPSILON, (0.0, 1.0))

    def clipped(images):
        # Enough, because the generator bounds its output by epsilon; PyTorch does the
        # same. `perturb` is exact to the last bit, at half of ONNX Runtime's time.
        return jnp.clip(images + generator.apply(params, images), 0.0, 1.0)

    (batch,) = export.symbolic_shape("B")
    images = jax.ShapeDtypeStruct((batch, 28, 28, 1), jnp.float32)
    model = to_onnx(traced(clipped, images), inputs=[images], return_mode="proto")
    worst = check(model, adversarial)
    pathlib.Path(path).write_bytes(model.SerializeToString())
    print(f"wrote {path}; differs from JAX by at most {worst:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
