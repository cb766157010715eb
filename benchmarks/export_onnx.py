"""A generator as an ONNX file, for `generation.py --onnx=FILE`.

    python -m venv onnx && onnx/bin/python -m pip install jax2onnx onnxruntime
    PYTHONPATH=. onnx/bin/python benchmarks/export_onnx.py generator.onnx

An environment of its own, for jax2onnx wants another Orbax than this package. The
weights are random: time does not depend on them. What is written is checked against
JAX before it counts.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from jax2onnx import to_onnx

from advgan_jax import models
from advgan_jax.projections import perturb

EPSILON = 0.3


def main(path):
    generator = models.Generator(epsilon=EPSILON)
    params = generator.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))

    def adversarial(images):
        r = generator.apply(params, images)
        return perturb(images, r, EPSILON, (0.0, 1.0))

    to_onnx(
        adversarial,
        inputs=[("B", 28, 28, 1)],
        return_mode="file",
        output_path=path,
    )
    images = np.random.default_rng(0).random((5, 28, 28, 1)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images})[0]
    worst = np.abs(found - adversarial(images)).max()
    print(f"wrote {path}; differs from JAX by at most {worst:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
