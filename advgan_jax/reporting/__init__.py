"""Reporting: results as files, tables and figures."""

from advgan_jax.reporting.charts import (
    bound_chart,
    error_curves,
    heatmap,
    query_curve,
    robustness_curve,
    time_chart,
    training_curves,
)
from advgan_jax.reporting.environment import command_line, device_name, versions
from advgan_jax.reporting.figures import (
    attack_grid,
    comparison_grid,
    direction_grid,
    target_grids,
)
from advgan_jax.reporting.files import replacing, write_json
from advgan_jax.reporting.frontier import draw_frontier, frontier_chart
from advgan_jax.reporting.logs import MetricsLog, read_metrics, write_results
from advgan_jax.reporting.samples import SHOWN, kept_row
from advgan_jax.reporting.style import save_figure
from advgan_jax.reporting.tables import (
    PAPER,
    format_table,
    markdown_records,
    matrices,
    write_csv,
    write_generators,
)

__all__ = [
    "PAPER",
    "SHOWN",
    "MetricsLog",
    "attack_grid",
    "bound_chart",
    "command_line",
    "comparison_grid",
    "device_name",
    "direction_grid",
    "draw_frontier",
    "error_curves",
    "format_table",
    "frontier_chart",
    "heatmap",
    "kept_row",
    "markdown_records",
    "matrices",
    "query_curve",
    "read_metrics",
    "replacing",
    "robustness_curve",
    "save_figure",
    "target_grids",
    "time_chart",
    "training_curves",
    "versions",
    "write_csv",
    "write_generators",
    "write_json",
    "write_results",
]
