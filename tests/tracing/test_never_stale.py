"""Attacks and evaluations use the present weights, and compile once for a program."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from advgan_jax import attacks, models
from advgan_jax.evaluation import evaluate, evaluate_clean

SHAPE = (4, 4, 1)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
KEY = jax.random.key(0)
W = [jax.random.normal(jax.random.key(i), (16, 3)) for i in range(3)]
present = {"weights": W[0]}
pgd = attacks.make_attack("pgd", epsilon=0.1, num_steps=2, key=KEY)
fgsm = partial(attacks.fgsm, epsilon=0.1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0.3, 0.7, (10, *SHAPE)).astype(np.float32)


def linear(weights, images):
    return nn.relu(images).reshape(len(images), -1) @ weights


class Net:
    """A model whose equality says nothing of its weights."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, images):
        return linear(self.weights, images)

    def __eq__(self, other):
        return isinstance(other, Net)

    def __hash__(self):
        return 0


class NnxNet(nnx.Module):
    def __init__(self, weights):
        self.weights = nnx.Param(weights)

    def __call__(self, images):
        return linear(self.weights[...], images)


def read_global(images):
    return linear(present["weights"], images)


def compiled_closure(weights):
    return jax.jit(lambda images: linear(weights, images))


def nested(weights):
    inner = compiled_closure(weights)
    return jax.jit(lambda images: 1 * inner(images))


def of_object(weights):
    one_net.weights = weights
    return one_net


def of_method(weights):
    one_net.weights = weights
    return one_net.__call__


def of_global(weights):
    present["weights"] = weights
    return read_global


def of_nnx(weights):
    one_nnx.weights[...] = weights
    return one_nnx


def of_numpy(weights):
    present["numpy"][...] = weights  # in place
    return one_numpy


present["numpy"] = np.zeros((16, 3), np.float32)
one_net, one_nnx = Net(W[0]), NnxNet(W[0])
one_numpy = partial(linear, present["numpy"])


@pytest.mark.parametrize(
    "make",
    [
        *(of_object, of_method, of_global, of_nnx, of_numpy, compiled_closure, nested),
        lambda weights: lambda images: linear(weights, images),
        lambda weights: Partial(linear, weights),
        lambda weights: partial(Net.__call__, Net(weights)),
    ],
)
def test_new_weights_are_used_without_compiling(make, images, compiles):
    """In attacks, in evaluations, and in both under a caller's `jit`."""

    def attacked(logits_fn):
        found = fgsm(logits_fn, images, LABELS)
        evaluation = evaluate(logits_fn, fgsm, images, LABELS)
        return found, evaluation

    attacked(make(W[0]))
    with compiles(0):
        found, evaluation = attacked(make(W[1]))
    expected, measured = attacked(Net(W[1]))
    np.testing.assert_array_equal(found, expected)
    for name in ("clean_predictions", "adversarial_predictions", "linf", "l2"):
        np.testing.assert_array_equal(
            getattr(evaluation, name), getattr(measured, name)
        )
    logits = np.asarray(Net(W[1])(found))
    np.testing.assert_array_equal(evaluation.adversarial_predictions, logits.argmax(-1))
    # A new `jit` reads the weights of its own time.
    make(W[0])
    for weights in W[1:]:
        fn = make(weights)
        within = jax.jit(lambda x, fn=fn: fgsm(fn, x, LABELS))(images)
        np.testing.assert_array_equal(within, fgsm(Net(weights), images, LABELS))


def test_a_new_lambda_compiles_nothing(images, compiles):
    def run(index):
        return pgd(lambda x: linear(W[index], x), images, LABELS)

    first = run(0)
    with compiles(0):
        others = [run(1) for _ in range(4)]
    np.testing.assert_array_equal(others[0], others[-1])
    assert (first != others[0]).any()


def test_ten_evaluations_compile_once(images, compiles):
    """Of new weights, new lambdas, new attacks and other sizes."""

    def run(logits_fn, epsilon):
        attack = attacks.make_attack("pgd", epsilon=epsilon, num_steps=2)
        return evaluate(logits_fn, attack, images, LABELS, key=KEY, batch_size=4)

    run(Partial(linear, W[0]), 0.1)
    with compiles(0):
        results = [run(Partial(linear, W[1]), 0.02 * i) for i in range(1, 6)]
        results += [run(lambda x: linear(W[1], x), 0.02 * i) for i in range(1, 6)]
    np.testing.assert_allclose(results[4].linf, 0.1, rtol=1e-6)
    for one, other in zip(results[:5], results[5:], strict=True):
        np.testing.assert_array_equal(one.l2, other.l2)


