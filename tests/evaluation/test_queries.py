"""Counts of queries: budgets, costs against the number of images, and break-even."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import attacks
from advgan_jax.evaluation import (
    QueryCounts,
    break_even,
    count_queries,
    frontier,
    summarize_queries,
)

SEARCH = QueryCounts(np.array([10, 30, 20, 40]), np.array([1, 1, 0, 1], bool))
PAID = QueryCounts(np.zeros(4, int), np.array([1, 1, 1, 0], bool), paid=600)


def test_success_within_budgets():
    assert SEARCH.within([9, 10, 30, 40]) == [0, 0.25, 0.5, 0.75]
    assert (SEARCH.total, PAID.total) == (100, 600)
    ended = SEARCH._replace(limit=40)
    np.testing.assert_array_equal(ended.within([30, 40, 41]), [0.5, 0.75, np.nan])
    assert QueryCounts.of_json(ended.to_json()).limit == 40
    every = ended._replace(success=np.ones(4, bool))
    assert every.within([40, 10_000]) == [1, 1]
    (line,) = summarize_queries({"nes": [ended]}, [40, 10_000])
    assert (line["within 40"], line["within 10,000"]) == (0.75, None)


def test_costs_are_measured_and_then_computed():
    points = frontier(SEARCH, [1, 3, 4, 40])
    assert [p.cost for p in points] == [10, 30, 100 / 3, 100 / 3]
    assert [p.measured for p in points] == [True, True, True, False]
    assert [p.cost for p in frontier(PAID, [1, 4, 8])] == [600, 200, 100]
    never = QueryCounts(np.array([5]), np.array([False]))
    assert frontier(never, [1])[0].cost == math.inf


def test_break_even_is_where_costs_are_equal():
    images = break_even(PAID, SEARCH)
    # 600 / (0.75 n) = 100 / 3 at n = 24.
    assert images == pytest.approx(24)
    assert break_even(SEARCH, PAID) == math.inf
    assert break_even(SEARCH, SEARCH) == 0
    never = QueryCounts(np.array([5]), np.array([False]))
    assert break_even(never, SEARCH) == math.inf
    assert break_even(SEARCH, never) == 0


def test_summary():
    lines = summarize_queries({"square": [SEARCH, SEARCH], "advgan": [PAID]}, [10, 30])
    square, advgan = lines
    assert square["success"] == 0.75
    columns = [f"mean queries{end}" for end in ("", " (low)", " (high)")]
    assert [square[column] for column in columns] == [25, 25, 25]
    assert (square["within 10"], square["within 30"]) == (0.25, 0.5)
    assert square["advgan cheaper from"] == 24
    assert advgan["advgan cheaper from"] is None
    assert [advgan[column] for column in columns] == [0, None, None]
    assert (advgan["queries in all"], advgan["within 10"]) == (600, None)


def test_counts_are_of_images_that_are_right_without_attack():
    weights = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    images = np.random.default_rng(1).random((20, 4, 4, 1), np.float32)

    def model(x):
        return x.reshape(len(x), -1) @ jnp.asarray(weights)

    labels = np.array(np.argmax(model(images), axis=1))
    labels[:5] = (labels[:5] + 1) % 3
    attack = attacks.make_attack("signhunter", epsilon=0.1, num_queries=30)
    evaluation, counts = count_queries(
        model, attack, images, labels, key=jax.random.key(0)
    )
    assert len(counts.queries) == 15
    assert counts.success.mean() == evaluation.success().rate
    assert counts.limit == 30
    with pytest.raises(TypeError, match="one by queries"):
        count_queries(model, attacks.fgsm, images, labels, key=jax.random.key(0))
