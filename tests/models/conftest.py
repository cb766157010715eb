"""Share a compiled model between the tests of networks."""

import jax
import pytest


@pytest.fixture
def counted_logits():
    """Return a compiled `logits(fn, images)`, and a list with an entry per trace."""
    traces = []

    @jax.jit
    def logits(fn, images):
        traces.append(1)
        return fn(images)

    return logits, traces
