"""The report's plots of power and battery, as inline SVG."""

from datetime import datetime

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from slurm_power.report.data import Column, EventSpan, ReportData
from slurm_power.report.frame.drawing import BATTERY, CAPS, IMPORT, INK, LIMIT, WITHOUT, style, svg

_MOST_POINTS = 1500


def power_figure(data: ReportData) -> str:
    """Draw power at the circuit against its limit, with what battery and caps took off."""
    with style("power"):
        figure = Figure(figsize=(9.2, 3.7), facecolor="none")
        axes = figure.add_subplot()
        series = data.series
        seconds, (drawn, limit, ess, caps) = _thinned(
            series.seconds,
            (series.import_watts, series.limit_watts, series.ess_discharge_watts, series.withheld_watts),
        )
        x = [second / _time_unit(data) for second in seconds]
        gaps = [float("nan") if watts is None else watts / 1000 for watts in drawn]
        from_battery = [base + max(0.0, watts or 0.0) / 1000 for base, watts in zip(gaps, ess, strict=True)]
        without = [base + (watts or 0.0) / 1000 for base, watts in zip(from_battery, caps, strict=True)]
        _mark_events(axes, data.events, _time_unit(data))
        axes.fill_between(
            x, gaps, from_battery, step="post", color=BATTERY, alpha=0.45, lw=0, label="battery"
        )
        axes.fill_between(
            x, from_battery, without, step="post", color=CAPS, alpha=0.45, lw=0, label="power caps"
        )
        axes.step(x, without, where="post", color=WITHOUT, lw=1.0, ls=(0, (4, 2)), label="with nothing done")
        axes.step(x, gaps, where="post", color=IMPORT, lw=1.6, label=f"drawn at {data.circuit}")
        axes.step(x, _kilowatts(limit), where="post", color=LIMIT, lw=1.4, label="limit")
        axes.set_ylim(bottom=0.0)
        finish(axes, data.started, _time_unit(data), "kW")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=5, handlelength=1.6, fontsize=9)
        return svg(figure, "power", "Power at the circuit against its limit")


def battery_figure(data: ReportData) -> str:
    """Draw discharge (positive) and charge of the storage; empty text where there is none."""
    series = data.series
    if all(value is None for value in series.soc_ratio):
        return ""
    with style("battery"):
        figure = Figure(figsize=(9.2, 2.3), facecolor="none")
        axes = figure.add_subplot()
        seconds, (ess, soc) = _thinned(series.seconds, (series.ess_discharge_watts, series.soc_ratio))
        x = [second / _time_unit(data) for second in seconds]
        axes.axhline(0.0, color=INK, lw=0.5)
        axes.fill_between(x, _kilowatts(ess), step="post", color=BATTERY, alpha=0.45, lw=0)
        finish(axes, data.started, _time_unit(data), "kW, discharge up")
        share = axes.twinx()
        share.step(
            x, [float("nan") if v is None else 100 * v for v in soc], where="post", color=IMPORT, lw=1.5
        )
        share.set_ylim(0.0, 100.0)
        share.margins(x=0.0)
        share.set_ylabel("charged, %", color=IMPORT)
        return svg(figure, "battery", "Battery discharge and state of charge")


def _time_unit(data: ReportData) -> float:
    return time_unit(data.series.seconds[-1] if data.series.seconds else 0.0)


def time_unit(length_seconds: float) -> float:
    """What a time axis of that length counts in: seconds, minutes or hours."""
    return 1.0 if length_seconds <= 600 else 60.0 if length_seconds <= 3 * 3600 else 3600.0


def finish(axes: Axes, started: datetime, unit_seconds: float, unit: str) -> None:
    """Name the axes, and leave a light grid."""
    axes.set_ylabel(unit)
    word = {1.0: "seconds", 60.0: "minutes", 3600.0: "hours"}[unit_seconds]
    axes.set_xlabel(f"{word} since {started:%Y-%m-%d %H:%M:%S} UTC")
    axes.margins(x=0.0)
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _mark_events(axes: Axes, events: tuple[EventSpan, ...], time_unit: float) -> None:
    for event in events:
        axes.axvspan(
            event.start_seconds / time_unit, event.end_seconds / time_unit, color=LIMIT, alpha=0.08, lw=0
        )


def _kilowatts(column: Column) -> list[float]:
    return [float("nan") if watts is None else watts / 1000 for watts in column]


def _thinned(seconds: tuple[float, ...], columns: tuple[Column, ...]) -> tuple[list[float], list[Column]]:
    """Keep at most _MOST_POINTS rows; of each group the row where the first column is highest is kept."""
    count = len(seconds)
    if count <= _MOST_POINTS:
        return list(seconds), list(columns)
    group = -(-count // _MOST_POINTS)
    kept = [
        max(range(start, min(start + group, count)), key=lambda row: columns[0][row] or float("-inf"))
        for start in range(0, count, group)
    ]
    return [seconds[row] for row in kept], [tuple(column[row] for row in kept) for column in columns]
