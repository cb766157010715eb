"""Render RESULTS.md from the tables in results/.

    python experiments/render_results.py

To publish the table of a run, copy `WORKDIR/tables/NAME.json` to `results/` and render
the page again. tests/reporting/test_published.py fails if the page differs.
"""

import pathlib

from absl import app

from advgan_jax.reporting import published, replacing

_ROOT = pathlib.Path(__file__).parents[1]


def main(argv: list[str]) -> None:
    """Write the page."""
    if len(argv) > 1:
        raise app.UsageError(f"no argument is expected, got {argv[1:]}.")
    page = published.render_page(_ROOT / "results")
    with replacing(_ROOT / "RESULTS.md") as partial:
        partial.write_text(page, encoding="utf8")


if __name__ == "__main__":
    app.run(main)
