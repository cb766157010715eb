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


def networks(settings):
    """Return AdvGAN's networks, with the optimisers of the rival."""
    return Networks(
        models.Generator(settings["epsilon"], widths=tuple(settings["widths"])),
        models.Discriminator(),
        optax.adam(1e-3, b1=0.5),
        optax.adam(1e-3, b1=0.5),
    )


def advgan_of(variables, shape, settings):
    """Return state, step and frozen arguments of AdvGAN."""
    mixed = precision.mixed_networks(settings["dtype"], networks(settings))
    target = target_of(variables, shape, settings)
    target = precision.mixed_logits_fn(settings["dtype"], target)
    state = advgan.init_state(mixed, jax.random.key(0), shape)
    objective = advgan.AdvGANObjective(settings["epsilon"])
    return state, advgan.make_train_step(mixed, objective), (target,)


def target_of(variables, shape, settings):
    """Return model C with its weights, or ResNet-32 with random ones."""
    if settings["part"] != "resnet32_advgan_step":
        return models.make_logits_fn(models.make_classifier("C", 10), variables)
    model = models.make_classifier("resnet32", 10)
    random = model.init(jax.random.key(0), np.zeros((1, *shape), np.float32))
    return models.make_logits_fn(model, random)


def classifier_of(variables, shape, settings):
    """Return state, step and frozen arguments of a classifier in training."""
    del variables
    name, optimizer = "C", optax.adam(1e-3)  # with its dropout
    if settings["part"] == "resnet32_step":
        sgd = optax.sgd(0.1, momentum=0.9, nesterov=True)
        name, optimizer = "resnet32", optax.chain(optax.add_decayed_weights(5e-4), sgd)
    axis = None if settings["cut"] == 1 else parallel.axis_name("auto")
    model = models.make_classifier(name, 10, axis_name=axis)
    model = precision.mixed_module(settings["dtype"], model)
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
    train = Split(arrays["train_images"], arrays["train_labels"])
    part = settings["part"]
    of_classifier = part in ("classifier_step", "resnet32_step")
    make = classifier_of if of_classifier else advgan_of
    state, step, frozen = make(variables, train.image_shape, settings)
    if settings["traced_as"]:
        step = _measure.traced_as(settings["traced_as"], step)
    run = parallel.compile_steps(step, mode="jit" if settings["cut"] == 1 else "auto")
    turns = epochs_of if part == "advgan_epoch" else steps_of
    _success.in_turns(turns(run, state, train, frozen, settings))


if __name__ == "__main__":
    main()
