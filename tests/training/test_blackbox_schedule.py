"""Test the schedule of the alternation, and the images of its steps."""

import numpy as np
import pytest

from advgan_jax.training import blackbox
from advgan_jax.training.blackbox.schedule import in_turn

SCHEDULE = blackbox.Schedule(
    num_rounds=3,
    generator_steps=3,
    distilled_steps=2,
    initial_epochs=2,
    clean_queries=20,
    perturbed_queries=6,
)


@pytest.mark.parametrize("count", [5, 16, 40])
def test_images_are_seen_in_turn_half_of_them_clean(count):
    """Over whole epochs, the counts of any two images differ by at most one."""
    seen = []
    for epoch in range(10):
        places = np.random.default_rng(epoch).permutation(32).reshape(4, 8)
        seen.append(in_turn(32 * epoch, count, (count, count + 3))(places))
    times = np.bincount(np.concatenate(seen, axis=None), minlength=count + 3)
    assert times[:count].sum() == times[count:].sum() == 160
    assert np.ptp(times[:count]) <= 1
    assert np.ptp(times[count:]) <= 1


@pytest.mark.parametrize("name", ["num_rounds", "initial_epochs", "clean_queries"])
def test_wrong_schedules(name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        blackbox.Schedule(**{**SCHEDULE.__dict__, name: 0})


def test_dynamic_distillation_asks_about_perturbed_images():
    without = {**SCHEDULE.__dict__, "perturbed_queries": 0}
    with pytest.raises(ValueError, match=r"`perturbed_queries`.*3 rounds.*dynamic=Fal"):
        blackbox.Schedule(**without)
    assert blackbox.Schedule(**without | {"dynamic": False}).query_counts == [20]
    assert blackbox.Schedule(**without | {"num_rounds": 1}).query_counts == [20]


def test_phases():
    assert list(SCHEDULE.phases()) == [
        (0, 2),
        (1, None),
        (1, 3),
        (2, None),
        (2, 4),
        (3, None),
    ]
    static = blackbox.Schedule(**{**SCHEDULE.__dict__, "dynamic": False})
    assert list(static.phases()) == [(0, 4), (3, None)]
