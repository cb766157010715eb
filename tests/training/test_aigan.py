"""Test AI-GAN's steps: real images, target classes, and that they learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import attacks, losses, models, parallel
from advgan_jax.data import to_float
from advgan_jax.projections import perturb
from advgan_jax.training import advgan, aigan, fit
from advgan_jax.training.states import apply
from advgan_jax.types import Batch

ATTACKER = attacks.make_attack("pgd", epsilon=0.3, num_steps=2)
# Fresh generators add little, so the bound of the hinge is even lower.
OBJECTIVE = aigan.AIGANObjective(
    0.3,
    10,
    confidence=2.0,
    gan_weight=0.5,
    hinge_weight=0.7,
    hinge_bound=0.05,
    class_weight=0.5,
)


@functools.cache  # one object, so that its steps are compiled once
def networks(learning_rate=1.0, optimizer=optax.sgd, num_heads=1):
    widths = (4, 8, 8)
    one, two = models.Discriminator(widths), models.TwoHeadDiscriminator(10, widths)
    return advgan.Networks(
        models.ConditionalGenerator(0.3, 10, widths, num_residual=1),
        one if num_heads == 1 else two,
        optimizer(learning_rate),
        optimizer(learning_rate),
    )


@pytest.fixture(scope="module")
def batch(digits):
    return Batch(
        to_float(jnp.asarray(digits.train.images[:16])),
        jnp.asarray(digits.train.labels[:16]),
    )


@functools.cache
def fresh(nets):
    return jax.jit(lambda key: aigan.init_state(nets, key, (8, 8, 1)))(
        jax.random.key(0)
    )


def make_step(stage, nets, objective=OBJECTIVE):
    if stage == 1:
        return aigan.make_first_step(nets, objective, ATTACKER)
    return aigan.make_second_step(nets, objective)


@functools.cache
def compiled(stage, num_heads=1):
    return jax.jit(make_step(stage, networks(num_heads=num_heads)))


def drawn(state, labels):
    """Return the classes of the state's next step, and the key of its attacker."""
    key_targets, key = jax.random.split(jax.random.fold_in(state.key, state.step))
    return aigan.draw_targets(key_targets, labels, 10), key


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "num_heads"), [(2, 1), (1, 2)])
def test_step_follows_both_gradients(stage, num_heads, batch, digits_logits_fn):
    """With SGD of rate 1, old minus new weights are the gradients."""
    nets = networks(num_heads=num_heads)
    state, (images, labels) = fresh(nets), batch
    new, _ = compiled(stage, num_heads)(state, batch, digits_logits_fn)
    wanted, key = drawn(state, labels)
    real = images
    if stage == 1:
        real = ATTACKER(digits_logits_fn, images, wanted, key=key, targeted=True)

    def adversarial(params):
        r = nets.generator.apply({"params": params}, images, wanted)
        return perturb(images, r, 0.3, (0.0, 1.0))

    def judge(params, x):
        found = nets.discriminator.apply({"params": params}, x)
        if num_heads == 1:
            return found, 0.0
        log_p = jax.nn.log_softmax(found[1])
        return found[0], -jnp.mean(log_p[jnp.arange(16), labels])

    def d_loss(params):
        score, class_loss = judge(params, real)
        fake, _ = judge(params, adversarial(state.generator.params))
        return jnp.mean((score - 1) ** 2) + jnp.mean(fake**2) + class_loss

    def g_loss(params):
        x = adversarial(params)
        score, class_loss = judge(new.discriminator.params, x)
        adv = losses.margin(digits_logits_fn(x), wanted, targeted=True, confidence=2.0)
        norms = jnp.sqrt(jnp.sum((x - images) ** 2, axis=(1, 2, 3)))
        hinged = 0.7 * jnp.maximum(0, norms - 0.05)
        return jnp.mean(adv + 0.5 * (score - 1) ** 2 + hinged) + 0.5 * class_loss

    moved = jax.jit(adversarial)(state.generator.params) - images
    assert jnp.sqrt(jnp.sum(moved**2, axis=(1, 2, 3))).min() > 0.05
    for loss, net, after in (
        (d_loss, state.discriminator, new.discriminator),
        (g_loss, state.generator, new.generator),
    ):
        gradients = jax.jit(jax.grad(loss))(net.params)
        step = jax.tree.map(jnp.subtract, net.params, after.params)
        scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients))
        for got, wanted_step in zip(
            jax.tree.leaves(step), jax.tree.leaves(gradients), strict=True
        ):
            # Float32: the difference of weights of size 1 loses up to 1e-7.
            np.testing.assert_allclose(got, wanted_step, atol=1e-4 * scale + 1e-6)


