"""Adversarial images from a generator: images per second, beside PyTorch.

    python benchmarks/generation.py
    python benchmarks/generation.py --onnx=generator.onnx

1,000 and 10,000 MNIST-sized images: warm, 10,000 in each turn, and the first call of so
many, with all that has to be compiled and nothing from a cache on disk. Then batches of
1 to 8192 (or `--batches`). Ours in float32 and with the network in bfloat16; images lie
on the device before, and stay there. Time does not depend on weights or pixels, so both
are random. Rivals take turns and use all cores.
`benchmarks/export_onnx.py` makes the file for ONNX Runtime: the graph that jax2onnx
writes, whose normalisations are spelled out and whose convolutions are transposed.
"""

import time
from functools import partial

import _measure
import _targets
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from advgan_jax import attacks, build, data
from advgan_jax.training import advgan

_BATCHES = flags.DEFINE_list(
    "batches", ["1", "8", "32", "128", "512", "2048", "8192"], "Batch sizes."
)
_ONNX = flags.DEFINE_string("onnx", None, "A generator, exported.")

_MOST_CALLS = 500  # of batch 1, in a turn


def ours(precision="float32"):
    """Our attack, not yet compiled, as `images -> adversarial images`.

    Under `jit`, as one calls it who makes many: no pixel is checked on the host, and
    the rivals check none.
    """
    generator = _targets.generator()
    fresh = jnp.zeros((1, *_targets.MNIST))
    params = generator.init(jax.random.key(0), fresh)["params"]
    generator_fn = advgan.make_generator_fn(build.mixed_module(precision, generator))
    attack = attacks.generator_attack(generator_fn, params, epsilon=_targets.EPSILON)
    return jax.jit(lambda images: attack(_targets.unseen, images))


def pytorch():
    import torch
    from _torch_advgan import generator, perturb

    net = generator()

    @torch.no_grad()
    def generate(images):
        return perturb(net, images, _targets.EPSILON)[0]

    return generate


def onnx():
    import onnxruntime

    session = onnxruntime.InferenceSession(
        _ONNX.value, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _inputs(who, images):
    """Images as a rival takes them."""
    if who == "PyTorch":
        from _torch_nets import to_torch

        return to_torch(images)
    return images if who == "ONNX Runtime" else jnp.asarray(images)


def _makers():
    found = {
        _measure.OURS: ours,
        f"{_measure.OURS}, bfloat16": partial(ours, "bfloat16"),
    }
    if "pytorch" in _measure.RIVALS.value:
        # Before any clock runs: JAX is imported already.
        import torch  # noqa: F401

        found["PyTorch"] = pytorch
    if _ONNX.value:
        import onnxruntime  # noqa: F401

        found["ONNX Runtime"] = onnx
    return found


def _thunks(generators, images, size):
    """For each generator a function that goes through all images, `size` at a time."""

    def thunk(generate, chunks):
        return lambda: jax.block_until_ready([generate(chunk) for chunk in chunks])

    chunks = np.split(images, len(images) // size)
    return {
        who: thunk(generate, [_inputs(who.split(",")[0], c) for c in chunks])
        for who, generate in generators.items()
    }


def at_once(count):
    """So many images in one call, and how long the first took.

    A single call of 1,000 would be over while the threads of the last rival still spin.
    """
    total = _measure.smaller(10_000, count)
    images = data.to_float(_targets.noise(_targets.MNIST, total).test.images)
    generators, cold = {}, {}
    for who, make in _makers().items():
        start = time.perf_counter()
        generators[who] = make()
        _thunks({who: generators[who]}, images[:count], count)[who]()
        cold[who] = time.perf_counter() - start
    thunks = _thunks(generators, images, count)
    rows = _measure.compare(f"generate {count} images", thunks, total)
    first = [
        {
            "benchmark": f"generate {count} images, first call",
            "who": who,
            "seconds": seconds,
            "images/s": count / seconds,
            "times ours": seconds / cold[_measure.OURS],
        }
        for who, seconds in cold.items()
    ]
    return rows + first


def in_batches(size, total):
    """Many images, a batch at a time."""
    count = size * min(-(-total // size), _MOST_CALLS)
    images = data.to_float(_targets.noise(_targets.MNIST, count).test.images)
    generators = {who: make() for who, make in _makers().items()}
    thunks = _thunks(generators, images, size)
    return _measure.compare(f"generate, batch {size}", thunks, count)


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    environment = _measure.environment()
    jax.config.update("jax_enable_compilation_cache", False)
    rows = []
    for count in _measure.smaller((1000, 10_000), (20,)):
        rows += at_once(count)
    for size in map(int, _measure.smaller(_BATCHES.value, ("1", "8"))):
        rows += in_batches(size, _measure.smaller(10_000, 16))
    figures = _measure.versus(rows, "images/s")
    _measure.report(environment, rows, figures)


if __name__ == "__main__":
    app.run(main)
