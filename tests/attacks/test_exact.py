"""Attacks on linear models, whose answers are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks, losses

pytestmark = pytest.mark.usefixtures("quick_compile")

SHAPES = [(1, (5, 7, 2)), (3, (4, 3, 1)), (8, (2, 9, 3))]


def two_class(images):
    """A linear model of two classes: class 0 where `w . x` is large."""
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=images.shape[1:]), jnp.float32)

    def logits(w, x):
        score = jnp.sum(w * (x - 0.5), axis=(1, 2, 3))
        return jnp.stack([score, -score], axis=-1)

    return Partial(logits, weights), weights


def boundary_distance(model, images, labels, order, targeted=None):
    """Distance to the nearest (or the wanted) class of a linear model, box aside."""
    weights = np.asarray(model.args[0]["w"], np.float64)
    logits = np.asarray(model(images), np.float64)
    dual = {2: 2, np.inf: 1}[order]
    distances = []
    for row, label in zip(logits, np.asarray(labels), strict=True):
        others = [k for k in range(len(row)) if k != label]
        distances.append(
            min(
                (row[label] - row[k])
                / np.linalg.norm(weights[:, label] - weights[:, k], dual)
                for k in others
            )
        )
    return np.array(distances)


def norms(perturbation, order):
    flat = np.asarray(perturbation, np.float64).reshape(len(perturbation), -1)
    return np.linalg.norm(flat, order, axis=1)


@pytest.mark.parametrize(
    ("name", "targeted"),
    [
        ("fgsm", False),
        ("fgsm", True),
        ("bim", False),
        ("pgd", False),
        ("pgd", True),
        ("mi_fgsm", False),
        ("apgd", False),
    ],
)
def test_linf_ends_in_the_corner(name, targeted, images):
    model, weights = two_class(images)
    labels = jnp.zeros(len(images), jnp.int32) + int(targeted)
    # 40 steps of 2.5 epsilon / 40 cross the ball from any start.
    result = attacks.ATTACKS[name](
        model, images, labels, key=jax.random.key(0), epsilon=0.1, targeted=targeted
    )
    expected = np.clip(images - 0.1 * np.sign(weights), 0, 1)
    np.testing.assert_allclose(result, expected, atol=1.2e-7)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fgsm_is_bim_with_one_step(norm, net, images, labels):
    one = attacks.fgsm(net, images, labels, epsilon=0.1, norm=norm)
    hyper = {"epsilon": 0.1, "step_size": 0.1, "num_steps": 1, "norm": norm}
    several = attacks.bim(net, images, labels, **hyper)
    # Two programs may round differently, by a unit in the last place.
    np.testing.assert_allclose(several, one, atol=6e-8)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd"])
def test_l2_follows_the_weights(name, make_linear):
    _, images, _ = make_linear(3)
    model, weights = two_class(images)
    labels = jnp.zeros(3, jnp.int32)
    # Long steps: each turns the perturbation by a share of the angle that is left.
    hyper = {"step_size": 0.2} if name == "pgd" else {}
    result = attacks.ATTACKS[name](
        model, images, labels, key=jax.random.key(0), epsilon=0.5, norm="l2", **hyper
    )
    expected = images - 0.5 * weights / jnp.linalg.norm(weights)
    # The loss is flat to second order around the optimum: compare what it gains.
    gain = jnp.sum(weights * (images - result), axis=(1, 2, 3))
    best = jnp.sum(weights * (images - expected), axis=(1, 2, 3))
    np.testing.assert_allclose(gain, best, rtol=1e-4)


@pytest.mark.parametrize("random_start", [False, True])
def test_l1_fills_the_best_pixels(random_start, make_linear):
    _, images, _ = make_linear(3)
    model, weights = two_class(images)
    labels = jnp.zeros(3, jnp.int32)
    epsilon = 2.2  # room for about four pixels
    result = attacks.pgd(
        model,
        images,
        labels,
        key=jax.random.key(0),
        epsilon=epsilon,
        norm="l1",
        num_steps=400,
        random_start=random_start,
    )
    gain = jnp.sum(weights * (images - result), axis=(1, 2, 3))
    slopes = np.abs(np.asarray(weights)).ravel()
    for image, found in zip(np.asarray(images), np.asarray(gain), strict=True):
        room = np.where(weights > 0, image, 1 - image).ravel()
        left, best = epsilon, 0.0
        for pixel in np.argsort(-slopes):
            step = min(left, room[pixel])
            left, best = left - step, best + step * slopes[pixel]
        # It hovers about the optimum by a few of its steps, 2.5 / 400 of epsilon each.
        assert 0.98 * best <= found <= best * (1 + 1e-5)


def test_fgm_in_l2_heeds_epsilon(net, images, labels):
    images = jnp.clip(images, 0.3, 0.7)
    for epsilon in (0.1, 0.2):
        result = attacks.fgsm(net, images, labels, epsilon=epsilon, norm="l2")
        # Rounding of 70 pixels, half a unit in the last place each.
        np.testing.assert_allclose(norms(result - images, 2), epsilon, atol=1e-6)


@pytest.mark.parametrize(
    ("num_images", "shape", "targeted"),
    [(*case, False) for case in SHAPES] + [(*SHAPES[1], True)],
)
def test_carlini_wagner_is_within_one_percent(num_images, shape, targeted, make_linear):
    model, images, labels = make_linear(num_images, shape, num_classes=3)
    chosen = jnp.argsort(model(images), axis=-1)[:, -2] if targeted else labels
    if targeted:  # the plane between the two is what must be crossed
        keep = model.args[0]
        expected = plane_distance(keep["w"], model(images), labels, chosen)
    else:
        expected = boundary_distance(model, images, labels, 2)
    result = attacks.carlini_wagner_l2_search(
        model, images, chosen, targeted=targeted, num_steps=400
    )
    assert result.success.all()
    np.testing.assert_allclose(norms(result.images - images, 2), expected, rtol=0.01)
    np.testing.assert_allclose(result.l2, expected, rtol=0.01)


def test_carlini_wagner_l2_searches_c_for_each_image():
    """Distances 25 times apart need constants as far apart."""
    images = jnp.full((3, 5, 7, 2), 0.5)
    model, weights = two_class(images)
    distances = jnp.array([0.04, 0.2, 1.0])
    unit = weights / jnp.linalg.norm(weights)
    images = images + distances[:, None, None, None] * unit
    found = attacks.carlini_wagner_l2_search(
        model,
        images,
        jnp.zeros(3, jnp.int32),
        num_steps=600,
        learning_rate=2e-3,  # at 0.01 one step is almost the least distance
    )
    np.testing.assert_allclose(found.l2, distances, rtol=0.01)


def plane_distance(weights, logits, labels, wanted):
    lane = jnp.arange(len(labels))
    gap = logits[lane, labels] - logits[lane, wanted]
    normal = jnp.linalg.norm(weights[:, labels] - weights[:, wanted], axis=0)
    return gap / normal


@pytest.mark.parametrize(("num_images", "shape"), SHAPES)
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_is_within_one_percent(num_images, shape, norm, make_linear):
    model, images, labels = make_linear(num_images, shape)
    order = {"l2": 2, "linf": np.inf}[norm]
    # Its own overshoot of 2 percent is not an error.
    result = attacks.deepfool(model, images, labels, norm=norm, overshoot=1e-4)
    assert attacks.succeeded(model(result), labels).all()
    expected = boundary_distance(model, images, labels, order)
    np.testing.assert_allclose(norms(result - images, order), expected, rtol=0.01)


def test_deepfool_with_few_candidates(make_linear):
    model, images, labels = make_linear(8)
    every = attacks.deepfool(model, images, labels)
    same = attacks.deepfool(model, images, labels, num_candidates=4)
    np.testing.assert_array_equal(every, same)
    two = attacks.deepfool(model, images, labels, num_candidates=2)
    assert attacks.succeeded(model(two), labels).all()


def test_deepfool_uses_the_pixels_that_have_room():
    """Half of the pixels are at the edge that they would be pushed across."""
    weights = jax.random.normal(jax.random.key(2), (5, 7, 2))
    at_edge = jnp.arange(70).reshape(5, 7, 2) % 2 == 0
    image = jnp.where(at_edge, jnp.where(weights > 0, 0.0, 1.0), 0.5)
    offset = 1 - jnp.sum(weights * image)

    def model(x):
        score = jnp.sum(weights * x, axis=(1, 2, 3)) + offset
        return jnp.stack([score, -score], axis=-1)

    result = attacks.deepfool(model, image[None], None, overshoot=1e-3)
    assert attacks.succeeded(model(result), jnp.zeros(1, jnp.int32)).all()
    least = 1 / np.linalg.norm(np.asarray(weights)[~np.asarray(at_edge)])
    np.testing.assert_allclose(norms(result - image, 2), least, rtol=0.01)


@pytest.mark.parametrize(("num_images", "shape"), SHAPES[:2])
def test_carlini_wagner_linf_is_near_the_minimum(num_images, shape, make_linear):
    # Two classes: with more, the margin may lead it to one that is not the nearest.
    model, images, labels = make_linear(num_images, shape, num_classes=2)
    result = attacks.carlini_wagner_linf(
        model, images, labels, num_steps=300, tau_factor=0.99, initial_loss_weight=1e-3
    )
    assert attacks.succeeded(model(result), labels).all()
    expected = boundary_distance(model, images, labels, np.inf)
    found = norms(result - images, np.inf)
    # It knows the minimum no better than its tau, of which each is 1 percent less.
    assert (found >= expected * 0.999).all()
    assert (found <= expected * 1.02).all()


@pytest.mark.parametrize("targeted", [False, True])
def test_carlini_wagner_moves_black_and_white_pixels(targeted, net, images):
    images = jnp.round(images)
    logits = net(images)
    chosen = jnp.argsort(logits, axis=-1)[:, -2 if targeted else -1]
    result = attacks.carlini_wagner_l2(
        net, images, chosen, targeted=targeted, num_steps=200, initial_loss_weight=0.1
    )
    assert attacks.succeeded(net(result), chosen, targeted=targeted).all()
    assert (norms(result - images, np.inf) > 0).all()


def test_carlini_wagner_reports_what_it_returns(net, images, labels):
    found = attacks.carlini_wagner_l2_search(net, images, labels, num_steps=100)
    np.testing.assert_allclose(norms(found.images - images, 2), found.l2, rtol=1e-5)
    assert (found.success == attacks.succeeded(net(found.images), labels)).all()
    assert np.isfinite(found.loss_weight).all()


def test_carlini_wagner_keeps_its_confidence(net, images, labels):
    result = attacks.carlini_wagner_l2(
        net, images, labels, confidence=2.0, num_steps=200, initial_loss_weight=1.0
    )
    assert (losses.margin(net(result), labels, confidence=100.0) <= -2).all()


def test_carlini_wagner_tells_failure(images):
    def constant(x):
        return jnp.zeros((x.shape[0], 3)).at[:, 1].set(3.0)

    labels = jnp.ones(len(images), jnp.int32)
    found = attacks.carlini_wagner_l2_search(constant, images, labels, num_steps=5)
    assert not found.success.any()
    assert np.isinf(found.l2).all()
    assert np.isnan(found.loss_weight).all()
    np.testing.assert_array_equal(found.images, images)


def test_margin_with_negative_logits(make_linear):
    """All logits below 0: a rival takes 0 for the best other one and stops early."""
    model, images, labels = make_linear(3)
    shifted = Partial(lambda fn, x: fn(x) - 100, model)
    hyper = {"epsilon": 0.3, "loss": "margin", "random_start": False}
    plain = attacks.pgd(model, images, labels, **hyper)
    moved = attacks.pgd(shifted, images, labels, **hyper)
    np.testing.assert_allclose(moved, plain, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "loss"),
    [("pgd", "cross_entropy"), ("pgd", "margin"), ("pgd", "dlr"), ("apgd", "dlr")],
)
def test_losses_all_break_the_net(loss, name, net, images, labels):
    result = attacks.ATTACKS[name](
        net, images, labels, key=jax.random.key(0), epsilon=0.3, loss=loss, num_steps=10
    )
    assert attacks.succeeded(net(result), labels).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apgd_targeted", "fab"])
def test_restarts_break_no_fewer_images(name, net, images):
    images = jax.random.uniform(jax.random.key(3), (24, *images.shape[1:]))
    labels = jnp.argmax(net(images), axis=-1)
    hyper = {"num_steps": 1, "key": jax.random.key(2), "random_start": True}
    hyper |= {"epsilon": 0.05} if name == "apgd_targeted" else {}

    def run(number):
        found = attacks.ATTACKS[name](net, images, labels, num_restarts=number, **hyper)
        sizes = jnp.abs(found - images).max(axis=(1, 2, 3))
        return attacks.succeeded(net(found), labels), sizes

    (once, far), (often, near) = run(1), run(8)
    assert (often >= once).all()
    if name == "fab":  # which minimises the distance
        assert (near <= far + 1e-6)[once].all()
        assert (often & ~once).any() or (near < far - 1e-3)[once].any()
    else:
        assert (near <= 0.05 + 1e-6).all()
        assert (often & ~once).any()


@pytest.mark.parametrize("name", ["pgd", "apgd"])
def test_the_best_restart_is_kept(name, net, images, labels):
    """Without steps each restart is a random point, whose loss is plain to see."""
    hyper = {"epsilon": 0.02, "num_steps": 0, "key": jax.random.key(2)}
    kept = [
        losses.cross_entropy(
            net(attacks.ATTACKS[name](net, images, labels, num_restarts=n, **hyper)),
            labels,
        )
        for n in (1, 2, 5, 20)
    ]
    for fewer, more in itertools.pairwise(kept):
        assert (more <= fewer + 1e-5).all()  # rounding of another program
    assert (kept[-1] < kept[0]).any()


@pytest.mark.parametrize(
    ("name", "order", "factor"),
    [
        ("carlini_wagner_l2", 2, 1.01),
        ("carlini_wagner_linf", np.inf, 1 / 0.9),  # the next tau
        ("deepfool", 2, 1.0201),  # its overshoot
        ("lbfgs", 2, 1.01),
    ],
)
def test_a_huge_negative_logit_demands_no_margin(name, order, factor):
    """A mask of -1e9 is rounded by 64, which is no error of the other two logits."""

    def model(value, x):
        return jnp.concatenate([10 * x, jnp.full((len(x), 1), value)], axis=1)

    x = jnp.array([[0.6, 0.4]])
    for value in jnp.array([-1e4, -1e6, -1e9, -jnp.inf]):
        result = attacks.ATTACKS[name](Partial(model, value), x, jnp.array([0]))
        least = norms(np.array([[0.1, 0.1]]), order)
        assert least < norms(result - x, order) < factor * least


def test_ilcm_wants_another_class_than_the_predicted_one_on_a_tie():
    image = np.full((1, 1, 1, 2), 0.5, np.float32)
    found = attacks.ilcm(lambda x: 3 * x.reshape(len(x), 2), image, epsilon=0.2)
    np.testing.assert_allclose(np.ravel(found), [0.3, 0.7], atol=1e-6)


@pytest.mark.parametrize("mask", [-1e4, -1e9, -np.inf])
def test_ilcm_wants_no_masked_class(mask):
    image = np.array([0.6, 0.5, 0.4], np.float32).reshape(1, 1, 1, 3)
    masked = jnp.full((1, 2), mask)

    def logits_fn(x):
        return jnp.concatenate([10 * x.reshape(1, 3), masked], axis=1)

    found = attacks.ilcm(logits_fn, image, epsilon=0.2)
    np.testing.assert_allclose(np.ravel(found), [0.4, 0.3, 0.6], atol=1e-6)


def test_ilcm_wants_the_least_likely_class(net, images, labels):
    least = jnp.argmin(net(images), axis=-1)
    expected = attacks.bim(net, images, least, targeted=True, epsilon=0.1)
    result = attacks.ilcm(net, images, labels, epsilon=0.1)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_momentum_by_hand(net, images, labels):
    def total(x):
        return losses.cross_entropy(net(x), labels).sum()

    def by_hand(decay):
        x, momentum = images, 0.0
        for _ in range(6):
            gradient = jax.grad(total)(x)
            size = jnp.abs(gradient).sum(axis=(1, 2, 3), keepdims=True)
            momentum = decay * momentum + gradient / size
            x = jnp.clip(x - 0.4 * jnp.sign(momentum), images - 0.5, images + 0.5)
            x = jnp.clip(x, 0, 1)
        return x

    hyper = {"epsilon": 0.5, "step_size": 0.4, "num_steps": 6}
    for decay in (0.0, 1.0):
        result = attacks.mi_fgsm(net, images, labels, decay=decay, **hyper)
        np.testing.assert_allclose(result, by_hand(decay), atol=1e-6)
    assert (by_hand(0.0) != by_hand(1.0)).any()  # such long steps turn back


def test_apgd_checkpoints_are_those_of_the_paper():
    from advgan_jax.attacks._auto_pgd import windows

    checkpoints = np.flatnonzero(windows(100))
    assert checkpoints.tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert windows(100)[41] == 19
    for short in range(12):
        assert len(windows(short)) == short + 1


@pytest.mark.parametrize("name", ["apgd", "apgd_targeted"])
def test_apgd_fills_the_best_pixels_in_l1(name, make_linear):
    """Like `pgd` in L1, but exactly; the two classes are 0 and 1 of a linear model."""
    _, images, _ = make_linear(3)
    model, weights = two_class(images)
    hyper = {"loss": "margin", "num_classes_tried": 1} if "t" in name[4:] else {}
    epsilon, labels = 2.2, jnp.zeros(3, jnp.int32)
    hyper |= {"epsilon": epsilon, "norm": "l1", "key": jax.random.key(0)}
    result = attacks.ATTACKS[name](model, images, labels, **hyper)
    if name == "apgd_targeted":  # ends at the first success
        assert attacks.succeeded(model(result), labels).all()
        return
    gain = jnp.sum(weights * (images - result), axis=(1, 2, 3))
    slopes = np.abs(np.asarray(weights)).ravel()
    for image, found in zip(np.asarray(images), np.asarray(gain), strict=True):
        room = np.where(weights > 0, image, 1 - image).ravel()
        left, best = epsilon, 0.0
        for pixel in np.argsort(-slopes):
            step = min(left, room[pixel])
            left, best = left - step, best + step * slopes[pixel]
        assert 0.995 * best <= found <= best * (1 + 1e-5)


def test_apgd_halves_at_three_of_four():
    """Four steps of a loss by hand: three improve it."""
    from advgan_jax.attacks import _auto_pgd

    moved = jnp.array([2, 3, 4])
    plan = _auto_pgd.make_plan(100, "linf")
    row = _auto_pgd.Plan(*(entries[57] for entries in plan))._replace(window=4)
    image = jnp.zeros((3, 2))
    candidate = _auto_pgd.Candidate(image, jnp.zeros(3, bool), jnp.zeros(3))
    point = _auto_pgd._Point(candidate, image)
    ones = jnp.ones(3)
    state = _auto_pgd._State(
        *(moved, image, moved, moved[:, None], image, moved, moved, image),
        now=point,
        best=point,
        found=candidate,
        step_size=ones,
        num_improved=moved,
        was_halved=jnp.zeros(3, bool),
        loss_before=ones,  # the best loss has fallen since
        num_moved=moved,
        num_chosen=moved,
    )
    after = _auto_pgd._adapt(state, row, 0.1, "linf")
    np.testing.assert_array_equal(after.step_size, [0.5, 0.5, 1])
    np.testing.assert_array_equal(after.num_improved, 0)


def test_apgd_targeted_reaches_the_next_class(net, images, labels):

    found = attacks.apgd_targeted(
        net,
        images,
        labels,
        key=jax.random.key(0),
        epsilon=0.3,
        num_steps=10,
        num_classes_tried=1,
    )
    second = jnp.argsort(net(images), axis=-1)[:, -2]
    np.testing.assert_array_equal(jnp.argmax(net(found), axis=-1), second)


@pytest.mark.parametrize("stop", [False, True])
def test_apgd_stops_at_its_first_success(stop, net, images, labels):
    hyper = {"epsilon": 0.3, "num_steps": 20, "key": jax.random.key(0)}
    wrong = labels.at[0].set((labels[0] + 1) % 5)
    found = attacks.apgd(net, images, wrong, stop_at_success=stop, **hyper)
    assert attacks.succeeded(net(found), wrong).all()
    assert bool((found[0] == images[0]).all()) == stop
    further = attacks.apgd(net, images, wrong, **hyper)
    loss = losses.cross_entropy(net(found), wrong)
    assert (loss[1:] > losses.cross_entropy(net(further), wrong)[1:]).all() == stop


@pytest.mark.parametrize(("gap", "succeeds"), [(20.0, True), (40.0, False)])
def test_apgd_as_in_autoattack_takes_short_steps_along_tiny_gradients(gap, succeeds):
    def confident(x):
        half = gap / 2 * x.sum((1, 2, 3))
        return jnp.stack([half, -half], axis=-1)

    # The gradient has the length gap / 2 * exp(-gap): 2e-8 or 8e-17.
    images, labels = jnp.ones((1, 1, 1, 1)), jnp.array([0])
    hyper = {"epsilon": 2.0, "norm": "l2", "random_start": False, "bounds": (-1.0, 1.0)}
    for as_in_autoattack in (False, True):
        found = attacks.apgd(
            confident, images, labels, as_in_autoattack=as_in_autoattack, **hyper
        )
        success = bool(attacks.succeeded(confident(found), labels)[0])
        assert success == (succeeds or not as_in_autoattack)


def test_apgd_beats_pgd_on_average(net):
    images = jax.random.uniform(jax.random.key(8), (64, 5, 7, 2))
    labels = jnp.argmax(net(images), axis=-1)
    hyper = {"epsilon": 0.03, "num_steps": 20, "random_start": False}
    fine = losses.cross_entropy(net(attacks.apgd(net, images, labels, **hyper)), labels)
    plain = losses.cross_entropy(net(attacks.pgd(net, images, labels, **hyper)), labels)
    # Both find the same corner of this smooth problem; APGD by its own step sizes.
    assert fine.mean() <= plain.mean() + 1e-3


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_random_points_fill_the_ball(norm):
    from advgan_jax.attacks._norms import NORMS

    images = jnp.zeros((2000, 1, 3, 1))
    noise = NORMS[norm].sample(jax.random.key(0), images, 2.0)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    radii = norms(noise, order) / 2
    assert radii.max() <= 1 + 1e-6
    # In 3 dimensions the cube of a uniform point's radius is uniform in [0, 1]:
    # its mean is 1/2, with a standard error of 0.29 / sqrt(2000) = 0.0065.
    assert abs((radii**3).mean() - 0.5) < 4 * 0.0065
    for axes in itertools.combinations(range(3), 2):
        pair = np.asarray(noise).reshape(-1, 3)[:, axes]
        assert abs(np.corrcoef(pair.T)[0, 1]) < 4 / np.sqrt(2000)
