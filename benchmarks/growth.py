r"""How time grows with the size of a problem: does each fit its expected power?

    python benchmarks/growth.py --plot=benchmarks/results/growth.png

.. math:: t \propto n^p

The power p is the slope of a straight line through the logarithms; beside it stands how
far the times lie from that line at most. Small sizes pay for each call, which flattens
the line; the JSON has every time. Random pixels and weights, the small target model,
AdvGAN's step where nothing else is said.

Devices are virtual ones that share the same cores, each number of them in a process of
its own: the same batch on more devices should take as long as on one.
"""

import json
import os
import pathlib
import subprocess
import sys
from functools import partial

import _measure
import _targets
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from matplotlib.figure import Figure
from roofline import aigan_networks

from advgan_jax import attacks, data, parallel
from advgan_jax.cpu import process
from advgan_jax.reporting import save_figure
from advgan_jax.reporting.style import style_axis
from advgan_jax.training import advgan, aigan, fit

_PLOT = flags.DEFINE_string("plot", None, "A picture of all lines, as PNG.")
_CHILD = flags.DEFINE_integer("devices_child", 0, "Used by the script itself.")
_SIDE, _BATCH = 28, 128


def _stepper(step, state, dataset, batch, num_classes, mode="jit"):
    """A thunk that makes one training step after another."""
    target = _targets.untrained("small", dataset.train.image_shape, num_classes)
    run, held = parallel.compile_steps(step, mode=mode), [state]
    pixels, rows = fit.on_device(dataset.train), np.arange(batch)[None]

    def one():
        held[0], metrics = run(held[0], pixels, rows, target)
        return jax.block_until_ready(metrics)

    return one


def advgan_step(*, batch=_BATCH, side=_SIDE, width=8, mode="jit"):
    batch, side = (_measure.smaller(n, min(n, 16)) for n in (batch, side))
    shape = (side, side, 1)
    networks = _targets.networks((width, 2 * width, 4 * width))
    state = advgan.init_state(networks, jax.random.key(0), shape)
    step = advgan.make_train_step(networks, advgan.AdvGANObjective(_targets.EPSILON))
    return _stepper(step, state, _targets.noise(shape, batch), batch, 10, mode)


def aigan_step(num_classes):
    side, batch = _measure.smaller((_SIDE, _BATCH), (8, 4))
    dataset = _targets.noise((side, side, 1), batch, num_classes)
    networks = aigan_networks(num_classes)
    objective = aigan.AIGANObjective(_targets.EPSILON, num_classes)
    state = aigan.init_state(networks, jax.random.key(0), (side, side, 1))
    step = aigan.make_second_step(networks, objective)
    return _stepper(step, state, dataset, batch, num_classes)


def generation(count):
    """So many images, a batch of fixed size at a time."""
    size = _measure.smaller(500, 4)
    generator = _targets.generator()
    shape = _measure.smaller(_targets.MNIST, (8, 8, 1))
    params = generator.init(jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    attack = attacks.generator_attack(
        advgan.make_generator_fn(generator), params, epsilon=_targets.EPSILON
    )
    images = jnp.asarray(data.to_float(_targets.noise(shape, size).test.images))
    calls = count // size
    return lambda: jax.block_until_ready(
        [attack(_targets.unseen, images) for _ in range(calls)]
    )


def _seconds(make, size):
    thunks = {"it": make(size)}
    return _measure.in_turns(thunks, _measure.smaller(7, 1))[0]["it"]


def _seconds_on_devices(count):
    """A process of its own, for the number of devices is fixed when JAX starts."""
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


# What grows, the expected power, sizes (and tiny ones), and how to time one of them.
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
    """Of the line that fits best: its slope and where it begins."""
    return np.polyfit(np.log(sizes), np.log(seconds), 1)


def slope(sizes, seconds):
    """The power of that line."""
    return float(_line(sizes, seconds)[0])


def farthest(sizes, seconds):
    """The largest factor between a time and that line."""
    expected = np.polyval(_line(sizes, seconds), np.log(sizes))
    return float(np.exp(np.abs(expected - np.log(seconds)).max()))


def figures_of(name, power, sizes, seconds):
    """Its power beside the expected one, and how well a power describes it."""
    found = slope(sizes, seconds)
    named = f"growth with {name}"
    return [
        _measure.figure(named, found, "power", rival="expected", theirs=power),
        _measure.figure(f"{named}, off the line", farthest(sizes, seconds), "times"),
    ]


def draw(lines):
    """A panel for each line, with the expected power dashed through its middle."""
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
        # Of its own ticks a logarithmic axis writes too many or none, by its range.
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
