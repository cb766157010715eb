"""Test noise: which answers count as changed, and what a measurement costs."""

import numpy as np
import pytest

from advgan_jax.oracles import Oracle, OracleError

IMAGES = np.random.default_rng(0).random((6, 2, 2, 1), np.float32)
TABLE = np.array([[0.6, 0.3, 0.1]])


class Drifting:
    """Move probability from the first class to the second after the first call."""

    def __init__(self, amount):
        self.amount, self.asked = amount, []

    def __call__(self, images):
        moved = 0.0 if not self.asked else self.amount
        self.asked += list(images)
        return np.repeat(TABLE + moved * np.array([[-1, 1, 0]]), len(images), axis=0)


def oracle(model, **options):
    return Oracle(
        model, answers="probabilities", num_classes=3, batch_size=6, **options
    )


@pytest.mark.parametrize(
    ("amount", "changed", "other_class"), [(1e-4, 0, 0), (1e-2, 4, 0), (0.2, 4, 4)]
)
def test_measured_on_the_first_images_and_counted_apart(amount, changed, other_class):
    model = Drifting(amount)
    ask = oracle(model)
    ask(IMAGES)
    noise = ask.measure_noise(4)
    assert noise[:3] == (4, changed, other_class)
    np.testing.assert_allclose(noise.largest, amount, atol=1e-7)
    np.testing.assert_array_equal(model.asked, [*IMAGES, *IMAGES[:4]])
    assert (ask.queries, ask.measured, len(ask.ledger)) == (6, 4, 6)


@pytest.mark.parametrize(("amount", "changed"), [(1e-4, 0), (1e-2, 2)])
def test_seen_wherever_an_image_is_asked_about_again(amount, changed):
    ask = oracle(Drifting(amount))
    ask(IMAGES[:2]), ask(IMAGES[:2])
    assert (ask.repeated, ask.changed) == (2, changed)


def test_keeps_to_the_budget():
    ask = oracle(Drifting(0.2), budget=8)
    ask(IMAGES)
    assert ask.measure_noise(4)[:3] == (2, 2, 2)
    assert ask.remaining == 0
    assert ask.measure_noise(4) == (0, 0, 0, 0.0)


def test_needs_an_answer_to_compare_with():
    with pytest.raises(ValueError, match="No query has been made"):
        oracle(Drifting(0)).measure_noise()


def test_fault_is_an_error_and_not_recorded():
    ask = oracle(Drifting(np.nan))
    ask(IMAGES)
    with pytest.raises(OracleError, match="finite probabilities"):
        ask.measure_noise(4)
    assert (ask.queries, ask.wasted, ask.measured) == (6, 4, 0)
