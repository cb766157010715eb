"""Train AdvGAN's generator against any model."""

from typing import Any

import flax.linen as nn
import optax
from jax.typing import ArrayLike

from advgan_jax import models
from advgan_jax.checks import check_class
from advgan_jax.data import Split
from advgan_jax.generators import TrainedGenerator
from advgan_jax.trainers.problem import make_problem
from advgan_jax.trainers.session import begin, make_networks
from advgan_jax.training import advgan
from advgan_jax.types import Array, Bounds, LogitsFn


def train_advgan(
    logits_fn: LogitsFn,
    images: ArrayLike | Split,
    labels: ArrayLike | None = None,
    *,
    epsilon: float,
    key: Array,
    target_class: int | None = None,
    bounds: Bounds = (0.0, 1.0),
    num_epochs: int | None = None,
    batch_size: int | None = None,
    generator: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    generator_optimizer: optax.GradientTransformation | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    **options: Any,
) -> TrainedGenerator:
    """Train a generator that fools a model in one forward pass.

    Args:
      logits_fn: the frozen model, images `[B, H, W, C]` within `bounds` to logits
        `[B, K]`: a function, a `jax.tree_util.Partial`, a Flax NNX module in evaluation
        mode. It needs gradients.
      images: training images `[N, H, W, C]`, of any size and number of channels, float
        within `bounds` or uint8 (0 to 255 mean `bounds`); or a `data.Split`.
      labels: true classes, int `[N]`; None means the model's predictions.
      epsilon: L-infinity bound of the perturbation, in pixel units of `bounds`.
      key: typed PRNG key; it decides weights and order.
      target_class: the class to reach; None for an untargeted attack.
      bounds: the least and the greatest pixel value.
      num_epochs: passes through the images; see `trainers.defaults` for this and all
        below.
      batch_size: images in a step.
      generator: a Flax Linen module, images in [0, 1] to perturbations of their shape.
      discriminator: a Flax Linen module, images in [0, 1] to scores `[B]`.
      generator_optimizer: any optax optimiser.
      discriminator_optimizer: any optax optimiser.
      **options: `workdir`, `callback`, `progress`, `parallel` and others of
        `trainers.Options`; and weights and names of the losses, such as
        `gan_weight=0.1`, see `training.advgan.AdvGANObjective`.

    Returns:
      The generator, an attack.

    Raises:
      DivergenceError: if a metric or a weight is not finite.
      Stopped: if a signal interrupts a training with a `workdir`, which then resumes.
      TypeError: for an unknown option, or a wrong dtype.
      ValueError: for wrong shapes, pixels, classes or settings; or if the `workdir`
        holds a training with other settings.

    References:
      Xiao et al., 2018 (https://arxiv.org/abs/1801.02610).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import advgan_jax
      >>> weights = jax.random.normal(jax.random.key(0), (64, 10))
      >>> model = lambda images: images.reshape(len(images), -1) @ weights
      >>> images = jax.random.uniform(jax.random.key(1), (64, 8, 8, 1))
      >>> generator = advgan_jax.train_advgan(
      ...     model, images, epsilon=0.3, key=jax.random.key(2), num_epochs=1
      ... )
      >>> adversarial = generator.perturb(images)
      >>> bool(jnp.abs(adversarial - images).max() <= 0.3)
      True
    """
    problem = make_problem(logits_fn, images, labels, epsilon=epsilon, bounds=bounds)
    shared: Any = {"key": key, "batch_size": batch_size, "options": options}
    session = begin(train_advgan, advgan.AdvGANObjective, problem, **shared)
    chosen = session.chosen
    check_class(target_class, problem.num_classes)
    plan = session.plan(chosen.num_epochs if num_epochs is None else num_epochs)
    networks = make_networks(
        session,
        generator or models.Generator(problem.epsilon, chosen.widths),
        discriminator,
        (generator_optimizer, discriminator_optimizer),
        plan.num_steps,
    )
    objective = advgan.AdvGANObjective(problem.epsilon, target_class, **session.loss)
    state = advgan.init_state(networks, key, problem.images.image_shape)
    settings = {"target_class": target_class, "num_epochs": plan.num_epochs}
    state = session.train(
        state,
        lambda mixed: advgan.make_train_step(mixed, objective),
        networks,
        plan,
        description=session.describe("advgan", networks, state, **settings),
        title="AdvGAN",
    )
    params = state.generator.params
    return session.finish(networks.generator, params, target_class=target_class)
