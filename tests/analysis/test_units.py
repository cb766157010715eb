"""Units and random directions: entropies by hand, and planted answers of the test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import analysis, models


def test_entropy_by_hand():
    classes = np.array([[3, 3, 3, 3], [0, 1, 0, 1], [0, 1, 2, 3], [5, 5, 5, 7]])
    quarter = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    np.testing.assert_allclose(
        analysis.class_entropy(classes, 10), [0, 1, 2, quarter], rtol=1e-12
    )


def test_top_images_are_in_order():
    projections = np.array([[1.0, 0], [3, 0], [2, 5], [3, 0]])
    np.testing.assert_array_equal(analysis.top_images(projections, 2), [[1, 3], [2, 0]])


class TestPermutationTest:
    def test_every_split_of_equal_values_counts(self):
        generator = np.random.default_rng(0)
        same = np.full(5, 0.3)
        assert analysis.permutation_test(same, same, 99, generator) == 1

    @pytest.mark.parametrize("unit", [1.0, 1e-13])
    def test_by_hand(self, unit):
        """Of the 6 splits of (0, 0, 1, 1) in halves two are as far apart."""
        p = analysis.permutation_test(
            np.zeros(2), unit * np.ones(2), 6000, np.random.default_rng(0)
        )
        # Four standard errors of a share of 1/3 in 6000 draws.
        assert p == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / 6000))


def planted(seed=0):
    """Forty units that each know a class, and images of ten classes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), 40).astype(np.int32)
    known = np.arange(40) % 10
    features = (labels[:, None] == known) + rng.normal(0, 0.05, (400, 40))
    return features.astype(np.float32), labels


def test_units_that_know_classes_are_found():
    features, labels = planted()
    found = analysis.compare_directions(
        features, labels, num_classes=10, seed=0, num_permutations=999
    )
    assert found.units.tolist() == list(range(40))
    np.testing.assert_array_equal(found.unit_entropy, 0)
    assert found.random_entropy.mean() > 0
    assert found.p_value <= 0.01
    np.testing.assert_array_equal(
        labels[found.unit_images], np.tile((np.arange(40) % 10)[:, None], 8)
    )


def test_units_of_a_turned_space_are_directions_like_others():
    """After a random rotation no axis is special: p is not small."""
    features, labels = planted()
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((40, 40)))[0]
    found = analysis.compare_directions(
        features @ rotation.astype(np.float32),
        labels,
        num_classes=10,
        seed=0,
        num_permutations=999,
    )
    assert found.p_value > 0.05


def test_constant_units_are_left_out():
    features, labels = planted()
    features[:, 3:] = 1
    found = analysis.compare_directions(
        features, labels, num_classes=10, seed=0, num_permutations=9
    )
    assert found.units.tolist() == [0, 1, 2]
    assert found.random_images.shape == (3, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_images": 401}, "from 1 to the 400 images"),
        ({"num_directions": 0}, "`num_directions` must be at least 1"),
        ({"num_classes": 5}, r"must be in \[0, 5\)"),
    ],
)
def test_refused(changes, message):
    features, labels = planted()
    with pytest.raises(ValueError, match=message):
        analysis.compare_directions(
            features, labels, **({"num_classes": 10, "seed": 0} | changes)
        )


def test_features_are_what_a_layer_is_given():
    model = models.FullyConnected(hidden=(6, 5))
    images = np.random.default_rng(0).random((7, 4, 4, 1), np.float32)
    variables = model.init(jax.random.key(0), images)
    features = analysis.hidden_features(
        model, variables, images, "Dense_1", batch_size=3
    )
    first = variables["params"]["Dense_0"]
    expected = jax.nn.sigmoid(images.reshape(7, -1) @ first["kernel"] + first["bias"])
    # Two orders of the same float32 sums of 16 terms.
    np.testing.assert_allclose(features, expected, rtol=1e-5)
    assert jnp.asarray(features).shape == (7, 6)
    with pytest.raises(ValueError, match=r"Unknown layer 'Dense_9'.*Dense_1"):
        analysis.hidden_features(model, variables, images, "Dense_9")
