"""A fan chart as inline SVG or as a PNG file."""

from datetime import tzinfo
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slurm_power.report.frame.axes import local_time, power_axis, time_marks
from slurm_power.report.frame.drawing import IMPORT, INK, LIMIT, START, WITHOUT, style, svg
from slurm_power.report.live.fan import FanChart

_MOST_TIME_MARKS = 9
_PNG_DOTS_PER_INCH = 150


def fan_figure(chart: FanChart, zone: tzinfo | None, description: str) -> str:
    """Draw the chart as inline SVG, described for screen readers; ``zone`` None is the machine's own."""
    with style("fan"):
        return svg(_figure(chart, zone, "none"), "fan", chart.title, description)


def write_fan_png(chart: FanChart, zone: tzinfo | None, file: Path) -> None:
    """Write the chart as a PNG file with its title; it appears complete or not at all."""
    with style("fan"):
        figure = _figure(chart, zone, "white")
        figure.axes[0].set_title(chart.title, loc="left", fontsize=12, fontweight="bold", pad=26)
        partial = file.with_name(f".{file.name}.partial")
        figure.savefig(partial, format="png", dpi=_PNG_DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.15)
        partial.replace(file)


def _figure(chart: FanChart, zone: tzinfo | None, background: str) -> Figure:
    figure = Figure(figsize=(9.2, 3.9), facecolor=background)
    axes = figure.add_subplot()
    axis = power_axis(*chart.range_watts())
    edges = [chart.issued_seconds + i * chart.step_seconds for i in range(len(chart.p50_watts) + 1)]
    if chart.p50_watts:
        low, high = ((*column, column[-1]) for column in (chart.p10_watts, chart.p90_watts))
        axes.fill_between(
            edges, low, high, step="post", color=IMPORT, alpha=0.22, lw=0, label="80 % of outcomes lie here"
        )
    past_edges = [
        chart.past_start_seconds + i * chart.past_step_seconds for i in range(len(chart.past_watts) + 1)
    ]
    drawn = [float("nan") if watts is None else watts for watts in chart.past_watts]
    if drawn:
        axes.stairs(drawn, past_edges, baseline=None, color=INK, lw=1.5, label=f"drawn at {chart.circuit}")
    if chart.p50_watts:
        axes.stairs(chart.p50_watts, edges, baseline=None, color=IMPORT, lw=1.9, label="expected")
        axes.axvline(chart.issued_seconds, color=WITHOUT, lw=0.8)
    if chart.limit_in_sight:
        limits = chart.limit_watts[: len(edges) - 1]
        axes.stairs(limits, edges[: len(limits) + 1], baseline=None, color=LIMIT, lw=1.4, label="limit")
    _mark_starts(axes, chart)
    axes.set_xlim(chart.start_seconds, chart.end_seconds)
    axes.set_ylim(axis.low_watts, axis.high_watts)
    axes.set_yticks(axis.marks_watts, [axis.text(mark) for mark in axis.marks_watts])
    marks = time_marks(chart.start_seconds, chart.end_seconds, zone, _MOST_TIME_MARKS)
    axes.set_xticks([seconds for seconds, _ in marks], [text for _, text in marks])
    axes.set_ylabel(axis.unit)
    axes.set_xlabel(f"forecast of {local_time(chart.issued_seconds, zone):%Y-%m-%d %H:%M:%S %Z}")
    axes.grid(axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5, handlelength=1.8, fontsize=9)
    return figure


def _mark_starts(axes: Axes, chart: FanChart) -> None:
    """A line at each massive start; words on the side where there is room, one below the other."""
    middle = (chart.start_seconds + chart.end_seconds) / 2
    for number, mark in enumerate(sorted(chart.starts, key=lambda mark: mark.at_seconds)):
        label = "" if number else "massive start"
        axes.axvline(mark.at_seconds, color=START, lw=1.2, ls=(0, (2, 2)), label=label)
        right = mark.at_seconds < middle
        axes.annotate(
            mark.text,
            (mark.at_seconds, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4 if right else -4, -10 - 12 * (number % 4)),
            textcoords="offset points",
            ha="left" if right else "right",
            color=START,
            fontsize=9,
        )
