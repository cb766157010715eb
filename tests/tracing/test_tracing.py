"""Traces that compute the same are one program, and no others are."""

import gc
import weakref
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import attacks, tracing
from advgan_jax.cpu import layers
from advgan_jax.evaluation import evaluate
from advgan_jax.tracing import programs

X = jnp.linspace(0.1, 0.9, 6).reshape(2, 3)
FLAT = np.linspace(0.2, 0.8, 12, dtype=np.float32).reshape(2, 2, 3, 1)


def code(fn, *inputs):
    return tracing.Function(fn).at(*(inputs or (X,))).code


def scaled(factor):
    """A function whose backward pass alone has the factor."""

    @jax.custom_vjp
    def identity(x):
        return 1.0 * x

    identity.defvjp(lambda x: (identity(x), None), lambda _, g: (factor * g,))
    return identity


def forward_scaled(factor):
    @jax.custom_jvp
    def identity(x):
        return 1.0 * x

    identity.defjvps(lambda slope, answer, x: factor * slope)
    return identity


def of_itself(factor):
    """A rule that calls its function, so that it has all derivatives."""

    @jax.custom_jvp
    def exp(x):
        return jnp.exp(x)

    exp.defjvp(lambda x, slope: (exp(*x), factor * slope[0] * exp(*x)))
    return exp


@pytest.mark.parametrize("make", [scaled, forward_scaled, of_itself])
def test_rules_of_derivatives_compare_by_what_they_compute(make):
    assert code(make(2.0)) is code(make(2.0))
    assert code(make(2.0)) is not code(make(3.0))
    arrays = [jnp.float32(2), jnp.float32(3)]
    assert code(make(arrays[0])) is code(make(arrays[0]))
    assert code(make(arrays[0])) is not code(make(arrays[1]))


def test_a_rule_that_reads_a_global():
    fn = jax.custom_jvp(lambda x: 1.0 * x)
    factor = 2.0
    fn.defjvp(lambda x, slope: (fn(*x), factor * slope[0]))
    first = code(fn)
    assert code(fn) is first
    factor = 3.0
    assert code(fn) is not first
    slope = tracing.call(_slope, {"fn": tracing.Function(fn, "fn")}, X)
    np.testing.assert_array_equal(slope, np.full_like(X, 3))


def _slope(models, x):
    return jax.grad(lambda x: jnp.sum(models["fn"](x)))(x)


def test_library_rules_compare_by_their_code():
    def net(relu):
        def fn(images):
            kernel = jnp.ones((2, 2, 1, 3))
            x = relu(layers.conv2d(images, kernel, ((0, 0), (0, 0))))
            return optax.safe_norm(jax.nn.softmax(x.reshape(2, -1)), 0.1, axis=-1)

        return lambda images: fn(images)

    images = jnp.ones((2, 4, 4, 1))
    assert code(net(nn.relu), images) is code(net(jax.nn.relu), images)
    assert code(net(nn.relu), images) is not code(net(nn.relu6), images)
    swapped = jax.custom_jvp(jax.nn.relu)  # a library's function, the caller's rule
    swapped.defjvps(lambda slope, answer, x: slope)
    straight = jax.custom_jvp(jax.nn.relu)
    straight.defjvps(lambda slope, answer, x: 2 * slope)
    assert code(swapped) is code(lambda x: swapped(x))
    assert len({code(f) for f in (nn.relu, swapped, straight)}) == 3


