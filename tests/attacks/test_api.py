"""Bad input is refused with what was expected, what came and the cure."""

import inspect
import re
import warnings
from functools import partial

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from advgan_jax import attacks, types

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(0)
fgsm = partial(attacks.fgsm, epsilon=0.3)


@pytest.mark.parametrize(
    ("name", "hyperparams", "error", "match"),
    [
        ("fgsm", {"eps": 0.1}, TypeError, r"argument of fgsm 'eps'.*epsilon"),
        ("fgsm", {"epsilon": -0.1}, ValueError, "`epsilon` must be a finite.*-0.1"),
        ("fgsm", {"epsilon": np.nan}, ValueError, "`epsilon` must be a finite"),
        ("fgsm", {"epsilon": "0.1"}, TypeError, "`epsilon` must be a real number"),
        ("fgsm", {"epsilon": None}, TypeError, "`epsilon` must be a real number"),
        (
            "fgsm",
            {"epsilon": jnp.ones(3)},
            TypeError,
            "`epsilon`.*one value for each call",
        ),
        ("fgsm", {"norm": "l3"}, ValueError, "norm 'l3'.*l1, l2, linf"),
        ("fgsm", {"loss": "ce"}, ValueError, "loss 'ce'.*cross_entropy"),
        ("fgsm", {"bounds": (1, 0)}, ValueError, r"`bounds` must be \(least"),
        ("fgsm", {"bounds": 1}, ValueError, r"`bounds` must be two finite.*got 1"),
        ("fgsm", {"bounds": (0, "1")}, ValueError, r"`bounds` must be two finite"),
        ("fgsm", {"bounds": (0, np.ones(3))}, ValueError, "two finite.*all pixels"),
        ("fgsm", {"bounds": np.eye(2)}, ValueError, "two finite.*all pixels"),
        ("fgsm", {"targeted": 3}, TypeError, "`targeted` must be True or False"),
        ("carlini_wagner_linf", {"tau_factor": 1.5}, ValueError, "must be < 1"),
        ("bim", {"step_size": 0.0}, ValueError, "`step_size` must be > 0"),
        ("bim", {"step_size": 0.4}, ValueError, "must not exceed `epsilon`.*0.4"),
        ("bim", {"num_steps": -1}, ValueError, "`num_steps` must be an integer >= 0"),
        ("bim", {"num_steps": 2.0}, TypeError, "`num_steps` must be a Python integer"),
        ("bim", {"num_steps": True}, TypeError, "`num_steps` must be an integer"),
        ("mi_fgsm", {"decay": -1.0}, ValueError, "`decay` must be a finite"),
        ("ilcm", {"targeted": True}, ValueError, "chooses the wanted classes itself"),
        ("pgd", {}, ValueError, r"`pgd` draws random.*key=jax.random.key\(0\)"),
        ("pgd", {"key": 3}, TypeError, r"`key` must be a typed key, got 3"),
        ("pgd", {"key": jax.random.PRNGKey(0)}, TypeError, r"typed key, got uint32"),
        ("pgd", {"key": jax.random.split(KEY)}, ValueError, r"must be one key.*\(2,\)"),
        (
            "pgd",
            {"random_start": False, "num_restarts": 2},
            ValueError,
            "needs `random_start=True`",
        ),
        ("pgd", {"key": KEY, "num_restarts": 0}, ValueError, "`num_restarts` must be"),
        ("apgd", {"key": KEY, "norm": "l0"}, ValueError, "norm 'l0'.*l1, l2, linf"),
        ("fab", {"num_restarts": 2}, ValueError, "needs `random_start=True`"),
        (
            "apgd_targeted",
            {"key": KEY, "loss": "cross_entropy"},
            ValueError,
            "dlr, margin",
        ),
        ("deepfool", {"norm": "l1"}, ValueError, "norm 'l1'.*l2, linf"),
        ("carlini_wagner_l2", {"confidence": -1}, ValueError, "`confidence` must be"),
        (
            "carlini_wagner_l2",
            {"initial_loss_weight": 0},
            ValueError,
            "`initial_loss_weight` must",
        ),
        (
            "carlini_wagner_l2",
            {"num_search_steps": 0},
            ValueError,
            "`num_search_steps`",
        ),
    ],
)
def test_bad_hyperparams(name, hyperparams, error, match, net, images, labels):
    function = attacks.ATTACKS[name]
    takes_epsilon = "epsilon" in inspect.signature(function).parameters
    size = {"epsilon": 0.3} if takes_epsilon else {}
    with pytest.raises(error, match=match):
        function(net, images, labels, **(size | hyperparams))


