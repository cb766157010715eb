"""Measure where a step of a target model spends its time: its convolutions, one by one.

    python benchmarks/convolutions.py
    python benchmarks/convolutions.py --model=A --batch=64

Measures each convolution of model C (or A), without padding, in batches of 128: the
forward pass, the gradient of its images and that of its kernel. Rows compare ours with
XLA's and state the share of a matrix product's speed. That share cannot reach 1 for the
gradient of images, because products that only meet padding are not counted. The last
row is a whole training step, which needs no gradient of the first convolution's images.
Ours differ from XLA's on a CPU only.
"""

import _measure
import _task
import jax
import optax
from absl import app, flags
from jax import lax
from roofline import BATCH, median_seconds, noise_batch, peak_flops, start

from advgan_jax import models
from advgan_jax.cpu.conv2d import NHWC, conv2d
from advgan_jax.training import classifier

# Side of the images, channels, filters and side of the kernel.
LAYERS = {
    "A": ((28, 1, 64, 5), (24, 64, 64, 5)),
    "C": ((28, 1, 32, 3), (26, 32, 32, 3), (12, 32, 64, 3), (10, 64, 64, 3)),
}
_MODEL = flags.DEFINE_enum("model", "C", list(LAYERS), "Whose convolutions.")


def xlas(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=NHWC)


def parts(convolve, x, kernel, slopes):
    """Return the three computations of a convolution in a step, with arguments."""

    def images(kernel, slopes):
        return jax.vjp(lambda x: convolve(x, kernel), x)[1](slopes)

    def kernels(x, slopes):
        return jax.vjp(lambda kernel: convolve(x, kernel), kernel)[1](slopes)

    return {
        "forward": (convolve, (x, kernel)),
        "gradient of images": (images, (kernel, slopes)),
        "gradient of kernel": (kernels, (x, slopes)),
    }


def rows_of(side, channels, filters, width, size, peak):
    draw = jax.random.split(jax.random.key(0), 3)
    out = side - width + 1
    shapes = (
        (size, side, side, channels),
        (width, width, channels, filters),
        (size, out, out, filters),
    )
    arrays = [jax.random.normal(*pair) for pair in zip(draw, shapes, strict=True)]
    flops = 2 * size * out**2 * width**2 * channels * filters
    name = f"{width}x{width}, {side}x{side}x{channels} to {filters}"
    ours, theirs = (parts(convolve, *arrays) for convolve in (conv2d, xlas))
    found = []
    for part in ours:
        took, other = (median_seconds(*those[part]) for those in (ours, theirs))
        found.append(
            {
                "benchmark": f"{name}, {part}",
                "who": _measure.OURS,
                "seconds": took,
                "GFLOP/s": flops / took / 1e9,
                "of peak product": flops / took / peak,
                "XLA's": other,
            }
        )
    return found


def step_seconds(size):
    """Return the seconds of a training step of the model."""
    model, optimizer = models.make_classifier(_MODEL.value, 10), optax.adam(1e-3)
    batch = noise_batch(_task.MNIST, size)
    state = classifier.init_state(model, optimizer, jax.random.key(0), _task.MNIST)
    return median_seconds(classifier.make_train_step(model, optimizer), (state, batch))


def main(argv):
    del argv
    environment = start()
    size, peak = _measure.smaller(BATCH.value, 4), peak_flops()
    print(f"product {peak / 1e9:.1f} GFLOP/s")
    rows = [
        row for layer in LAYERS[_MODEL.value] for row in rows_of(*layer, size, peak)
    ]
    step = f"model {_MODEL.value} step, batch {size}"
    rows.append(
        {"benchmark": step, "who": _measure.OURS, "seconds": step_seconds(size)}
    )
    figures = [_measure.figure(r["benchmark"], r["seconds"], "seconds") for r in rows]
    _measure.report(environment | {"peak FLOP/s": peak}, rows, figures)


if __name__ == "__main__":
    app.run(main)
