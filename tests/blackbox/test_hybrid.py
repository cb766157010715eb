"""A search that starts at the images of a generator, and again at the clean ones."""

import types

import jax
import numpy as np
import pytest

from advgan_jax import attacks
from advgan_jax.blackbox import attack_oracle, hybrid
from advgan_jax.oracles import Ledger, Oracle, OracleError

KEY = jax.random.key(1)
IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (12, 4, 4, 1)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
GENERATOR = types.SimpleNamespace(
    perturb=lambda images: np.clip(
        images + 0.1 * np.sign(WEIGHTS[:, :1].T.reshape(1, 4, 4, 1)), 0, 1
    )
)


def model(images):
    return images.reshape(len(images), -1) @ WEIGHTS


LABELS = model(IMAGES).argmax(1)


def make_oracle(fn=model, **options):
    usual = {"answers": "logits", "num_classes": 3, "batch_size": 5, "probe": 0}
    return Oracle(fn, **usual | options)


def square(num_queries):
    return attacks.make_attack("square", epsilon=0.15, num_queries=num_queries)


@pytest.fixture(scope="module")
def whole():
    oracle = make_oracle()
    shown = (oracle, GENERATOR, square(30), IMAGES, LABELS)
    return oracle, hybrid(*shown, key=KEY, restart_after=4)


def test_images_that_fail_start_again_at_the_clean_ones(whole):
    oracle, found = whole
    starts = GENERATOR.perturb(IMAGES)
    options = {"starts": starts, "key": KEY}
    first = attack_oracle(make_oracle(), square(4), IMAGES, LABELS, **options)
    left = ~first.success
    assert 0 < left.sum() < 12
    again = jax.random.fold_in(KEY, 12)
    shown = (square(26), IMAGES[left], LABELS[left])
    second = attack_oracle(make_oracle(), *shown, key=again)
    assert 0 < second.success.sum() < left.sum()
    np.testing.assert_array_equal(found.images[left], second.images)
    np.testing.assert_array_equal(found.images[~left], first.images[~left])
    np.testing.assert_array_equal(found.success[left], second.success)
    np.testing.assert_array_equal(found.queries[left], 4 + second.queries)
    assert found.finished.all()
    assert found.queries.sum() == oracle.queries
    assert found.queries.max() == 30
    # Where the generator succeeds, it is the only query.
    at_once = model(starts).argmax(1) != LABELS
    np.testing.assert_array_equal(found.queries[at_once], 1)


@pytest.mark.slow
def test_a_hybrid_that_fails_after_its_restart_resumes(whole, tmp_path):
    asked = []

    def failing(images):
        asked.append(len(images))
        if sum(asked) > 0.8 * whole[0].queries and not (tmp_path / "mended").exists():
            (tmp_path / "mended").touch()
            raise ConnectionError("down")
        return model(images)

    for error in (OracleError, None):
        oracle = make_oracle(failing, ledger=Ledger(tmp_path / "ledger"))
        shown = (oracle, GENERATOR, square(30), IMAGES, LABELS)
        if error:
            with pytest.raises(error):
                hybrid(*shown, key=KEY, restart_after=4)
        else:
            found = hybrid(*shown, key=KEY, restart_after=4)
    for one, other in zip(found, whole[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert oracle.queries == whole[0].queries == sum(asked) - oracle.wasted


def test_an_image_that_the_budget_leaves_keeps_the_best_one():
    """The second search of an image may not begin."""
    shown = (GENERATOR, square(30), IMAGES, LABELS)
    first = attack_oracle(
        make_oracle(), square(4), *shown[2:], starts=GENERATOR.perturb(IMAGES), key=KEY
    )
    ended = make_oracle(budget=int(first.queries.sum()))
    found = hybrid(ended, *shown, key=KEY, restart_after=4)
    np.testing.assert_array_equal(found.images, first.images)
    np.testing.assert_array_equal(found.queries, first.queries)
    assert (found.finished == first.success).all()
    assert not found.finished.all()


def test_a_targeted_hybrid_reaches_the_wanted_class():
    wanted = (LABELS + 1) % 3
    attack = attacks.make_attack("signhunter", epsilon=0.2, num_queries=60)
    found = hybrid(
        make_oracle(), GENERATOR, attack, IMAGES, wanted, targeted=True, restart_after=3
    )
    reached = model(found.images).argmax(1) == wanted
    assert (reached == found.success).all()
    assert found.success.mean() > 0.5
    assert found.queries.max() > 3


def test_a_generator_of_other_bounds_gets_pixels_of_its_own(whole):
    def perturb(images, *, bounds=(-1.0, 1.0)):
        assert bounds == (0.0, 1.0)
        return GENERATOR.perturb(images)

    generator = types.SimpleNamespace(perturb=perturb, bounds=(-1.0, 1.0))
    shown = (generator, square(30), IMAGES, LABELS)
    found = hybrid(make_oracle(), *shown, key=KEY, restart_after=4)
    np.testing.assert_array_equal(found.images, whole[1].images)


def test_without_a_restart_it_is_one_search():
    options = {"key": KEY, "restart_after": None}
    shown = (GENERATOR, square(10), IMAGES, LABELS)
    found = hybrid(make_oracle(), *shown, **options)
    expected = attack_oracle(
        make_oracle(), *shown[1:], starts=GENERATOR.perturb(IMAGES), key=KEY
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="`restart_after` must be"):
        hybrid(make_oracle(), *shown, key=KEY, restart_after=0)
    with pytest.raises(TypeError, match="must have a method `perturb`"):
        hybrid(make_oracle(), abs, *shown[1:], key=KEY)
