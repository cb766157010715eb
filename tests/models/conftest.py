"""Shared by the tests of networks."""

import jax
import pytest


@pytest.fixture
def counted_logits():
    """`logits(fn, images)`, compiled, and a list of how often it was traced."""
    traces = []

    @jax.jit
    def logits(fn, images):
        traces.append(1)
        return fn(images)

    return logits, traces