@pytest.mark.parametrize("name", ["fgsm", "bim", "ilcm", "mi_fgsm", "pgd", "apgd"])
def test_epsilon_has_no_default(name, net, images, labels):
    with pytest.raises(TypeError, match=f"`{name}` needs the argument `epsilon`"):
        attacks.ATTACKS[name](net, images, labels, key=KEY)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda x: x[0, 0, 0], ValueError, r"batch axis.*\(2,\).*`images\[None\]`"),
        (lambda x: x[0], TypeError, r"(?s)shape \(5, 7, 2\).*axis: `images\[None\]`"),
        (lambda x: (255 * x).astype(int), TypeError, r"or floating, got int32.*astype"),
        (lambda x: 255 * x, ValueError, "within bounds.*Divide by 255"),
        (lambda x: x - 0.5, ValueError, "within bounds.*inside `logits_fn`"),
        (lambda x: x.at[1, 0, 0, 0].set(jnp.nan), ValueError, "image 1.*repair NaN"),
    ],
)
def test_bad_images(change, error, match, net, images, labels):
    with pytest.raises(error, match=match):
        fgsm(net, change(images), labels)


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 255)])
def test_pixels_of_all_dtypes_are_the_same_images(bounds, net, images, labels):
    low, high = bounds
    steps = np.asarray(255 * images).round()
    floats = (low + steps * (high - low) / 255).astype(np.float32)
    run = partial(
        attacks.fgsm, lambda x: net(x / high), epsilon=high / 100, bounds=bounds
    )
    expected = np.asarray(run(floats, labels))
    assert expected.dtype == np.float32
    for given in (steps.astype(np.uint8), floats.astype(float), jnp.asarray(floats)):
        result = run(given, labels)
        # uint8 on [0, 1] is multiplied by 1/255, which rounds otherwise than / 255.
        np.testing.assert_allclose(result, expected, atol=high * 2**-23)
        assert result.dtype == np.float32


def test_a_step_of_epsilon_in_another_precision_is_no_longer_step(net, images, labels):
    result = attacks.bim(
        net, images, labels, epsilon=0.3, step_size=np.float32(0.3), num_steps=1
    )
    np.testing.assert_array_equal(result, fgsm(net, images, labels))


def test_an_epsilon_that_bounds_nothing_is_noticed(net, images, labels):
    with pytest.warns(UserWarning, match=r"`epsilon` = 8 exceeds 1, .*8/255 on"):
        attacks.fgsm(net, images, labels, epsilon=8)
    # Two images of 70 pixels are at most sqrt(70) = 8.37 apart.
    with pytest.warns(UserWarning, match=r"`epsilon` = 9 exceeds 8.3666"):
        attacks.pgd(net, images, labels, epsilon=9, norm="l2", num_steps=0, key=KEY)
    attacks.fgsm(net, images, labels, epsilon=8, norm="l2")
    attacks.fgsm(net, 255 * images, labels, epsilon=8, bounds=(0, 255))


