"""Where a step of a target model goes: its convolutions, forwards and backwards.

    python benchmarks/convolutions.py
    python benchmarks/convolutions.py --model=A --batch=64

Each convolution of model C (or A), without padding, in batches of 128: forward, the
gradient of its images and that of its kernel, ours beside XLA's, and how much of a
matrix product's speed ours reach. Products that only meet the padding of a gradient of
images are not counted, so it cannot reach all of it. In the last row stands a whole
step of training, which needs no gradient of the first one's images. On a CPU alone: on
other platforms ours are XLA's.
"""

import _measure
import _targets
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
    """What a step computes of a convolution, and what from."""

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
    """A whole step of the model's training."""
    model, optimizer = models.make_classifier(_MODEL.value, 10), optax.adam(1e-3)
    batch = noise_batch(_targets.MNIST, size)
    state = classifier.init_state(model, optimizer, jax.random.key(0), _targets.MNIST)
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
