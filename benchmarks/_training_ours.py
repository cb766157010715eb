"""The child process of `training` that makes our steps."""

import itertools

import _measure
import _success
import jax
import numpy as np
import optax

from advgan_jax import models, parallel
from advgan_jax.cpu import process
from advgan_jax.data import Split
from advgan_jax.training import advgan, classifier, fit, precision
from advgan_jax.training.gan import Networks

EPSILON = 0.3


def networks():
    """Return AdvGAN's networks, with the optimisers of the rival."""
    return Networks(
        models.Generator(EPSILON),
        models.Discriminator(),
        optax.adam(1e-3, b1=0.5),
        optax.adam(1e-3, b1=0.5),
    )


def advgan_of(target, shape, dtype):
    """Return state, step and frozen arguments of AdvGAN."""
    mixed = precision.mixed_networks(dtype, networks())
    target = precision.mixed_logits_fn(dtype, target)
    state = advgan.init_state(mixed, jax.random.key(0), shape)
    return (
        state,
        advgan.make_train_step(mixed, advgan.AdvGANObjective(EPSILON)),
        (target,),
    )


def classifier_of(target, shape, dtype):
    """Return state, step and frozen arguments of model C, with its dropout."""
    del target
    optimizer = optax.adam(1e-3)
    model = precision.mixed_module(dtype, models.make_classifier("C", 10))
    state = classifier.init_state(model, optimizer, jax.random.key(0), shape)
    return state, classifier.make_train_step(model, optimizer), ()


def steps_of(run, state, train, frozen, settings):
    """Return a turn that makes steps, starting where the last turn ended."""
    size, count = settings["size"], settings["steps"]
    per_call = min(parallel.default_steps_per_call(), count)
    if count % per_call:
        raise ValueError(f"`--steps` must be a multiple of {per_call}, got {count}.")
    images = fit.on_device(train)
    rows = np.resize(np.arange(len(train)), (-(-len(train) // size), size))
    batches = itertools.cycle(rows)

    def turn():
        nonlocal state
        for _ in range(count // per_call):
            call = np.stack(list(itertools.islice(batches, per_call)))
            state, metrics = run(state, images, call, *frozen)
        jax.block_until_ready(metrics)

    return turn


def epochs_of(run, state, train, frozen, settings):
    """Return a turn that is one epoch, with the images of so many steps."""
    count, size = settings["steps"] * settings["size"], settings["size"]
    # A real set may have too few images for a large batch.
    some = Split(*train.rows(np.resize(np.arange(len(train)), count)))
    images = fit.on_device(some)
    per_call = parallel.default_steps_per_call()

    def turn():
        nonlocal state
        epoch = int(state.step) // settings["steps"] + 1
        plan = fit.Plan(count, size, epoch, per_call)
        key = jax.random.key(1)
        state, _ = fit.fit(state, run, images, plan, order_key=key, frozen=frozen)
        jax.block_until_ready(state.step)

    return turn


def main():
    settings, arrays, variables = _success.settings_and_task()
    if jax.config.jax_platforms in (None, "cpu"):
        process.split_cpu(settings["cut"])
        process.compute_in_caller()
    process.keep_memory()
    target = models.make_logits_fn(models.make_classifier("C", 10), variables)
    train = Split(arrays["train_images"], arrays["train_labels"])
    part = settings["part"]
    make = classifier_of if part == "classifier_step" else advgan_of
    state, step, frozen = make(target, train.image_shape, settings["dtype"])
    if settings["traced_as"]:
        step = _measure.traced_as(settings["traced_as"], step)
    run = parallel.compile_steps(step, mode="jit" if settings["cut"] == 1 else "auto")
    turns = epochs_of if part == "advgan_epoch" else steps_of
    _success.in_turns(turns(run, state, train, frozen, settings))


if __name__ == "__main__":
    main()