def call_host(fn, x):
    return jax.pure_callback(fn, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


class Host:
    """A host function whose equality says nothing of it."""

    def __init__(self, fn):
        self.fn = fn

    def __call__(self, x):
        return self.fn(x)

    def __eq__(self, other):
        return isinstance(other, Host)

    def __hash__(self):
        return 0


def as_closure(fn):
    return lambda x: fn(x)


@pytest.mark.parametrize("make", [lambda fn: fn, Host, as_closure])
def test_callbacks_compare_by_the_function_behind_them(make):
    sine, cosine = make(np.sin), make(np.cos)
    made = [code(partial(call_host, fn)) for fn in (sine, cosine, sine)]
    assert made[0] is made[2]
    assert made[0] is not made[1]
    again = partial(call_host, make(np.sin))
    for fn, function in ((sine, np.sin), (cosine, np.cos), (sine, np.sin)):
        result = tracing.call(
            lambda models, x: models["fn"](x),
            {"fn": tracing.Function(partial(call_host, fn), "fn")},
            X,
        )
        np.testing.assert_allclose(result, function(X), rtol=1e-6)
    assert code(again)  # a new closure may or may not be the same program


def test_a_host_function_reads_its_variables_when_it_runs():
    factor = 2.0

    def fn(x):
        return call_host(lambda a: np.float32(factor) * a, x)

    first = code(fn)
    factor = 3.0
    assert code(fn) is first
    np.testing.assert_allclose(first([], [X]), 3 * X, rtol=1e-6)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x * 2.0, lambda x: x * 3.0),
        (lambda x: x * 0.0, lambda x: x * -0.0),
        (lambda x: x + 1, lambda x: x - 1),
        (lambda x: x**2, lambda x: x**3),
        (lambda x: x * np.float32([1, 2, 3]), lambda x: x * np.float32([1, 2, 4])),
        (lambda x: jnp.sum(x, 0), lambda x: jnp.sum(x, 1)),
        (lambda x: (x, x), lambda x: [x, x]),
        (lambda x: (2 * x, 3 * x), lambda x: (3 * x, 2 * x)),
        (lambda x: x - 2 * x, lambda x: 2 * x - x),
        (
            lambda x: jax.lax.fori_loop(0, 2, lambda i, y: 2 * y, x),
            lambda x: jax.lax.fori_loop(0, 2, lambda i, y: 3 * y, x),
        ),
        (
            lambda x: jax.lax.map(jax.jit(lambda r: r * X[0]), x),
            lambda x: jax.lax.map(jax.jit(lambda r: r * X[1]), x),
        ),
    ],
)
def test_other_programs_differ(one, other):
    assert code(one) is not code(other)
    assert code(one) is code(lambda x: one(x))


def test_nan_equals_itself():
    assert code(lambda x: x * jnp.nan) is code(lambda x: x * jnp.nan)


def test_all_derivatives_of_a_traced_function():
    def fn(x):
        inner = jax.grad(lambda y: jnp.sum(of_itself(2.0)(y) ** 2 + jax.nn.silu(y)))
        return inner(x) * jax.lax.fori_loop(0, 3, lambda i, y: y + i, x)

    traced = tracing.Function(fn).like(X)

    def third(fn):
        first = jax.grad(lambda x: jnp.sum(fn(x) ** 2))
        return jax.jit(jax.jvp, static_argnums=0)(first, (X,), (jnp.ones_like(X),))

    for found, expected in zip(third(traced), third(fn), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_few_programs_are_kept(monkeypatch, compiles):
    monkeypatch.setattr(programs._programs, "_most", 3)

    def shift(models, x, *, by):
        return models["fn"](x) + by

    def run(by):
        fn = {"fn": tracing.Function(lambda x: 2 * x, "fn")}
        return tracing.call(shift, fn, X, by=by)

    run(0)
    dropped = weakref.ref(next(reversed(programs._programs.values())))
    for by in range(1, 4):
        run(by)
    assert len(programs._programs) == 3
    gc.collect()
    assert dropped() is None
    with compiles(0):
        run(3)
    with compiles(1):
        np.testing.assert_array_equal(run(0), 2 * X)


def bound(name, **more):
    needed = {
        "surrogate_fn": lambda x: jnp.tanh(logits(x)),
        "generator": lambda x, *labels: jnp.sin(x),
        "epsilon": 0.1,
    }
    if name == "apgd_targeted":  # DLR needs four classes
        needed["loss"] = "margin"
    attack = attacks.ATTACKS[name]
    few = {"num_queries": 120, "num_steps": 2, "num_search_steps": 2, **needed}
    known = attacks.BoundAttack(name, attack, {}).known
    return attacks.make_attack(name, **{k: v for k, v in few.items() if k in known})


def logits(images):
    return jnp.sin(images.reshape(len(images), -1) @ jnp.arange(18.0).reshape(6, 3))


ONE_BY_QUERIES = attacks.ATTACKS.keys() - attacks.QUERY_ATTACKS | {"square"}


@pytest.mark.parametrize("name", sorted(ONE_BY_QUERIES))
def test_no_attack_copies_arrays_implicitly(name):
    targeted = name == "aigan"
    key, array = jax.random.key(0), jax.device_put(FLAT)
    with jax.transfer_guard("disallow"):
        for images, labels in ((FLAT, [0, 2]), (array, jax.device_put([0, 2]))):
            options = {"key": key, "targeted": targeted, "bounds": (0, 1)}
            bound(name)(logits, images, labels, **options)
    if name == "fgsm":
        with jax.transfer_guard("disallow"):
            several = attacks.worst_case([bound("fgsm"), bound("pgd")])
            several(logits, FLAT, None, key=key)
            evaluate(logits, several, FLAT, np.array([0, 1]), key=key)


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1)])
def test_bytes_on_a_device_are_not_copied_implicitly(bounds):
    pixels = jax.device_put(np.array(FLAT * 255, np.uint8))
    with jax.transfer_guard("disallow"):
        bound("fgsm")(logits, pixels, [0, 2], bounds=bounds)


