"""One contract over the registry: what every attack promises."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks, losses
from advgan_jax.cpu import loops

pytestmark = pytest.mark.usefixtures("quick_compile")

NAMES = sorted(attacks.ATTACKS)
CW = {"num_search_steps": 4, "num_steps": 40, "learning_rate": 0.05}
CW_LINF = {"num_steps": 20, "learning_rate": 0.1, "initial_loss_weight": 0.1}
CHEAP = {
    "apgd": {"num_steps": 10},
    "bandits": {"num_queries": 40},
    "apgd_targeted": {"num_steps": 10, "num_classes_tried": 2},
    "bim": {"num_steps": 5},
    "carlini_wagner_l2": {**CW, "initial_loss_weight": 0.1},
    "carlini_wagner_linf": {**CW_LINF, "tau_factor": 0.5},
    "ddn": {"num_steps": 20},
    "deepfool": {"num_steps": 10},
    "ead": {"num_search_steps": 4, "num_steps": 40, "initial_loss_weight": 0.1},
    "hop_skip_jump": {"num_queries": 60, "num_initial_samples": 8},
    "fab": {"num_steps": 10},
    "fab_targeted": {"num_steps": 10, "num_classes_tried": 2},
    "fmn": {"num_steps": 20},
    "ilcm": {"num_steps": 5},
    "lbfgs": {"num_search_steps": 3},
    "mi_fgsm": {"num_steps": 5},
    "nes": {"num_queries": 40, "num_pairs": 4},
    "pgd": {"num_steps": 5},
    "rays": {"num_queries": 60},
    "signhunter": {"num_queries": 40},
    "simba": {"num_queries": 40},
    "spsa": {"num_queries": 40, "num_pairs": 4},
    "square": {"num_queries": 40},
    "transfer": {"epsilon": 0.3},
}
FIXED_EPSILON = ["apgd", "bim", "fgsm", "ilcm", "mi_fgsm", "pgd", "transfer"]
FIXED_EPSILON += ["bandits", "nes", "signhunter", "simba", "spsa", "square"]
FIXED_EPSILON += ["apgd_targeted"]
MINIMUM = ["carlini_wagner_l2", "carlini_wagner_linf", "deepfool", "lbfgs"]
MINIMUM += ["ddn", "ead", "fab", "fab_targeted", "fmn"]
CLASSES_ONLY = ["hop_skip_jump", "rays"]  # their targeted form needs a start
MINIMUM += CLASSES_ONLY
CHOOSE_CLASSES = ["apgd_targeted", "fab_targeted", "ilcm"]  # so never targeted
GENERATORS = ["advgan", "aigan"]
IMAGES_ONLY = [*GENERATORS, "square"]
TARGETED = ["aigan"]  # and nothing else
RANDOM = ["apgd", "apgd_targeted", "pgd", "transfer"]
RANDOM += ["bandits", "hop_skip_jump", "nes", "simba", "spsa", "square"]
# Their loops are those of `apgd`, `fmn` and `fab`: each test compiles for a second.
SAME_LOOPS = {"apgd_targeted", "ddn", "fab_targeted"}
EPSILON = 0.1
ONE_STEP = {"num_steps": 1}


def tanh_generator(images, *_):
    return jnp.tanh(images - 0.4)


def bind(name, net, **hyperparams):
    """The attack with few steps and all that it cannot do without."""
    needed = {
        "surrogate_fn": net,
        "generator": Partial(tanh_generator),
        "epsilon": 0.3,
    }
    signature = inspect.signature(attacks.ATTACKS[name]).parameters
    known = [k for k in needed if k in signature]
    extra = {k: needed[k] for k in known if signature[k].default is not None}
    if name in TARGETED:
        extra["targeted"] = True
    return attacks.make_attack(name, **{**CHEAP.get(name, {}), **extra, **hyperparams})


def only(names):
    """Parametrise over attacks, all of which must be in the registry.

    Attacks by queries share their loop; those that are not the first are slow tests.
    """
    assert set(names) <= set(NAMES), f"not in ATTACKS: {set(names) - set(NAMES)}"
    slow = SAME_LOOPS | attacks.QUERY_ATTACKS - {"square"}
    marks = {name: [pytest.mark.slow] if name in slow else [] for name in names}
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=marks[name]) for name in names]
    )


def test_every_attack_is_in_one_family():
    """An attack in no family would escape half of the contract."""
    assert sorted(FIXED_EPSILON + MINIMUM + GENERATORS) == NAMES


@only(NAMES)
def test_same_shape_and_dtype_within_the_box(name, net, images, labels):
    result = bind(name, net)(net, images, labels, key=jax.random.key(0))
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1


@only([n for n in NAMES if n not in IMAGES_ONLY])
def test_images_may_have_any_rank(name, net, images, labels):
    """A table of the same numbers is the same problem."""
    run, key = bind(name, net), jax.random.key(0)
    table = run(net, images.reshape(3, -1), labels, key=key)
    expected = run(net, images, labels, key=key)
    assert table.shape == (3, 70)
    assert_same(name, table.reshape(images.shape), expected, images)


@only([n for n in NAMES if n not in GENERATORS])
def test_a_masked_class_changes_nothing(name, net, images, labels):
    def masked(net, value, x):
        return jnp.concatenate([net(x), jnp.full((len(x), 1), value)], axis=1)

    run, key = bind(name, net), jax.random.key(0)
    expected = run(net, images, labels, key=key)
    for value in jnp.array([-1e6, -1e9, -jnp.inf]):
        model = Partial(masked, net, value)
        found = bind(name, model)(model, images, labels, key=key)
        assert_same(name, found, expected, images)


@only(IMAGES_ONLY)
def test_some_attacks_need_images(name, net, images, labels):
    with pytest.raises(ValueError, match=r"\[B, H, W, C\], got \(\d, 70\)"):
        bind(name, net)(net, images.reshape(3, -1), labels, key=jax.random.key(0))


@only(NAMES)
def test_units_of_the_pixels_change_nothing_else(name, net, images, labels):
    in_other_units(name, net, images, labels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apgd", "apgd_targeted"])
def test_units_of_a_random_start_in_l1(name, net, images, labels):
    """Its noise has a length of its own; the projection shortens it."""
    few = {"norm": "l1", "num_steps": 2, "random_start": True}
    in_other_units(name, net, images, labels, **few)


def in_other_units(name, net, images, labels, **hyper):
    """Compare an attack in other units with the same one in [0, 1]."""
    bounds = (-128.0, 127.0)  # neither 0 nor 1 is an end, and a step is far from 1
    images = jnp.round(256 * images) / 256  # exact in all units

    def run(low, high):
        size = high - low
        model = Partial(lambda net, x: net((x - low) / size), net)
        lengths = {"epsilon": 0.3 * size, "step_size": 0.1 * size}
        known = bind(name, net).known
        lengths = {n: v for n, v in lengths.items() if n in known}
        attack = bind(name, model, **lengths, **hyper)
        x = low + size * images
        return attack(model, x, labels, key=jax.random.key(0), bounds=(low, high))

    found, expected = run(*bounds), run(0.0, 1.0)
    assert bounds[0] <= float(found.min())
    assert float(found.max()) <= bounds[1]
    found = (found - bounds[0]) / (bounds[1] - bounds[0])
    assert_same(name, found, expected, images)


@only([n for n in FIXED_EPSILON if n not in CHOOSE_CLASSES])
@pytest.mark.parametrize("targeted", [False, True])
def test_every_loss_is_worse(name, targeted, net, images, labels, wanted):
    chosen = wanted if targeted else labels
    run = bind(name, net, epsilon=EPSILON)
    result = run(net, images, chosen, key=jax.random.key(0), targeted=targeted)
    before = losses.cross_entropy(net(images), chosen, targeted=targeted)
    after = losses.cross_entropy(net(result), chosen, targeted=targeted)
    assert (after < before).all()


@only(CHOOSE_CLASSES)
def test_they_choose_their_classes(name, net, images, labels):
    with pytest.raises(ValueError, match="chooses the wanted classes itself"):
        bind(name, net)(net, images, labels, key=jax.random.key(0), targeted=True)


@only(MINIMUM)
@pytest.mark.parametrize("targeted", [False, True])
def test_minimum_distortion_succeeds(name, targeted, net, images, labels, wanted):
    if targeted and name in (*CLASSES_ONLY, *CHOOSE_CLASSES):
        return
    chosen, key = wanted if targeted else labels, jax.random.key(0)
    result = bind(name, net)(net, images, chosen, key=key, targeted=targeted)
    assert attacks.succeeded(net(result), chosen, targeted=targeted).all()


@only(MINIMUM)
def test_a_failed_search_returns_the_clean_image(name, images):
    def constant(x):
        return jnp.zeros((x.shape[0], 3)).at[:, 1].set(3.0)

    labels = jnp.ones(images.shape[0], jnp.int32)
    result = bind(name, None)(constant, images, labels, key=jax.random.key(0))
    np.testing.assert_array_equal(result, images)


@pytest.mark.parametrize(
    ("search", "weight"),
    [
        (attacks.carlini_wagner_l2_search, "loss_weight"),
        (attacks.lbfgs_search, "distance_weight"),
    ],
)
def test_results_of_failed_searches(search, weight, images):
    def constant(x):
        return jnp.zeros((x.shape[0], 3)).at[:, 1].set(3.0)

    labels = jnp.ones(images.shape[0], jnp.int32)
    found = search(constant, images, labels, num_steps=2, num_search_steps=2)
    np.testing.assert_array_equal(found.images, images)
    assert not found.success.any()
    assert np.isnan(getattr(found, weight)).all()
    norms = {"l2", "rms_distortion"} & set(found._fields)
    assert all(np.isinf(getattr(found, norm)).all() for norm in norms)


@only(MINIMUM)
def test_misclassified_images_stay(name, net, images, labels):
    others, key = (labels + 1) % 5, jax.random.key(0)
    result = bind(name, net)(net, images, others, key=key)
    np.testing.assert_array_equal(result, images)


@only(NAMES)
def test_jit_equals_eager(name, net, images, labels):
    run, key = bind(name, net), jax.random.key(1)
    eager = run(net, images, labels, key=key)
    jitted = jax.jit(lambda fn, x, y, k: run(fn, x, y, key=k))(net, images, labels, key)
    # Other fusions round otherwise: a few units in the last place of a step.
    np.testing.assert_allclose(jitted, eager, atol=1e-5)


def assert_same(name, some, others, clean):
    """The same images as far as another order of the sums in a model allows."""
    if name not in MINIMUM:
        np.testing.assert_allclose(some, others, atol=1e-5)
        return
    # Adam turns the rounding of a gradient near 0 into a whole step of one pixel, and
    # L-BFGS stops where the objective is flat; so is the norm, which both minimise.
    sizes = [
        jnp.linalg.norm((x - clean).reshape(len(x), -1), axis=1) for x in (some, others)
    ]
    np.testing.assert_allclose(*sizes, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(some, others, atol=1e-2)


@only(NAMES)
def test_vmap_over_batches(name, net, images, labels):
    run, key = bind(name, net), jax.random.key(1)
    stacked = jnp.stack([images, images[::-1]])
    labels = jnp.stack([labels, labels[::-1]])
    result = jax.vmap(lambda x, y: run(net, x, y, key=key))(stacked, labels)
    single = run(net, images[::-1], labels[1], key=key)
    assert_same(name, result[1], single, images[::-1])


@only([n for n in NAMES if n not in RANDOM])
def test_images_do_not_see_each_other(name, net, images, labels):
    run = bind(name, net)
    together = run(net, images, labels)[1:2]
    alone = run(net, images[1:2], labels[1:2])
    assert_same(name, together, alone, images[1:2])


@only(NAMES)
def test_a_fixed_key_repeats(name, net, images, labels):
    run, key = bind(name, net), jax.random.key(7)
    first, second = (run(net, images, labels, key=key) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@only(RANDOM)
def test_another_key_differs(name, net, images, labels):
    run = bind(name, net, **({} if name in attacks.QUERY_ATTACKS else ONE_STEP))
    first, second = (
        run(net, images, labels, key=jax.random.key(seed)) for seed in range(2)
    )
    assert (first != second).any(axis=(1, 2, 3)).all()


@only([n for n in NAMES if n not in TARGETED])
def test_labels_none_means_the_prediction(name, net, images, labels):
    run, key = bind(name, net), jax.random.key(1)
    np.testing.assert_allclose(
        run(net, images, None, key=key), run(net, images, labels, key=key), atol=1e-5
    )


@only([*FIXED_EPSILON, *GENERATORS])
def test_epsilon_zero_is_the_identity(name, net, images, labels):
    run = bind(name, net, epsilon=0.0)
    result = run(net, images, labels, key=jax.random.key(0))
    np.testing.assert_array_equal(result, images)


@only(NAMES)
def test_one_program_for_many_calls(name, images, compiles):
    def make(weights):
        return lambda x: jnp.tanh(x.reshape(len(x), -1)) @ weights

    weights = jax.random.normal(jax.random.key(0), (70, 4))
    first, second, others = make(weights), make(2 * weights), images[::-1]
    keys = [jax.random.key(0), jax.random.key(9)]
    run, again = bind(name, first), bind(name, second)
    labels = jnp.zeros(3, jnp.int32) if name in TARGETED else None
    run(first, images, labels, key=keys[0])
    hyper = {"epsilon": 0.2} if run.arguments.get("epsilon") is not None else {}
    hyper |= {"confidence": 0.5} if "confidence" in run.known else {}
    hyper |= {"overshoot": 0.03} if "overshoot" in run.known else {}
    with compiles(0):
        again(second, others, labels, key=keys[1], **hyper)


def test_generator_aims_each_image_at_its_own_class(net, images):
    def generator(x, classes):
        return 0.01 * classes[:, None, None, None] * jnp.ones_like(x)

    wanted = jnp.array([0, 3, 4])
    run = attacks.make_attack("aigan", generator=generator, epsilon=0.035)
    result = run(net, images / 2, wanted, targeted=True)
    added = (result - images / 2).max(axis=(1, 2, 3))
    np.testing.assert_allclose(added, [0, 0.03, 0.035], atol=1e-6)
    with pytest.raises(ValueError, match="needs wanted classes, got targeted=False"):
        run(net, images, wanted)
    with pytest.raises(ValueError, match="labels"):
        run(net, images, None, targeted=True)


# A step, a loop and a search; `@attack` does the rest.
@only(["fgsm", "pgd", "deepfool"])
def test_it_is_a_constant_to_gradients(name, net, images, labels):
    run, key = bind(name, net), jax.random.key(1)

    def total(fn, x):
        return jnp.sum(run(fn, x, labels, key=key))

    weights, pixels = jax.grad(total, argnums=(0, 1))(net, images)
    closed_over = jax.grad(lambda fn: total(lambda x: fn(x), images))(net)
    leaves = jax.tree.leaves((weights, pixels, closed_over))
    assert all(not leaf.any() for leaf in leaves)


# All that carry more than images through their loops.
@only(
    [
        *("apgd", "apgd_targeted", "carlini_wagner_l2", "carlini_wagner_linf"),
        *("ddn", "deepfool", "ead", "fab", "fab_targeted", "fmn", "lbfgs", "pgd"),
        "square",
    ]
)
def test_under_shard_map(name, net, images, labels, monkeypatch):
    monkeypatch.setattr(loops, "_NUM_LANES_CPU", 2)  # fewer than the three images
    run, key = bind(name, net), jax.random.key(1)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = jax.sharding.PartitionSpec("data")
    sharded = jax.shard_map(
        lambda x, y: run(net, x, y, key=key),
        mesh=mesh,
        in_specs=(batch, batch),
        out_specs=batch,
    )
    expected = run(net, images, labels, key=key)
    np.testing.assert_allclose(jax.jit(sharded)(images, labels), expected, atol=1e-5)
