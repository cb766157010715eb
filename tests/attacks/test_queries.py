"""Attacks by queries: what they propose, what they count, and known answers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks
from advgan_jax.attacks._queries import State
from advgan_jax.attacks.square import _side

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(4)


def bind(name, **hyperparams):
    few = {"epsilon": 0.3, "num_queries": 60}
    return attacks.make_attack(name, **{**few, **hyperparams})


def steps(attack, model, image, label, key):
    """Run a method on one image, step by step; yield proposals and states."""
    method = attacks.query_method(attack)
    ask, tell = jax.jit(method.ask), jax.jit(method.tell)
    state = jax.jit(method.init)(image, label, key)
    while not state.done:
        proposals = ask(state)
        after = tell(state, proposals, model(proposals))
        yield proposals, state, after
        state = after


def surely(weights, images):
    """A linear model of two classes that no perturbation deceives."""
    score = images.reshape(len(images), -1) @ weights.ravel()
    return jnp.stack([100 + score, -score], axis=-1)


SIGNHUNTER = pytest.param("signhunter", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["square", SIGNHUNTER])
def test_loop_equals_steps_and_counts_alike(name, net, images, labels):
    """More images than lanes: each is queried as if it were alone."""
    count = 40
    many = jnp.tile(images, (14, 1, 1, 1))[:count]
    many = jnp.clip(many + jnp.linspace(-0.1, 0.1, count)[:, None, None, None], 0, 1)
    classes = jnp.argmax(net(many), axis=-1)
    attack = bind(name, epsilon=0.15)
    search = getattr(attacks, f"{name}_search")
    found = search(net, many, classes, key=KEY, **attack.hyperparams)
    assert len(set(np.asarray(found.queries))) > 3
    succeeded = attacks.succeeded(net(found.images), classes)
    np.testing.assert_array_equal(found.success, succeeded)
    for row in (0, 17, 39):
        key = jax.random.fold_in(KEY, row)
        (*_, (_, _, last)) = steps(attack, net, many[row], classes[row], key)
        np.testing.assert_array_equal(last.best, found.images[row])
        assert (last.queries, last.success) == (found.queries[row], found.success[row])


def test_signhunter_finds_all_signs(images):
    """A pass flips each pixel once, which suffices for a linear model."""
    weights = jax.random.normal(jax.random.key(0), images.shape[1:])
    model, inner = Partial(surely, weights), jnp.clip(images, 0.2, 0.8)
    labels = jnp.zeros(3, jnp.int32)
    # One query, and two for each node of a tree with 70 leaves and 8 levels at most.
    found = attacks.signhunter_search(
        model, inner, labels, epsilon=0.1, num_queries=200, loss="margin"
    )
    expected = inner - 0.1 * jnp.sign(weights)
    np.testing.assert_allclose(found.images, expected, atol=1.2e-7)
    np.testing.assert_array_equal(found.queries, 200)
    assert not found.success.any()


def test_signhunter_flips_the_middle_first():
    image = jnp.full((10, 1), 0.5)
    attack = bind("signhunter", num_queries=40, first_level=2, middle_first=True)
    rows = [
        np.flatnonzero(np.asarray(x - before.best).ravel())
        for (x,), before, _ in steps(attack, Partial(surely, 0 * image), image, 0, KEY)
    ]
    # Chunks of 3, 3, 3 and 1; then of 2; then pixels.
    assert [list(row) for row in rows[1:5]] == [[3, 4, 5], [6, 7, 8], [0, 1, 2], [9]]
    assert [list(row) for row in rows[5:8]] == [[4, 5], [2, 3], [6, 7]]
    assert [row[0] for row in rows[10:20]] == [4, 5, 3, 6, 2, 7, 1, 8, 0, 9]
    assert len(rows[20]) == 10
    with pytest.raises(ValueError, match=r"`first_level` must be from 0 to 4.*10 numb"):
        next(steps(bind("signhunter", first_level=5), None, image, 0, KEY))


def test_square_changes_one_square_to_corners(images, labels):
    image = jnp.clip(images[0], 0.2, 0.8)
    model = Partial(surely, jax.random.normal(jax.random.key(0), image.shape))
    attack = bind("square", epsilon=0.1)
    seen, sides = [], set()
    for (x,), before, after in steps(attack, model, image, 0, KEY):
        np.testing.assert_allclose(jnp.abs(x - image), 0.1, atol=1e-6)
        changed = np.asarray((x != before.best).any(axis=-1))
        if before.queries == 0:  # each column has one colour
            np.testing.assert_array_equal(x - image > 0, (x - image > 0)[:1] | (x < 0))
        else:
            rows, columns = np.nonzero(changed)
            side = max(np.ptp(rows), np.ptp(columns)) + 1
            sides.add(int(side))
            # A change in each window, of at most 0.8 of the pixels.
            assert 1 <= side <= 5
        assert after.loss <= before.loss
        seen.append(np.asarray(x))
    assert len(seen) == 60
    assert {1, 5} <= sides


@pytest.mark.parametrize("norm", ["l2", pytest.param("l1", marks=pytest.mark.slow)])
def test_square_fills_the_ball_of_other_norms(norm, images):
    image = jnp.clip(images[0], 0.4, 0.6)
    model = Partial(surely, jax.random.normal(jax.random.key(0), image.shape))
    order, losses = {"l2": 2, "l1": 1}[norm], []
    for (x,), _, after in steps(bind("square", norm=norm), model, image, 0, KEY):
        size = np.linalg.norm(np.asarray(x - image, np.float64).ravel(), order)
        assert 0.299 < size <= 0.3 + 1e-6
        losses.append(float(after.loss))
    assert losses[-1] < losses[0]


def test_square_halves_its_share_as_the_paper():
    state = functools.partial(_state, jnp.zeros((20, 20, 1)))
    side = jax.jit(lambda n: _side(state(n), 0.8, 10_000, 1))
    # The first square is proposal 2. 0.8 of 400 pixels, then a half, a quarter, ...
    expected = {2: 18, 11: 18, 12: 13, 52: 9, 202: 6, 502: 4, 1002: 3, 8002: 1}
    assert {n: int(side(n)) for n in expected} == expected


def test_square_as_in_autoattack():
    image = jnp.full((12, 12, 1), 0.5)
    weights = jax.random.normal(jax.random.key(0), image.shape)
    attack, wasted, sides = bind("square", as_in_autoattack=True), 0, []
    (first,), *_ = next(steps(attack, Partial(surely, weights), image, 0, KEY))
    for (x,), before, _ in steps(attack, Partial(surely, weights), image, 0, KEY):
        np.testing.assert_array_equal(x[-1], first[-1])
        np.testing.assert_array_equal(x[:, -1], first[:, -1])
        rows, columns = np.nonzero(np.asarray(x != before.best)[..., 0])
        wasted += len(rows) == 0
        sides += [max(np.ptp(rows), np.ptp(columns)) + 1] if len(rows) else []
    # Squares that have their colour already cost a query.
    assert wasted > 5
    # The last squares are those of query 60 of 10,000, not the last of 60.
    assert max(sides[-3:]) == round((0.8 / 4 * 144) ** 0.5)


def test_bumps_as_in_autoattack_keep_off_the_edges():
    image = jnp.full((11, 11, 1), 0.5)  # the first bumps cover ten rows, or all
    weights = jax.random.normal(jax.random.key(0), image.shape)
    for as_in_autoattack in (False, True):
        hyper = {"initial_share": 0.2, "as_in_autoattack": as_in_autoattack}
        attack = bind("square", norm="l2", **hyper)
        seen = steps(attack, Partial(surely, weights), image, 0, KEY)
        reached = any((x[-1] != image[-1]).any() for (x,), *_ in seen)
        assert reached is not as_in_autoattack
        larger = jnp.full((12, 12, 1), 0.5)
        first = attacks.query_method(attack).init(larger, 0, KEY).own
        assert (first[0] != larger[0]).any() != as_in_autoattack


def _state(image, queries):
    other = [jnp.asarray(0)] * 7
    return State(image, *other, own=())._replace(queries=queries)


def test_answers_that_are_no_numbers_are_failures(images, labels):
    def broken(x):
        good = jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], axis=-1)
        return jnp.where((x < 0.5).all(axis=(1, 2, 3))[:, None], good, jnp.nan)

    dark = jnp.minimum(images, 0.35)
    found = attacks.square_search(
        broken, dark, 0 * labels, key=KEY, epsilon=0.3, num_queries=20
    )
    assert not found.success.any()
    assert np.isfinite(broken(found.images)).all()


def test_bad_settings(net, images, labels):
    with pytest.raises(TypeError, match=r"one by queries.*got 'fgsm'"):
        attacks.query_method(attacks.make_attack("fgsm"))
    with pytest.raises(ValueError, match=r"`bounds` of a method must be \(0, 1\)"):
        attacks.query_method(bind("square", bounds=(0, 255)))
    with pytest.raises(TypeError, match="`square` needs the argument `epsilon`"):
        attacks.query_method(attacks.make_attack("square"))
    with pytest.raises(ValueError, match=r"norm 'l1'.*l2, linf"):
        attacks.query_method(bind("signhunter", norm="l1"))
    with pytest.raises(ValueError, match="`num_queries` must be an integer >= 1"):
        attacks.square(net, images, labels, key=KEY, epsilon=0.1, num_queries=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nes", "spsa", "bandits"])
def test_estimates_descend_like_the_gradient(name, images):
    """On a linear model the signs of the estimate are those of the weights."""
    image = jnp.clip(images[0], 0.3, 0.7)
    weights = jax.random.normal(jax.random.key(0), image.shape)
    # The steps of the prior suit slopes of this size.
    pairs = {"prior_step_size": 0.3} if name == "bandits" else {"num_pairs": 40}
    attack = bind(name, epsilon=0.1, loss="margin", num_queries=2000, **pairs)
    (*_, (x, _, last)) = steps(attack, Partial(surely, weights), image, 0, KEY)
    moved = (last.best - image) * -jnp.sign(weights)
    # The optimum moves each pixel by 0.1, chance by 0 on average.
    assert jnp.sum(moved * jnp.abs(weights)) > 0.08 * jnp.sum(jnp.abs(weights))
    assert jnp.abs(x[0] - image).max() <= 0.1 + 1e-6
    assert x.shape[0] == attacks.query_method(attack).num_proposals


@pytest.mark.slow
def test_simba_tries_each_pixel_up_and_down(images):
    image = jnp.clip(images[0], 0.3, 0.7)
    weights = jax.random.normal(jax.random.key(0), image.shape)
    attack = bind("simba", epsilon=0.1, loss="margin", num_queries=1 + 2 * 70)
    seen = list(steps(attack, Partial(surely, weights), image, 0, KEY))
    np.testing.assert_array_equal(seen[0][0][0], image)
    # A pixel costs one query if up lowers the loss, else two.
    ups = int((weights < 0).sum())
    first_pass = seen[1 : 1 + ups + 2 * (70 - ups)]
    for (x,), before, _ in first_pass:
        assert (x != before.best).sum() == 1
    best = first_pass[-1][2].best
    np.testing.assert_allclose(best, image - 0.1 * jnp.sign(weights), atol=1e-6)


@pytest.mark.parametrize(
    "name", ["rays", pytest.param("hop_skip_jump", marks=pytest.mark.slow)]
)
def test_classes_suffice(name, net, images, labels):
    """Scores of any size give the same queries as labels."""
    attack = bind(name, epsilon=None, num_queries=80)
    search = getattr(attacks, f"{name}_search")

    def only_classes(x):
        return 9 * jax.nn.one_hot(jnp.argmax(net(x), axis=-1), 5)

    found, other = (
        search(model, images, labels, key=KEY, **attack.hyperparams)
        for model in (net, only_classes)
    )
    for one, two in zip(found, other, strict=True):
        np.testing.assert_array_equal(one, two)
    assert found.success.all()
    np.testing.assert_array_equal(found.queries, 80)


def test_rays_on_a_linear_model(images):
    """The nearest corner direction is the signs of the weights, at a known distance."""
    image = jnp.full((4, 4, 1), 0.5)
    weights = jax.random.normal(jax.random.key(1), image.shape)

    def model(x):
        score = jnp.sum((x - 0.5) * weights, axis=(1, 2, 3)) + 0.6
        return jnp.stack([score, -score], axis=-1)

    found = attacks.rays_search(
        model, image[None], jnp.array([0]), num_queries=600, tolerance=1e-4
    )
    distance = float(jnp.abs(found.images - image).max())
    # One pass over all levels flips each pixel by itself, which is enough here.
    least = 0.6 / float(jnp.abs(weights).sum())
    assert distance == pytest.approx(least, rel=1e-3)
    # It takes 58 queries to 1.05 of the least distance if each search halves from 0.
    for epsilon, most in ((0.2, 6), (1.05 * least, 48)):
        near = attacks.rays_search(model, image[None], jnp.array([0]), epsilon=epsilon)
        assert near.success.all()
        assert jnp.abs(near.images - image).max() <= epsilon
        assert near.queries <= most


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hop_skip_jump_on_a_linear_model(norm):
    image = jnp.full((4, 4, 1), 0.5)
    weights = jax.random.normal(jax.random.key(1), image.shape)

    def model(x):
        score = jnp.sum((x - 0.5) * weights, axis=(1, 2, 3)) + 0.6
        return jnp.stack([score, -score], axis=-1)

    found = attacks.hop_skip_jump_search(
        *(model, image[None], jnp.array([0])), key=KEY, norm=norm, num_queries=3000
    )
    dual = {"l2": 2, "linf": 1}[norm]
    best = 0.6 / np.linalg.norm(np.asarray(weights).ravel(), dual)
    order = {"l2": 2, "linf": np.inf}[norm]
    distance = np.linalg.norm(np.asarray(found.images - image).ravel(), order)
    # Estimates of 100 samples and more point at most a few degrees away.
    assert best * (1 - 1e-5) <= distance < 1.15 * best


@pytest.mark.parametrize("name", ["square", SIGNHUNTER, "nes", "spsa", "bandits"])
def test_a_start_is_the_first_proposal_within_the_ball(name, net, images, labels):
    image, method = images[0], attacks.query_method(bind(name, num_queries=200))
    moved = 0.4 * jnp.sin(jnp.arange(70.0).reshape(5, 7, 2))
    start = jnp.clip(image + moved, 0, 1)
    nearest = jnp.clip(start, image - 0.3, image + 0.3)
    assert 5 < (start != nearest).sum() < 65
    state = method.init(image, labels[0], KEY, start)
    first = method.ask(state)
    np.testing.assert_allclose(first[0], nearest, atol=1e-7)
    state = method.tell(state, first, jnp.tile(jnp.eye(5)[labels[0]], (len(first), 1)))
    assert not state.done
    assert (jnp.abs(state.best - image) <= 0.3 + 1e-6).all()
    changed = method.ask(state)[0] != nearest
    assert 0 < changed.sum() < 70 or name != "square"
    with pytest.raises(ValueError, match="takes no starting image"):
        attacks.query_method(bind("simba")).init(image, labels[0], KEY, start)