def on_host(images):
    """A model of NumPy, which has no gradient."""
    flat = np.asarray(images).reshape(len(images), -1)
    return np.stack([flat.sum(1), 1 - flat.sum(1)], 1).astype(np.float32)


def host_logits(images):
    shape = jax.ShapeDtypeStruct((len(images), 2), jnp.float32)
    return jax.pure_callback(on_host, shape, images)


def test_generators_need_no_gradient_of_the_model():
    attack = attacks.make_attack("advgan", generator=lambda x: -x, epsilon=0.5)
    made = attack(host_logits, FLAT, None)
    measured = evaluate(host_logits, attack, FLAT, np.array([0, 0]))
    np.testing.assert_allclose(made, np.maximum(FLAT - 0.5, 0), atol=1e-7)
    np.testing.assert_array_equal(
        measured.adversarial_predictions, on_host(made).argmax(-1)
    )
    both = attacks.worst_case([attack, attack])(host_logits, FLAT, None)
    np.testing.assert_array_equal(both, made)


DEVICES = """
    import jax, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec as P
    from advgan_jax import attacks
    from advgan_jax.evaluation import evaluate

    assert jax.device_count() == 2
    mesh = jax.make_mesh((2,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))
    x = np.random.default_rng(0).random((6, 2, 2, 1), np.float32)
    first, second = jax.devices()
    w = jax.device_put(np.eye(4, 3, dtype=np.float32), first)
    model = lambda x: x.reshape(len(x), -1) @ w
    labels = np.zeros(6, np.int32)
    expected = attacks.fgsm(model, x, labels, epsilon=0.1)
    for place in (NamedSharding(mesh, P("b")), second):
        made = attacks.fgsm(model, jax.device_put(x, place), labels, epsilon=0.1)
        np.testing.assert_array_equal(made, expected)
        assert made.sharding.device_set == jax.device_put(x, place).sharding.device_set
    attack = attacks.make_attack("fgsm", epsilon=0.1)
    one = evaluate(model, attack, x, labels, batch_size=3)
    other = evaluate(model, attack, x, labels)
    np.testing.assert_array_equal(one.linf, other.linf)
    found = one.adversarial_predictions
    np.testing.assert_array_equal(found, np.argmax(model(expected), axis=1))
"""


@pytest.mark.slow
@pytest.mark.multi_device
def test_weights_follow_images_to_their_devices(on_devices):
    on_devices(2, DEVICES)