def test_an_epsilon_that_rounding_undoes_is_noticed(net, images, labels):
    run = partial(attacks.fgsm, net, 255 * images, labels, bounds=(0, 255))
    with pytest.warns(UserWarning, match="`epsilon` = 0.3 is less than half a step"):
        run(epsilon=0.3)
    run(epsilon=0.5)
    run(epsilon=0)
    jax.jit(lambda epsilon: run(epsilon=epsilon))(0.3)  # its value is not known
    attacks.fgsm(net, images, labels, epsilon=1e-4)
    flat = 255 * images.reshape(len(images), -1)
    attacks.fgsm(net, flat, labels, epsilon=0.3, bounds=(0, 255))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_with_channels_first_are_noticed(channels):
    def model(x):
        return x.reshape(len(x), -1)[:, :3]

    images = np.zeros((2, channels, 8, 8), np.float32)
    with pytest.warns(UserWarning, match=r"look like \[B, C, H, W\].*transpose"):
        fgsm(model, images)
    fgsm(model, images.transpose(0, 2, 3, 1))
    fgsm(model, np.zeros((2, 1, 2, 4), np.float32))
    # The error of a model that fails on them names the cure.
    weights = {"params": {"kernel": np.ones((channels, 3)), "bias": np.zeros(3)}}
    strict = Partial(lambda w, x: nn.Dense(3).apply(w, x).mean((1, 2)), weights)
    fgsm(strict, images.transpose(0, 2, 3, 1))
    cure = rf"(?s)shape \(2, {channels}, 8, 8\).*\[B, H, W, C\] is expected.*transpose"
    with (
        pytest.warns(UserWarning, match=r"look like \[B, C, H, W\]"),
        pytest.raises(flax.errors.ScopeParamShapeError, match=cure),
    ):
        fgsm(strict, images)


def test_images_scaled_to_other_bounds_are_noticed(net, images, labels):
    with pytest.warns(UserWarning, match=r"from 0 to 1 but bounds \(0.0, 255.0\)"):
        attacks.fgsm(net, images, labels, epsilon=8, bounds=(0, 255))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda y: jax.nn.one_hot(y, 5), TypeError, "one-hot labels are not accepted"),
        (lambda y: jax.nn.one_hot(y, 5, dtype=int), ValueError, "one-hot"),
        (lambda y: y[:2], ValueError, r"of shape \(3,\), got int32\[2\]"),
        (lambda y: y[:, None], ValueError, r"int32\[3, 1\]; take `labels\[:, 0\]`"),
        (lambda y: y + 5, ValueError, r"in \[0, 5\), got"),
        (lambda y: y - 5, ValueError, r"in \[0, 5\), got"),
    ],
)
def test_bad_labels(make, error, match, net, images, labels):
    with pytest.raises(error, match=match):
        fgsm(net, images, make(labels))


def test_targeted_needs_labels(net, images):
    with pytest.raises(ValueError, match="`fgsm` with `targeted=True` needs `labels`"):
        fgsm(net, images, None, targeted=True)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda z: z[0], ValueError, r"logits of shape \(3, K\), got \(5,\)"),
        (lambda z: z[:2], ValueError, r"logits of shape \(3, K\), got \(2, 5\)"),
        (lambda z: z[:, :1], ValueError, r"\(3, 1\); a single.*stack.*z\[:, 0\]\]"),
        (lambda z: z[:, 0], ValueError, r"K >= 2, got \(3,\); a single .*zeros.*z\]"),
        (lambda z: z[:, :0], ValueError, "K >= 2, got K = 0"),
        (lambda z: (z > 0).astype(int), TypeError, "floating point, got int32"),
        (lambda z: (z, z), TypeError, "got a tuple; return the logits alone"),
        (lambda z: z * jnp.inf, ValueError, r"finite logits.*got \[.*inf.*log_softmax"),
        (lambda z: z.at[0, 0].set(-jnp.inf), ValueError, "masked on all images"),
        (lambda z: z.at[:, 1:].set(-jnp.inf), ValueError, "two classes or more"),
    ],
)
def test_bad_models(change, error, match, net, images, labels):
    with pytest.raises(error, match=match):
        fgsm(lambda x: change(net(x)), images, labels)