def test_targets_are_any_class_but_the_true_one():
    labels = jnp.repeat(jnp.arange(5), 4000)
    counts = np.zeros((5, 5), int)
    targets = aigan.draw_targets(jax.random.key(0), labels, 5)
    np.add.at(counts, (np.asarray(labels), np.asarray(targets)), 1)
    assert (np.diag(counts) == 0).all()
    # 1000 expected with a standard deviation of 27; five of them.
    assert np.abs(counts[~np.eye(5, dtype=bool)] - 1000).max() < 137


@pytest.mark.slow
def test_each_step_draws_anew(batch, digits_logits_fn):
    state = fresh(networks())
    later = state.replace(step=state.step + 1)
    assert (drawn(state, batch.labels)[0] != drawn(later, batch.labels)[0]).any()
    step, steps = compiled(2), []
    for given in (state, later):
        new, _ = step(given, batch, digits_logits_fn)
        steps.append(jax.tree.leaves(new.generator.params))
    assert any((a != b).any() for a, b in zip(*steps, strict=True))


@pytest.mark.slow
def test_class_loss_of_one_head_is_none(batch, digits_logits_fn):
    found = {}
    for num_heads in (1, 2):
        nets = networks(num_heads=num_heads)
        step = compiled(1, num_heads)
        _, found[num_heads] = step(fresh(nets), batch, digits_logits_fn)
    assert set(found[2]) - set(found[1]) == {"class_loss"}
    # Near chance before any training.
    assert 1.5 < float(found[2]["class_loss"]) < 4


@pytest.mark.slow
def test_gradient_moves_the_wanted_class_alone(batch, digits_logits_fn):
    """A class that is never a target keeps its scales and shifts."""
    nets = networks()
    state = fresh(nets)
    few = Batch(batch.images[:3], batch.labels[:3])
    wanted = set(np.asarray(drawn(state, few.labels)[0]).tolist())
    new, _ = compiled(2)(state, few, digits_logits_fn)
    for name in ("scale", "shift"):
        before, after = (
            s.generator.params["ConditionalNorm_0"][name]["embedding"]
            for s in (state, new)
        )
        moved = set(np.flatnonzero((before != after).any(axis=1)).tolist())
        assert moved == wanted


@pytest.mark.slow
def test_it_learns_to_reach_the_class_that_it_is_given(digits, digits_logits_fn):
    nets = networks(1e-2, optax.adam)
    objective = aigan.AIGANObjective(0.3, 10, confidence=10.0, gan_weight=0.1)
    plan = fit.Plan(len(digits.train), batch_size=64, num_epochs=6)
    logged = []
    state, _ = fit.fit(
        fresh(nets),
        parallel.compile_steps(make_step(2, nets, objective), mode="jit"),
        fit.on_device(digits.train),
        plan,
        order_key=jax.random.key(1),
        frozen=(digits_logits_fn,),
        hooks=fit.Hooks(log=lambda step, metrics: logged.append(metrics)),
    )
    # A generator that ignores the class reaches one in nine.
    assert logged[-1]["success_rate"] > 0.5
    images = to_float(jnp.asarray(digits.test.images[:4]))
    apply_fn = jax.jit(functools.partial(apply, nets.generator, state.generator.params))
    r = [apply_fn(images, jnp.full(4, t)) for t in range(10)]
    apart = [float(jnp.abs(a - b).max()) for i, a in enumerate(r) for b in r[:i]]
    assert min(apart) > 0.1
