"""Rates, denominators and combinations of evaluations, worked by hand."""

import dataclasses
import math

import numpy as np
import pytest

from advgan_jax.evaluation import (
    Evaluation,
    pool,
    success_by_pair,
    wilson_interval,
    within,
    worst_case_evaluation,
)

LABELS = np.array([0, 1, 2, 0, 1])
CLEAN = np.array([0, 1, 2, 1, 2])  # the first three are right
ADVERSARIAL = np.array([1, 1, 2, 1, 2])
TARGETS = np.array([1, 1, 0, 0, 2])  # the second image is of the wanted class


def make(adversarial=ADVERSARIAL, targets=None, distances=(1, 0, 0, 2, 2), **changes):
    linf = np.asarray(distances, float)
    made = Evaluation(LABELS, targets, CLEAN, adversarial, linf, 2 * linf, linf / 2)
    return dataclasses.replace(made, **changes)


def test_untargeted_denominators():
    evaluation = make()
    assert evaluation.clean_accuracy == 3 / 5
    assert evaluation.robust_accuracy == 2 / 5
    assert evaluation.success("all")[:3] == (3, 5, 3 / 5)
    assert evaluation.success("correct") == (1, 3, 1 / 3, *wilson_interval(1, 3))
    assert evaluation.success() == evaluation.success("correct")


def test_targeted_denominators_leave_out_what_is_of_the_wanted_class():
    evaluation = make(targets=TARGETS)
    assert evaluation.succeeded.tolist() == [True, True, False, False, True]
    assert evaluation.success("all")[:2] == (3, 5)
    assert evaluation.success("correct")[:2] == (2, 3)
    assert evaluation.success("correct-not-target")[:2] == (1, 2)
    assert evaluation.success() == evaluation.success("correct-not-target")


def test_an_untouched_image_of_the_wanted_class_is_no_success():
    evaluation = make(adversarial=CLEAN, targets=np.ones(5, int))
    assert evaluation.success("all").successes == 2
    assert evaluation.success().successes == 0


def test_confidence_of_the_interval():
    assert make().success(confidence=0.5)[3:] == wilson_interval(1, 3, 0.5)


def test_without_trials_the_rate_is_unknown():
    success = make(clean_predictions=LABELS + 1).success()
    assert success[:2] == (0, 0)
    assert all(math.isnan(value) for value in success[2:])


def test_denominators_refused():
    with pytest.raises(ValueError, match=r"'corect'\. Did you mean 'correct'\? Known"):
        make().success("corect")
    with pytest.raises(ValueError, match="untargeted attack; use 'correct'"):
        make().success("correct-not-target")


def test_it_prints_as_one_line():
    assert repr(make()) == (
        "Evaluation(5 images, clean accuracy 60.0%, robust accuracy 40.0%, "
        "success 1 of 3: 33.3% [6.1%, 79.2%])"
    )


def test_within_takes_back_what_went_too_far():
    near = within(make(distances=(0.1, 0, 0, 0.3, 0.2)), 0.2, "linf")
    np.testing.assert_array_equal(near.adversarial_predictions, [1, 1, 2, 1, 2])
    np.testing.assert_array_equal(near.linf, [0.1, 0, 0, 0, 0.2])
    # float32(0.1) is above 0.1, and float32(0.3) above 0.3.
    for epsilon in (0.1, 0.2, 0.3, 8 / 255):
        edge = make(distances=np.full(5, np.float32(epsilon)))
        assert within(edge, epsilon, "linf").success() == edge.success()
    wide = make(distances=np.full(5, 8 + 2**-16), bounds=(0.0, 255.0))
    assert within(wide, 8, "linf").success() == wide.success()
    assert within(make(distances=np.full(5, 8 + 2**-16)), 8, "linf").success().rate == 0
    none = within(make(distances=(0.1, 0, 0, 0.3, 0.2)), 0.19, norm="l2")
    np.testing.assert_array_equal(none.adversarial_predictions, CLEAN)
    assert none.l2.max() == none.rms.max() == 0
    with pytest.raises(ValueError, match=r"Unknown distance 'l1'.*Known: l2, linf"):
        within(make(), 0.1, norm="l1")
    with pytest.raises(ValueError, match=r"`epsilon` must be .*>= 0, got -1"):
        within(make(), -1, "linf")


def test_rounded_evaluations_are_combined_too():
    clean = make(adversarial=CLEAN)
    both = [make(rounded=clean), make(adversarial=LABELS, rounded=make())]
    for combine in (worst_case_evaluation, pool):
        expected = combine([e.rounded for e in both])
        found = combine(both).rounded
        assert found.success() == expected.success()
        assert combine([make(), both[0]]).rounded is None
    assert (
        within(both[1], 0.5, "linf").rounded.success()
        == within(make(), 0.5, "linf").success()
    )


def test_worst_case_takes_the_first_that_succeeds():
    first = make(np.array([0, 2, 2, 0, 1]), distances=(1,) * 5, seconds=2.0)
    second = make(np.array([2, 0, 2, 2, 1]), distances=(3,) * 5, seconds=0.5)
    worst = worst_case_evaluation([first, second])
    np.testing.assert_array_equal(worst.adversarial_predictions, [2, 2, 2, 2, 1])
    np.testing.assert_array_equal(worst.linf, [3, 1, 1, 3, 1])
    assert worst.seconds == 2.5
    assert worst.success()[:2] == (2, 3)
    assert worst_case_evaluation([first, make()]).seconds is None


def test_worst_case_of_a_targeted_attack_that_missed_its_class():
    """Neither reaches the wanted class, but one makes the model err."""
    targets = np.array([1, 2, 0, 1, 2])
    stays = make(LABELS, targets)
    errs = make(np.array([2, 0, 1, 2, 0]), targets)
    worst = worst_case_evaluation([stays, errs])
    assert not worst.succeeded.any()
    assert worst.robust_accuracy == 0


def test_worst_case_refuses_what_cannot_be_compared():
    with pytest.raises(ValueError, match="at least one, got none"):
        worst_case_evaluation([])
    with pytest.raises(ValueError, match="different `target_labels`"):
        worst_case_evaluation([make(), make(targets=TARGETS)])
    with pytest.raises(ValueError, match="different `clean_predictions`"):
        worst_case_evaluation([make(), make(clean_predictions=LABELS)])


def test_success_by_pair():
    rates, successes, trials = success_by_pair(make(targets=TARGETS), 3)
    np.testing.assert_array_equal(trials, [[0, 1, 0], [0, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(successes, [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    expected = [[math.nan, 1, math.nan], [math.nan] * 3, [0, math.nan, math.nan]]
    np.testing.assert_array_equal(rates, expected)
    everything = success_by_pair(make(targets=TARGETS), 3, over="all")
    np.testing.assert_array_equal(everything.trials, [[1, 1, 0], [0, 1, 1], [1, 0, 0]])


def test_success_by_pair_counts_a_pair_more_than_once():
    same = make(targets=np.full(5, 2), clean_predictions=LABELS)
    assert success_by_pair(same, 3).trials.tolist() == [[0, 0, 2], [0, 0, 2], [0, 0, 0]]


def test_success_by_pair_refuses():
    with pytest.raises(ValueError, match="one of an untargeted attack"):
        success_by_pair(make(), 3)
    with pytest.raises(ValueError, match=r"`labels` must be in \[0, 2\), got 2"):
        success_by_pair(make(targets=TARGETS), 2)
