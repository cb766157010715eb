r"""Measure how run time grows with problem size, and compare with the expected power.

    python benchmarks/growth.py --plot=benchmarks/results/growth.png

.. math:: t \propto n^p

The power p is the slope of a straight line through the logarithms. A second figure is
the largest factor between a time and that line. Each call has a fixed cost, which
flattens the line at small sizes; the JSON file has every time. Pixels and weights are
random, the target model is the small one, and the step is AdvGAN's unless stated.

Devices are virtual and share the same cores; each number of them runs in its own
process. The same batch on more devices should take as long as on one.
"""

import json
import os
import pathlib
import subprocess
import sys
from functools import partial

import _measure
import _task
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from matplotlib.figure import Figure
from roofline import aigan_networks

from advgan_jax import data, parallel
from advgan_jax.cpu import process
from advgan_jax.generators import TrainedGenerator
from advgan_jax.reporting import save_figure
from advgan_jax.reporting.style import style_axis
from advgan_jax.training import advgan, aigan, fit

_PLOT = flags.DEFINE_string("plot", None, "Write a plot of all lines to this PNG file.")
_CHILD = flags.DEFINE_integer("devices_child", 0, "Used by the script itself.")
_SIDE, _BATCH = 28, 128


def _stepper(step, state, dataset, batch, num_classes, mode="jit"):
    """Return a thunk that makes one training step after another."""
    target = _task.untrained("small", dataset.train.image_shape, num_classes)
    run, held = parallel.compile_steps(step, mode=mode), [state]
    pixels, rows = fit.on_device(dataset.train), np.arange(batch)[None]

    def one():
        held[0], metrics = run(held[0], pixels, rows, target)
        return jax.block_until_ready(metrics)

    return one


def advgan_step(*, batch=_BATCH, side=_SIDE, width=8, mode="jit"):
    batch, side = (_measure.smaller(n, min(n, 16)) for n in (batch, side))
    shape = (side, side, 1)
    networks = _task.networks((width, 2 * width, 4 * width))
    state = advgan.init_state(networks, jax.random.key(0), shape)
    step = advgan.make_train_step(networks, advgan.AdvGANObjective(_task.EPSILON))
    return _stepper(step, state, _task.noise(shape, batch), batch, 10, mode)


def aigan_step(num_classes):
    side, batch = _measure.smaller((_SIDE, _BATCH), (8, 4))
    dataset = _task.noise((side, side, 1), batch, num_classes)
    networks = aigan_networks(num_classes)
    objective = aigan.AIGANObjective(_task.EPSILON, num_classes)
    state = aigan.init_state(networks, jax.random.key(0), (side, side, 1))
    step = aigan.make_second_step(networks, objective)
    return _stepper(step, state, dataset, batch, num_classes)


def generation(count):
    """Return a thunk that makes `count` images in batches of a fixed size."""
    size = _measure.smaller(500, 4)
    generator = _task.generator()
    shape = _measure.smaller(_task.MNIST, (8, 8, 1))
    params = generator.init(jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    attack = TrainedGenerator(
        generator, params, epsilon=_task.EPSILON, image_shape=shape, num_classes=10
    )
    images = jnp.asarray(data.to_float(_task.noise(shape, size).test.images))
    calls = count // size
    return lambda: jax.block_until_ready([attack.perturb(images) for _ in range(calls)])


def _seconds(make, size):
    thunks = {"it": make(size)}
    return _measure.in_turns(thunks, _measure.smaller(7, 1))[0]["it"]


def _seconds_on_devices(count):
    """Measure in its own process, because JAX fixes the number of devices at start."""
    flag = f"--xla_force_host_platform_device_count={count}"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}",
    }
    command = [sys.executable, __file__, f"--devices_child={count}"]
    command += ["--smoke"] if _measure.SMOKE.value else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{count} devices failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# By what grows: the expected power, sizes, tiny sizes, and a timer of one size.