def test_a_generator_of_new_weights(images, compiles):
    def attack(weight):
        return attacks.make_attack(
            "advgan", generator=lambda x: weight * jnp.sin(9 * x), epsilon=1.0
        )

    weights = [jnp.float32(w) for w in (0.1, 0.2)]
    attack(weights[0])(read_global, images, LABELS)
    evaluate(read_global, attack(weights[0]), images, LABELS)
    with compiles(0):
        made = attack(weights[1])(read_global, images, LABELS)
        measured = evaluate(read_global, attack(weights[1]), images, LABELS)
    expected = np.clip(images + 0.2 * np.sin(9 * images), 0, 1)
    # One rounding of a product and one of a sum near 1.
    np.testing.assert_allclose(made, expected, atol=3e-7)
    np.testing.assert_allclose(
        measured.linf, np.abs(expected - images).max((1, 2, 3)), atol=3e-7
    )


def test_python_numbers_are_never_stale_and_warn_at_the_third(images):
    """They are constants of a program; a JAX array in their place is none."""
    scale = 1.0

    def scaled(images):
        return linear(W[0], images) * scale

    first = fgsm(scaled, images, LABELS)
    scale = -1.0
    second = fgsm(scaled, images, LABELS)
    np.testing.assert_array_equal(second, fgsm(Net(-W[0]), images, LABELS))
    assert (first != second).any()
    scale = 2.0
    with pytest.warns(UserWarning, match=r"third program.*jnp.float32\(2\)"):
        fgsm(scaled, images, LABELS)
    scale = 3.0
    fgsm(scaled, images, LABELS)  # One warning is enough.


def test_three_models_are_no_reason_to_warn(images):
    """They differ in more than numbers; a warning would be an error here."""
    for width in (3, 4, 5):
        model = nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(width)])
        variables = model.init(KEY, images)
        mi_fgsm = partial(attacks.mi_fgsm, epsilon=0.1, num_steps=1)
        mi_fgsm(models.make_logits_fn(model, variables), images, LABELS)


def of_batches(weights, images):
    """A model whose program depends on the number of images."""
    return linear(weights if len(images) in (10, 16, 20) else -weights, images)


@pytest.mark.slow
def test_each_number_of_images_has_its_own_program(images):
    """The check of eight images, the batch, and the lanes of a search."""
    many = np.concatenate([images, images])
    labels = np.concatenate([LABELS, LABELS])
    for weights in W[:2]:
        fn = partial(of_batches, weights)
        for one in (images, images[:9]):
            expected = Net(weights if len(one) == 10 else -weights)
            known = LABELS[: len(one)]
            np.testing.assert_array_equal(
                fgsm(fn, one, known), fgsm(expected, one, known)
            )
        found = attacks.lbfgs(fn, many, labels, num_search_steps=2)
        searched = attacks.lbfgs(Net(weights), many, labels, num_search_steps=2)
        np.testing.assert_array_equal(found, searched)


def test_train_and_other_options_of_a_flax_model(images):
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, x, *, train, scale=1.0):
            x = nn.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1))
            return scale * nn.Dense(3)(x)

    model = Dropped()
    variables = model.init(KEY, images, train=False)
    logits_fn = models.make_logits_fn(model, variables, train=False)
    expected = model.apply(variables, images, train=False)
    np.testing.assert_array_equal(logits_fn(images), expected)
    doubled = models.make_logits_fn(model, variables, train=False, scale=2.0)
    np.testing.assert_array_equal(doubled(images), 2 * expected)
    jitted = jax.jit(lambda fn, x: fn(x))(doubled, images)
    np.testing.assert_allclose(jitted, 2 * expected, rtol=1e-6)
    with pytest.raises(TypeError, match="train"):
        models.make_logits_fn(model, variables)(images)
    assert evaluate_clean(logits_fn, images, LABELS).clean_accuracy < 1
