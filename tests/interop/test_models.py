"""Models of every framework give the logits and gradients of the framework itself."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from advgan_jax import attacks, evaluation, interop

SHAPE = (6, 5, 3)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((4, *SHAPE), np.float32)


def attack(logits_fn, images, **settings):
    """Attack by FGSM, which changes every pixel that has a gradient."""
    return np.asarray(attacks.fgsm(logits_fn, images, epsilon=0.1, **settings))


class TestPreprocessed:
    def test_is_the_formula_in_the_model_s_layout(self, images):
        seen = []

        def model(x):
            seen.append(x.shape)
            return x.reshape(len(x), -1)[:, :2]

        mean, std = (0.1, 0.2, 0.3), (0.5, 2.0, 4.0)
        fn = interop.preprocessed(model, mean=mean, std=std, layout="NCHW", scale=255)
        wanted = ((images * 255 - mean) / std).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(
            fn(jnp.asarray(images)), wanted.reshape(4, -1)[:, :2], rtol=1e-5
        )
        assert seen == [(4, 3, 6, 5)]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"layout": "CHW"}, "Unknown layout 'CHW'"),
            ({"std": 0}, "`std` and `scale` must be > 0"),
            ({"scale": -1}, "`std` and `scale` must be > 0"),
            ({"mean": np.nan}, "`mean` must be one finite number"),
            ({"std": [[1]]}, "`std` must be one finite number"),
        ],
    )
    def test_refuses(self, changes, message):
        with pytest.raises(ValueError, match=message):
            interop.preprocessed(lambda x: x, **changes)

    def test_refuses_another_number_of_channels(self, images):
        fn = interop.preprocessed(lambda x: x, mean=(0.1, 0.2))
        with pytest.raises(ValueError, match="each of the 3 channels, got 2"):
            fn(jnp.asarray(images))


class TestFromHost:
    def test_is_the_function_under_jit_and_vmap(self, images):
        fn = interop.from_host(lambda x: x.reshape(len(x), -1)[:, :3] * 2.0, 3)
        wanted = images.reshape(4, -1)[:, :3] * 2
        np.testing.assert_array_equal(jax.jit(fn)(images), wanted)
        np.testing.assert_array_equal(jax.vmap(fn)(images[None])[0], wanted)

    def test_attacks_that_need_a_gradient_are_refused(self, images):
        fn = interop.from_host(lambda x: x.reshape(len(x), -1)[:, :3], 3)
        with pytest.raises(TypeError, match=r"has no gradient.*Use a generator"):
            attack(fn, images)

    def test_scikit_learn_is_evaluated_with_a_given_attack(self, images):
        linear_model = pytest.importorskip("sklearn.linear_model")
        labels = np.array([0, 1, 0, 1])
        flat = images.reshape(4, -1)
        fitted = linear_model.LogisticRegression().fit(flat, labels)
        fn = interop.from_host(
            lambda x: fitted.predict_log_proba(x.reshape(len(x), -1)), 2
        )
        found = evaluation.evaluate(
            fn, lambda logits_fn, x, y, **settings: 1 - x, images, labels
        )
        predictions = fitted.predict((1 - images).reshape(4, -1))
        np.testing.assert_array_equal(found.adversarial_predictions, predictions)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (("model", 3), TypeError, "`fn` must be a function"),
            ((np.sum, 1), ValueError, "`num_classes` must be at least 2"),
            ((np.sum, 2.0), TypeError, "`num_classes` must be an integer"),
        ],
    )
    def test_refuses(self, arguments, error, message):
        with pytest.raises(error, match=message):
            interop.from_host(*arguments)

    def test_another_shape_is_an_error_that_says_so(self, images):
        fn = interop.from_host(lambda x: x, 3, name="My service")
        reason = r"My service must return logits of shape"
        with pytest.raises(ValueError, match=f"^{reason}"):
            fn(images)
        one_line = f"^`logits_fn` failed on clean images: ValueError: {reason}.*$"
        with pytest.raises(ValueError, match=one_line):
            attacks.transfer(
                *(fn, images),
                surrogate_fn=lambda x: x.reshape(len(x), -1)[:, :3],
                epsilon=0.1,
            )


class Normed(nn.Module):
    """Batch norm and dropout: other logits in training mode."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(3)(x.reshape(len(x), -1))


def test_linen_in_evaluation_mode(images):
    module = Normed()
    variables = module.init(jax.random.key(0), images, train=False)
    fn = interop.from_linen(module, variables, train=False)
    np.testing.assert_array_equal(
        fn(images), module.apply(variables, images, train=False)
    )
    assert (attack(fn, images) != images).any(axis=(1, 2, 3)).all()


def test_linen_needs_variables():
    with pytest.raises(TypeError, match=r"what `module\.init` returned, got Normed"):
        interop.from_linen(Normed(), None)


def test_nnx_as_it_is(images):
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(3, rngs=rngs)
            self.dense = nnx.Linear(90, 3, rngs=rngs)

        def __call__(self, x):
            return self.dense(self.norm(x).reshape(len(x), -1))

    model = Model(nnx.Rngs(0))
    model.eval()
    assert (attack(model, images) != images).any(axis=(1, 2, 3)).all()


@pytest.mark.slow
def test_equinox(images):
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")

    class Model(eqx.Module):
        conv: eqx.nn.Conv2d
        drop: eqx.nn.Dropout
        dense: eqx.nn.Linear

        def __call__(self, x, key=None):
            return self.dense(self.drop(self.conv(x), key=key).reshape(-1))

    keys = jax.random.split(jax.random.key(0))
    model = Model(
        eqx.nn.Conv2d(3, 2, 3, key=keys[0]),
        eqx.nn.Dropout(),
        eqx.nn.Linear(24, 4, key=keys[1]),
    )
    fn = interop.from_equinox(model)
    one = images[0].transpose(2, 0, 1)
    wanted = eqx.nn.inference_mode(model)(one)
    np.testing.assert_allclose(fn(images)[0], wanted, rtol=1e-5, atol=1e-6)  # rounding
    assert (attack(fn, images) != images).any(axis=(1, 2, 3)).all()


@pytest.mark.slow
def test_equinox_with_state(images):
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")

    class Model(eqx.Module):
        norm: eqx.nn.BatchNorm
        dense: eqx.nn.Linear

        def __call__(self, x, state):
            x, state = self.norm(x, state)
            return self.dense(x.reshape(-1)), state

    model, state = eqx.nn.make_with_state(Model)(
        eqx.nn.BatchNorm(3, "batch", mode="batch"),
        eqx.nn.Linear(90, 4, key=jax.random.key(0)),
    )
    fn = interop.from_equinox(model, state)
    assert fn(images).shape == (4, 4)
    assert (attack(fn, images) != images).any(axis=(1, 2, 3)).all()


@pytest.mark.slow
def test_keras(images, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    model = keras.Sequential(
        [
            keras.layers.Input(SHAPE),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    fn = interop.from_keras(model)
    np.testing.assert_allclose(fn(images), model.predict(images, verbose=0), rtol=1e-5)
    assert (attack(fn, images) != images).any(axis=(1, 2, 3)).all()


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "equinox", None)
    with pytest.raises(ImportError, match="needs equinox: python -m pip install"):
        interop.from_equinox(None)
