"""Test AdvGAN's step: updated networks, their gradients, and that it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import losses, models, parallel
from advgan_jax.data import to_float
from advgan_jax.projections import perturb
from advgan_jax.training import advgan, fit
from advgan_jax.types import Batch


@functools.cache  # one object, so that its steps are compiled once
def networks(learning_rate=1e-3, optimizer=optax.sgd):
    return advgan.Networks(
        models.Generator(epsilon=0.3, widths=(4, 8, 8), num_residual=1),
        models.Discriminator(widths=(4, 8, 8)),
        optimizer(learning_rate),
        optimizer(learning_rate),
    )


@pytest.fixture(scope="module")
def batch(digits):
    return Batch(
        to_float(jnp.asarray(digits.train.images[:16])),
        jnp.asarray(digits.train.labels[:16]),
    )


def fresh(nets):
    return jax.jit(lambda key: advgan.init_state(nets, key, (8, 8, 1)))(
        jax.random.key(0)
    )


@functools.cache
def compiled(nets, objective):
    return jax.jit(advgan.make_train_step(nets, objective))


def moved(before, after):
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return any(not np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_step_follows_both_gradients_as_written_in_the_paper(batch, digits_logits_fn):
    """With SGD of rate 1, old minus new weights are the gradients."""
    nets, objective = networks(1.0), advgan.AdvGANObjective(epsilon=0.3, confidence=2.0)
    state = fresh(nets)
    new, _ = compiled(nets, objective)(state, batch, digits_logits_fn)

    def adversarial(params):
        r = nets.generator.apply({"params": params}, batch.images)
        return perturb(batch.images, r, 0.3, (0.0, 1.0))

    def score(params, images):
        return nets.discriminator.apply({"params": params}, images)

    def d_loss(params):
        fake = adversarial(state.generator.params)
        real_term = jnp.mean((score(params, batch.images) - 1) ** 2)
        return real_term + jnp.mean(score(params, fake) ** 2)

    def g_loss(params):
        x = adversarial(params)
        adv = losses.margin(digits_logits_fn(x), batch.labels, confidence=2.0)
        gan = (score(new.discriminator.params, x) - 1) ** 2
        norms = jnp.sqrt(jnp.sum((x - batch.images) ** 2, axis=(1, 2, 3)))
        hinged = jnp.maximum(0, norms - objective.hinge_bound)
        return jnp.mean(
            adv + objective.gan_weight * gan + objective.hinge_weight * hinged
        )

    for loss, net, after in (
        (d_loss, state.discriminator, new.discriminator),
        (g_loss, state.generator, new.generator),
    ):
        gradients = jax.jit(jax.grad(loss))(net.params)
        step = jax.tree.map(jnp.subtract, net.params, after.params)
        scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients))
        for got, wanted in zip(
            jax.tree.leaves(step), jax.tree.leaves(gradients), strict=True
        ):
            # Float32: the difference of weights of size 1 loses up to 1e-7.
            np.testing.assert_allclose(got, wanted, atol=1e-4 * scale + 1e-6)


def test_step_of_the_discriminator_does_not_move_the_generator(batch, digits_logits_fn):
    nets = networks()._replace(generator_optimizer=optax.set_to_zero())
    state = fresh(nets)
    step = compiled(nets, advgan.AdvGANObjective(0.3))
    new, _ = step(state, batch, digits_logits_fn)
    assert not moved(state.generator.params, new.generator.params)
    assert moved(state.discriminator.params, new.discriminator.params)


@pytest.mark.slow
def test_gan_loss_reaches_the_generator(batch, digits_logits_fn):
    """If the gradient were detached, the GAN loss would have no effect."""
    generators = []
    for weight in (0.0, 1.0):
        nets = networks(1.0)
        step = compiled(nets, advgan.AdvGANObjective(0.3, gan_weight=weight))
        state, _ = step(fresh(nets), batch, digits_logits_fn)
        generators.append(state.generator.params)
    assert moved(*generators)


def test_frozen_target_is_not_in_the_state(batch, digits_logits_fn):
    nets = networks()
    state = fresh(nets)
    sizes = {leaf.size for leaf in jax.tree.leaves(state)}
    # The target model's hidden layer; neither G nor D has an array of its size.
    assert max(leaf.size for leaf in jax.tree.leaves(digits_logits_fn)) not in sizes
    step = compiled(nets, advgan.AdvGANObjective(0.3))
    new, _ = step(state, batch, digits_logits_fn)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert new.step == 1


def test_discriminator_is_not_constant():
    """InstanceNorm over a map of one pixel would make all its scores equal."""
    images = jax.random.uniform(jax.random.key(0), (6, 8, 8, 1))
    net = models.Discriminator()
    scores, _ = jax.jit(net.init_with_output)(jax.random.key(1), images)
    assert float(jnp.std(scores)) > 1e-3


@pytest.mark.parametrize("where", ["at the epsilon ball", "at the pixel range"])
def test_gradient_does_not_die_at_a_bound(where):
    """A hard clip has no gradient beyond its edge; ours keeps the one inwards."""
    images, labels = jnp.zeros((1, 2, 2, 1)), jnp.array([0])
    weights = jnp.array([[-1.0, 1.0]])  # the class changes as pixels grow
    r = jnp.full_like(images, -0.5 if where == "at the pixel range" else -9.0)

    def loss(r):
        x = perturb(images, r, 0.3, (0.0, 1.0))
        return losses.margin(x.sum() * weights, labels, confidence=5.0).sum()

    assert (jax.grad(loss)(r) < 0).all()  # descent raises the pixels, into the box
    assert (jax.grad(lambda r: -loss(r))(r) == 0).all()  # and never further out


def test_targeted_success_is_counted_towards_the_class(batch, digits_logits_fn):
    nets = networks()
    objective = advgan.AdvGANObjective(epsilon=0.0, target_class=3)
    step = compiled(nets, objective)
    _, metrics = step(fresh(nets), batch, digits_logits_fn)
    predictions = jnp.argmax(digits_logits_fn(batch.images), axis=-1)
    assert metrics["success_rate"] == jnp.mean(predictions == 3)


def test_metrics_are_complete(batch, digits_logits_fn):
    nets = networks()
    step = compiled(nets, advgan.AdvGANObjective(0.3))
    _, metrics = step(fresh(nets), batch, digits_logits_fn)
    total = (
        metrics["adversarial_loss"]
        + 0.1 * metrics["gan_loss"]
        + 0.1 * metrics["hinge_loss"]
    )
    np.testing.assert_allclose(metrics["generator_loss"], total, rtol=1e-6)
    assert {"discriminator_loss", "success_rate"} <= set(metrics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adversarial_loss": "margins"}, "Unknown adversarial loss 'margins'"),
        ({"adversarial_loss": "dlr", "confidence": 1.0}, "belongs to the margin"),
    ],
)
def test_wrong_objectives(change, message):
    objective = advgan.AdvGANObjective(0.3)._replace(**change)
    with pytest.raises(ValueError, match=message):
        advgan.make_train_step(networks(), objective)


@pytest.mark.slow
def test_it_learns(digits, digits_logits_fn):
    nets = networks(2e-3, optax.adam)
    objective = advgan.AdvGANObjective(0.3, confidence=10.0, gan_weight=0.1)
    run = parallel.compile_steps(advgan.make_train_step(nets, objective), mode="jit")
    plan = fit.Plan(len(digits.train), batch_size=64, num_epochs=8)
    logged = []
    fit.fit(
        fresh(nets),
        run,
        fit.on_device(digits.train),
        plan,
        order_key=jax.random.key(1),
        frozen=(digits_logits_fn,),
        hooks=fit.Hooks(log=lambda step, metrics: logged.append(metrics)),
    )
    assert logged[-1]["success_rate"] > 0.9