def test_a_model_must_be_callable(images, labels):
    with pytest.raises(TypeError, match=r"must be a function from images.*got dict"):
        fgsm({"params": 0}, images, labels)


def test_models_of_other_frameworks(images, labels):
    def of_numpy(x):
        return np.asarray(x).reshape(3, -1) @ np.ones((70, 2))

    class Forest:
        def predict(self, x):
            return x

    cure = r"wrap it: `advgan_jax.interop.from_host\(fn, num_classes\)`"

    def branches(x):
        return x.reshape(3, -1)[:, : 3 if x.min() < 0 else 2]

    for model in (of_numpy, branches):
        with pytest.raises(TypeError, match=f"function of JAX, got one .*{cure}"):
            fgsm(model, images, labels)
    with pytest.raises(TypeError, match=f"got Forest; it is not of JAX: {cure}"):
        fgsm(Forest(), images, labels)


def test_a_model_in_training_must_be_switched(images):
    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.norm, self.drop = nnx.BatchNorm(70, rngs=rngs), nnx.Dropout(0.5)
            self.out, self.rngs = nnx.Linear(70, 3, rngs=rngs), rngs

        def __call__(self, x):
            x = self.norm(x.reshape(len(x), -1))
            return self.out(self.drop(x, rngs=self.rngs))

    model = Net()
    model.train()
    with pytest.raises(ValueError, match=r"in training.*`\.eval\(\)`"):
        fgsm(model, images)
    model.eval()
    assert (fgsm(model, images) != images).any()


def test_arrays_of_one_number_are_numbers(net, images, labels):
    expected = attacks.bim(net, images, labels, epsilon=0.25, bounds=(0, 1))
    bounds = (jnp.float32(0), np.array(1))
    for epsilon in (np.float32(0.25), jnp.array(0.25), np.array(0.25)):
        result = attacks.bim(net, images, labels, epsilon=epsilon, bounds=bounds)
        np.testing.assert_array_equal(result, expected)
    result = attacks.bim(net, images, labels, epsilon=0.25, bounds=jnp.arange(2.0))
    np.testing.assert_array_equal(result, expected)


def test_probabilities_are_noticed(net, images, labels):
    def probabilities(x):
        return jax.nn.softmax(net(x))

    with pytest.warns(UserWarning, match="look like probabilities; pass logits"):
        fgsm(probabilities, images, labels)
    with warnings.catch_warnings():  # log-probabilities are logits
        warnings.simplefilter("error")
        fgsm(lambda x: jax.nn.log_softmax(net(x)), images, labels)


def test_shapes_and_numbers_are_checked_under_jit(net, images, labels):
    with pytest.raises(ValueError, match="batch axis"):
        jax.jit(lambda x: fgsm(net, x, labels))(images[0, 0, 0])
    with pytest.raises(ValueError, match="`epsilon` must be"):
        jax.jit(lambda x: attacks.fgsm(net, x, labels, epsilon=-1.0))(images)
    with pytest.raises(TypeError, match="typed key"):
        jax.jit(lambda x: attacks.pgd(net, x, labels, epsilon=0.3, key=jnp.zeros(2)))(
            images
        )


def test_epsilon_zero_takes_any_step(net, images, labels):
    result = attacks.bim(net, images, labels, epsilon=0, step_size=0.1)
    np.testing.assert_array_equal(result, images)


def test_no_steps(net, images, labels):
    result = attacks.bim(net, images, labels, epsilon=0.3, num_steps=0)
    np.testing.assert_array_equal(result, images)


def test_numpy_and_integer_arguments(net, images, labels):
    expected = attacks.bim(net, images, labels, epsilon=1.0, num_steps=3)
    result = attacks.bim(
        net,
        np.asarray(images),
        np.asarray(labels).astype(np.int64),
        epsilon=1,
        num_steps=np.int64(3),
        bounds=(0, 1),
    )
    np.testing.assert_array_equal(result, expected)