PARTS = {
    "images": (1, (1000, 2000, 4000, 8000), (4, 8), partial(_seconds, generation)),
    "batch": (
        1,
        (32, 64, 128, 256, 512),
        (2, 4),
        partial(_seconds, lambda n: advgan_step(batch=n)),
    ),
    "side of the image": (
        2,
        (16, 24, 32, 48, 64),
        (8, 12),
        partial(_seconds, lambda n: advgan_step(side=n)),
    ),
    "filters": (
        2,
        (8, 16, 32, 64),
        (2, 4),
        partial(_seconds, lambda n: advgan_step(width=n)),
    ),
    "classes of AI-GAN": (0, (10, 20, 50, 100), (3, 5), partial(_seconds, aigan_step)),
    "devices": (0, (1, 2, 4, 8), (1, 2), _seconds_on_devices),
}


def _line(sizes, seconds):
    """Return slope and intercept of the line that fits the logarithms best."""
    return np.polyfit(np.log(sizes), np.log(seconds), 1)


def slope(sizes, seconds):
    """Return the power, the slope of that line."""
    return float(_line(sizes, seconds)[0])


def farthest(sizes, seconds):
    """Return the largest factor between a time and that line."""
    expected = np.polyval(_line(sizes, seconds), np.log(sizes))
    return float(np.exp(np.abs(expected - np.log(seconds)).max()))


def figures_of(name, power, sizes, seconds):
    """Return figures of the power, and of how well a power describes the times."""
    found = slope(sizes, seconds)
    named = f"growth with {name}"
    return [
        _measure.figure(named, found, "power", rival="expected", theirs=power),
        _measure.figure(f"{named}, off the line", farthest(sizes, seconds), "times"),
    ]


def draw(lines):
    """Plot a panel for each line, with the expected power dashed."""
    figure = Figure(figsize=(9.6, 2.9 * -(-len(lines) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(lines) // 3), 3, squeeze=False).ravel()
    for axis, (name, (power, sizes, seconds)) in zip(axes, lines.items(), strict=False):
        middle = np.exp([np.mean(np.log(sizes)), np.mean(np.log(seconds))])
        axis.loglog(sizes, seconds, "o-", ms=4, lw=1.4)
        ideal = middle[1] * (np.array(sizes) / middle[0]) ** power
        axis.loglog(sizes, ideal, "--", color="#888888", lw=1)
        found = slope(sizes, seconds)
        style_axis(axis, f"{name}\npower {found:.2f}, expected {power}")
        axis.set_ylabel("seconds", fontsize=8)
        # Depending on its range, a logarithmic axis labels too many ticks or none.
        axis.minorticks_off()
        axis.set_xticks(sizes, [str(n) for n in sizes], fontsize=8)
        ends = [min(seconds), max(seconds)]
        axis.set_yticks(ends, [f"{t:.2g}" for t in ends], fontsize=8)
        axis.set_ylim(ends[0] / 2, ends[1] * 2)
    for axis in axes[len(lines) :]:
        axis.remove()
    return figure


def main(argv):
    del argv
    logging.set_verbosity(logging.WARNING)
    process.compute_in_caller()
    process.keep_memory()
    if _CHILD.value:
        mode = "pmap" if _CHILD.value > 1 else "jit"
        print(json.dumps(_seconds(lambda _: advgan_step(mode=mode), _CHILD.value)))
        return
    environment = _measure.environment()
    lines, rows = {}, []
    for name, (power, sizes, tiny, measure) in _measure.chosen(PARTS).items():
        sizes = _measure.smaller(sizes, tiny)
        seconds = [measure(size) for size in sizes]
        lines[name] = (power, sizes, seconds)
        rows += [
            {"benchmark": f"growth with {name}", "size": n, "seconds": s}
            for n, s in zip(sizes, seconds, strict=True)
        ]
    figures = [one for name, line in lines.items() for one in figures_of(name, *line)]
    if _PLOT.value:
        save_figure(draw(lines), pathlib.Path(_PLOT.value))
    _measure.report(environment, rows, figures)


if __name__ == "__main__":
    app.run(main)
