"""The course of a circuit as it was and as it would have been, as inline SVG."""

from datetime import UTC, datetime

import numpy as np
from matplotlib.figure import Figure

from slurm_power.report.frame.drawing import BATTERY, CAPS, IMPORT, LIMIT, style, svg
from slurm_power.report.shadow.shadow_courses import ShadowColumns, Values

_MOST_POINTS = 1500


def shadow_figure(columns: ShadowColumns, circuit: str) -> str:
    """Draw power against the limit; what caps and batteries would have taken off is filled."""
    group = -(-len(columns.watts) // _MOST_POINTS)
    watts, limit = _most(columns.watts, group), _most(columns.limit_watts, group)
    capped = _most(columns.watts - columns.withheld_watts, group)
    best = _most(columns.watts - columns.withheld_watts - np.nan_to_num(columns.discharge_watts), group)
    hours = columns.step_seconds * group / 3600.0 * np.arange(len(watts))
    with style("shadow"):
        figure = Figure(figsize=(9.2, 3.7), facecolor="none")
        axes = figure.add_subplot()
        for low, high, color, label in (
            (best, capped, BATTERY, "battery, never empty"),
            (capped, watts, CAPS, "caps"),
        ):
            axes.fill_between(
                hours, low / 1000.0, high / 1000.0, step="post", color=color, alpha=0.45, lw=0, label=label
            )
        axes.step(hours, watts / 1000.0, where="post", color=IMPORT, lw=1.4, label=f"drawn at {circuit}")
        axes.step(hours, limit / 1000.0, where="post", color=LIMIT, lw=1.4, label="limit")
        axes.set_ylabel("kW")
        axes.set_xlabel(f"hours from {datetime.fromtimestamp(columns.start_seconds, UTC):%Y-%m-%d %H:%M} UTC")
        axes.set_ylim(bottom=0.0)
        axes.grid(visible=True)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=4, handlelength=1.6, fontsize=9)
        return svg(figure, "shadow", f"Power at {circuit} as it was and as it would have been")


def _most(values: Values, group: int) -> Values:
    """The highest of each group of steps: a peak must stay in sight."""
    padded = np.concatenate([values, np.full(-len(values) % group, np.nan)]).reshape(-1, group)
    known = np.isfinite(padded).any(axis=1)
    found = np.full(len(padded), np.nan)
    found[known] = np.nanmax(padded[known], axis=1)
    return found