def test_traced_epsilon(net, images, labels):
    expected = attacks.fgsm(net, images, labels, epsilon=0.2)
    many = jax.vmap(lambda e: attacks.fgsm(net, images, labels, epsilon=e))
    result = many(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(result[1], expected, atol=1e-7)


def test_signature_and_docstring_are_kept():
    parameters = inspect.signature(attacks.pgd).parameters
    assert list(parameters)[:3] == ["logits_fn", "images", "labels"]
    assert parameters["labels"].default is None
    assert parameters["num_steps"].default == 40
    assert attacks.pgd.__doc__.startswith("Projected gradient descent.")


PUBLIC = [*attacks.ATTACKS.values(), attacks.lbfgs_search]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_docstrings_share_the_arguments_of_all_attacks(function):
    documented = re.findall(r"(?m)^  \**(\w+): ", function.__doc__.split("Args:")[1])
    expected = list(inspect.signature(function).parameters)
    assert documented[: len(expected)] == expected
    (shared,) = re.findall(r"bounds: .*", types.Attack.__call__.__doc__)
    assert shared in function.__doc__


def test_an_attack_may_document_its_own_arguments():
    assert "labels: not used, as" in attacks.ilcm.__doc__
    assert attacks.lbfgs.__name__ == "lbfgs"
    assert "Returns:\n  Adversarial images; the clean" in attacks.lbfgs.__doc__
    assert "Raises:" in attacks.lbfgs.__doc__

    @attacks.attack()
    def own(logits_fn, images, labels, *, key=None, targeted=False, bounds=(0, 1)):
        return images

    assert own.__doc__ is None


def test_the_package_shows_its_attacks():
    assert dir(attacks) == sorted(attacks.__all__)
    assert set(attacks.ATTACKS) <= set(dir(attacks))


def test_half_precision_models(net, images, labels):
    def half(x):
        return net(x).astype(jnp.bfloat16)

    result = attacks.fgsm(half, images, labels, epsilon=0.1)
    assert result.dtype == jnp.float32
    assert (result != images).any()


def as_partial_with_flag(weights):
    def apply(weights, images, train):
        assert train is False  # a traced False could not be looked at
        return images.reshape(images.shape[0], -1) @ weights

    return Partial(apply, weights, train=False)


def as_bound_flax_module(weights):
    class Dense(nn.Module):
        @nn.compact
        def __call__(self, images):
            flat = images.reshape(images.shape[0], -1)
            return nn.Dense(weights.shape[1], use_bias=False, name="out")(flat)

    return Dense().bind({"params": {"out": {"kernel": weights}}})


@pytest.mark.parametrize("make", [as_partial_with_flag, as_bound_flax_module])
def test_flags_and_bound_modules(make, images):
    weights = jax.random.normal(KEY, (70, 4))
    result = fgsm(make(weights), images)
    expected = fgsm(lambda x: x.reshape(len(x), -1) @ weights, images)
    np.testing.assert_array_equal(result, expected)


def test_stock_convolutions_in_a_loop(images):
    """The rewritten convolutions and pools of `loop_ready` give the same attack."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
            return nn.Dense(5)(x.reshape(x.shape[0], -1))

    model = Net()
    variables = model.init(KEY, images)
    logits_fn = Partial(model.apply, variables)
    labels = jnp.argmax(logits_fn(images), axis=-1)
    hyper = {"epsilon": 0.1, "step_size": 0.02}
    result = attacks.bim(logits_fn, images, labels, num_steps=3, **hyper)
    x = images
    for _ in range(3):
        x = attacks.fgsm(logits_fn, x, labels, epsilon=0.02)
        x = jnp.clip(x, images - 0.1, images + 0.1)
    np.testing.assert_allclose(result, x, atol=1e-6)
