"""Render RESULTS.md from the tables in results/.

    python experiments/render_results.py

To publish the table of a run, copy `WORKDIR/tables/NAME.json` to `results/` and render
the page again. tests/reporting/test_published.py fails if the page differs.
"""

import pathlib

from advgan_jax.cli import faults
from advgan_jax.reporting import published, replacing

_ROOT = pathlib.Path(__file__).parents[1]


def main(argv: list[str]) -> None:
    """Write the page."""
    del argv
    page = published.render_page(_ROOT / "results")
    with replacing(_ROOT / "RESULTS.md") as partial:
        partial.write_text(page, encoding="utf8")


if __name__ == "__main__":
    faults.run(main)
