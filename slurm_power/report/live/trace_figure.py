"""Forecasts against truth as a plot and in sentences."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slurm_power.model.units import kilowatts_text
from slurm_power.report.frame.drawing import IMPORT, INK, START, style, svg
from slurm_power.report.frame.figures import finish, time_unit
from slurm_power.report.live.trace import AnnouncedStart, ForecastTrace, TraceRow, TruePoint

# Two forecasts further apart than so many steps are not joined.
_GAP_STEPS = 3.0
_MOST_POINTS = 1500
_EARLY_RATIO = 0.25


def trace_figure(trace: ForecastTrace, started: datetime, names: Mapping[str, str]) -> str:
    """Draw what came and what had been forecast of it; ``names`` are those of the jobs, by their number."""
    with style("trace"):
        figure = Figure(figsize=(9.2, 3.4), facecolor="none")
        axes = figure.add_subplot()
        began = started.timestamp()
        unit = time_unit(trace.truth[-1][0] - began if trace.truth else 0.0)
        points = _thinned(trace.truth)
        times = [(seconds - began) / unit for seconds, _ in points]
        truth = [float("nan") if watts is None else watts / 1000 for _, watts in points]
        _draw_rows(axes, trace, began, unit)
        axes.step(times, truth, where="post", color=INK, lw=1.3, label=f"load of {trace.circuit}")
        _mark_starts(axes, trace, began, unit, names)
        finish(axes, started, unit, "kW")
        if len(times) > 1:
            axes.set_xlim(times[0], times[-1])
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, handlelength=1.6, fontsize=9)
        lines = " ".join(trace_words(trace, names))
        return svg(figure, "trace", "Forecast against truth", lines)


def trace_words(trace: ForecastTrace, names: Mapping[str, str]) -> Iterator[str]:
    """How good the forecasts were, and a sentence for each massive start."""
    error, naive, coverage = trace.mae_watts, trace.naive_mae_watts, trace.coverage_ratio
    if error is not None and naive is not None and coverage is not None:
        compared = ""
        if naive > 0.0:
            less = 1.0 - error / naive
            word = "less" if less >= 0 else "more"
            compared = f", {100 * abs(less):.0f} % {word} than that of “as it was” ({_watts(naive)})"
        yield (
            f"Forecasts of {_span(trace.lead_seconds)} before: mean error {_watts(error)}{compared};"
            f" {100 * coverage:.0f} % of {len(trace.judged)} outcomes inside the 80 % band."
        )
    yield from (_start_words(start, names) for start in trace.starts)


def _start_words(start: AnnouncedStart, names: Mapping[str, str]) -> str:
    name = names.get(start.job_id, "")
    job = f"Massive start of job {start.job_id}{f' ({name})' if name else ''}"
    if start.came_seconds is None:
        return f"{job}: announced with {_step(start.step_watts)}; not judged by the end of this report."
    lead = max(0.0, start.came_seconds - start.announced_seconds)
    if start.seen_seconds is None:
        seen = "in no forecast before it came"
    else:
        seen = f"in the forecast {_span(max(0.0, start.came_seconds - start.seen_seconds))} before"
    came = "what came is not known" if start.came_watts is None else f"came {_step(start.came_watts)}"
    return f"{job}: announced {_span(lead)} before, {seen}; expected {_step(start.step_watts)}, {came}."


def _thinned(truth: tuple[TruePoint, ...]) -> list[TruePoint]:
    """Keep at most _MOST_POINTS; of each group the highest is kept."""
    group = max(1, -(-len(truth) // _MOST_POINTS))
    groups = (truth[start : start + group] for start in range(0, len(truth), group))
    return [max(points, key=lambda point: point[1] or float("-inf")) for points in groups]


def _draw_rows(axes: Axes, trace: ForecastTrace, began: float, unit: float) -> None:
    """Forecasts in the middle of the steps that they speak of; a gap where there was none."""
    if not trace.rows:
        return
    label = f"forecast {_span(trace.lead_seconds)} before"
    times, low, middle, high = [], [], [], []
    for row, following in pairwise((*trace.rows, None)):
        assert row is not None
        times.append((_middle(row) - began) / unit)
        low.append(row.p10_watts / 1000)
        middle.append(row.p50_watts / 1000)
        high.append(row.p90_watts / 1000)
        if following is not None and _middle(following) - _middle(row) > _GAP_STEPS * row.step_seconds:
            times.append(times[-1])
            for column in (low, middle, high):
                column.append(float("nan"))
    axes.fill_between(times, low, high, color=IMPORT, alpha=0.22, lw=0, label="80 % of outcomes lie here")
    axes.plot(times, middle, color=IMPORT, lw=1.6, label=label)


def _middle(row: TraceRow) -> float:
    return row.at_seconds + row.step_seconds / 2


def _mark_starts(
    axes: Axes, trace: ForecastTrace, began: float, unit: float, names: Mapping[str, str]
) -> None:
    """A line where a massive start came, marks where it was announced and where a forecast first shows it."""
    for number, start in enumerate(trace.starts):
        moments = [(start.announced_seconds, "announced"), (start.seen_seconds, "in the forecast")]
        if start.came_seconds is not None:
            label = "" if number else "massive start"
            axes.axvline(
                (start.came_seconds - began) / unit, color=START, lw=1.2, ls=(0, (2, 2)), label=label
            )
            moments.append((start.came_seconds, f"job {start.job_id} {names.get(start.job_id, '')} starts"))
        for place, (seconds, text) in enumerate(moments):
            if seconds is None:
                continue
            height = 0.98 - 0.08 * (place + 3 * (number % 3))
            axes.axvline((seconds - began) / unit, ymax=height, color=START, lw=0.8, alpha=0.5)
            # Words stand before their moment, unless that is where the plot begins.
            early = seconds - began < _EARLY_RATIO * (trace.truth[-1][0] - began if trace.truth else 0.0)
            axes.annotate(
                f"◂ {text.strip()}" if early else f"{text.strip()} ▸",
                ((seconds - began) / unit, height),
                xycoords=("data", "axes fraction"),
                ha="left" if early else "right",
                va="top",
                color=START,
                fontsize=8.5,
            )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _watts(watts: float) -> str:
    return f"{watts:.0f} W" if abs(watts) < 1000 else kilowatts_text(watts)


def _step(watts: float) -> str:
    return f"{'+' if watts >= 0 else ''}{kilowatts_text(watts)}"
