"""The local HTTP service of the oracles' tests."""

import pathlib
import sys

tests = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(tests / "oracles"), str(tests / "blackbox")]
