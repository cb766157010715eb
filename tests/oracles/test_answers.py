"""Test invalid answers: a batch keeps the answers before the first one."""

import numpy as np
import pytest

from advgan_jax.oracles.answers import UnusableAnswer, to_probabilities

TABLE = np.random.default_rng(0).dirichlet(np.ones(3), 5)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_before_the_first_bad_one_can_be_used(kind, value):
    table = TABLE.copy()
    table[3, 1] = table[4, 0] = value
    with pytest.raises(UnusableAnswer, match=rf"finite {kind}, .* image 3\.") as error:
        to_probabilities(table, kind, 5, 3)
    right = to_probabilities(TABLE, kind, 5, 3)
    np.testing.assert_array_equal(error.value.usable, right[:3])


def test_the_first_bad_row_counts_whatever_is_wrong_with_it():
    table = TABLE.copy()
    table[4] = np.nan
    table[2] *= 2
    with pytest.raises(UnusableAnswer, match=r"sum to one.* image 2\.") as error:
        to_probabilities(table, "probabilities", 5, 3)
    assert len(error.value.usable) == 2
    table[1] *= -1
    with pytest.raises(UnusableAnswer, match=r"at least 0, .* image 1\."):
        to_probabilities(table, "probabilities", 5, 3)


def test_labels_before_one_that_is_no_class():
    with pytest.raises(UnusableAnswer, match="got 3 for its image 2") as error:
        to_probabilities(np.array([0, 2, 3, 1]), "labels", 4, 3)
    np.testing.assert_array_equal(error.value.usable, [[1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("num_classes", [10, 1000])
def test_the_message_is_one_line_for_many_classes(num_classes):
    table = np.random.default_rng(0).normal(size=(2, num_classes))
    with pytest.raises(UnusableAnswer, match="at least 0") as error:
        to_probabilities(table, "probabilities", 2, num_classes)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
