"""Draw what fooled images cost in queries."""

from collections.abc import Mapping, Sequence

import numpy as np

from advgan_jax.evaluation.queries import FrontierPoint, QueryCounts, frontier
from advgan_jax.reporting import style
from advgan_jax.reporting.style import Figure


def frontier_chart(
    frontiers: Mapping[str, Sequence[FrontierPoint]],
    shares: Mapping[str, Sequence[tuple[int, float]]],
    *,
    title: str = "",
) -> Figure:
    """Draw costs against the number of images, and success against queries.

    Args:
      frontiers: of each attack, see `evaluation.frontier`; what was computed and not
        measured is dashed.
      shares: of each attack by queries: points `(queries for an image, share of images
        that succeed)`.
      title: of the figure.

    Raises:
      ValueError: without an attack.
    """
    if not frontiers:
        raise ValueError("`frontiers` must have at least one attack, got none.")
    colors = style.colors()
    figure = style.new_figure(9.6, 3.6, "constrained")
    left, right = figure.subplots(1, 2)
    for number, (name, points) in enumerate(frontiers.items()):
        color = colors[number % len(colors)]
        finite = [point for point in points if np.isfinite(point.cost)]
        parts = (
            ("-", [p for p in finite if p.measured]),
            # From the last measured point on, so that the line has no gap.
            (
                "--",
                [
                    p
                    for i, p in enumerate(finite)
                    if not all(q.measured for q in finite[i : i + 2])
                ],
            ),
        )
        for dash, part in parts:
            x, y = [p.images for p in part], [p.cost for p in part]
            left.plot(x, y, dash, color=color, lw=1.4)
        if name in shares:
            x, y = zip(*shares[name], strict=True)
            right.plot(x, y, "-", color=color, lw=1.4)
        left.plot([], [], "-", color=color, label=name)
    for axis in (left, right):
        axis.set_xscale("log")
    left.set_yscale("log")
    costs = "images attacked (dashed: computed)", "queries for each success"
    style.style_axis(left, title, *costs)
    style.style_axis(right, "", "queries for an image", "share of images")
    right.set_ylim(0, 1)
    style.show_percent(right.yaxis)
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return figure


def draw_frontier(
    counts: Mapping[str, QueryCounts],
    *,
    most_images: int,
    most_queries: int,
    title: str = "",
) -> Figure:
    """Draw a `frontier_chart` of attacks up to so many images and queries.

    An attack that makes no queries for the images has no curve of its success. A curve
    ends at the most queries of an attack.
    """
    numbers, queries = map(_logarithmic, (most_images, most_queries))
    points = {name: frontier(one, numbers) for name, one in counts.items()}
    shares = {
        name: list(zip(queries, one.within(queries), strict=True))
        for name, one in counts.items()
        if one.queries.any()
    }
    return frontier_chart(points, shares, title=title)


def _logarithmic(most: int) -> list[int]:
    """Return whole numbers up to `most`, evenly spaced by their logarithms."""
    return np.unique(np.geomspace(1, most, 60).astype(int)).tolist()
