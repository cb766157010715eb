"""Make the local HTTP service importable."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
