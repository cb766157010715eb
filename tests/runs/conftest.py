"""Shared by the tests of the papers' tables."""

from functools import partial

import pytest


@pytest.fixture
def tables(get_config):
    """Loads their configuration, with changes."""
    return partial(get_config, "reproduce")
