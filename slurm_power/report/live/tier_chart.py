"""Quality against cost of model tiers with the Pareto front: what to draw, the plot, a page around it."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from slurm_power.report.frame.drawing import BATTERY, IMPORT, INK, LIMIT, WITHOUT, style, svg
from slurm_power.report.frame.style import STYLE

FORMATS = (".html", ".svg", ".png")
_NUMBER = ' class="n"'
_PNG_DOTS_PER_INCH = 150
# Names nearer than this, at the figure's own 100 dots per inch, would lie on one another.
_NAME_PIXELS, _LINE_PIXELS = 60.0, 12.0
# More than this between the least and the largest cost, and the small ones would lie on one another.
_SPAN_OF_A_LINEAR_AXIS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPoint:
    """One tier; ``remark`` says where it stands. ``ci95`` is half the width of its interval."""

    name: str
    quality: float
    cost: float
    ci95: float | None = None
    refused: bool = False
    on_front: bool = False
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChart:
    """The tiers of a family by one cost. ``floor`` None for no floor, ``cost_unit`` empty for a number."""

    title: str
    metric: str
    higher_is_better: bool
    cost_title: str
    cost_unit: str
    points: tuple[TierPoint, ...]
    floor: float | None = None

    @property
    def front(self) -> list[TierPoint]:
        """The tiers that no other one dominates, the cheapest first."""
        return sorted((point for point in self.points if point.on_front), key=lambda point: point.cost)


def write_tier_chart(chart: TierChart, file: Path) -> None:
    """Write the chart as .html, .svg or .png, by the name; the file appears complete or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    if file.suffix == ".png":
        with style("tiers"):
            figure = _figure(chart, "white")
            figure.axes[0].set_title(chart.title, loc="left", fontsize=12, fontweight="bold", pad=26)
            figure.savefig(
                partial, format="png", dpi=_PNG_DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.15
            )
    elif file.suffix == ".svg":
        # The colour of a page's text is not there where the file stands alone.
        text = (
            tier_figure(chart)
            .replace("currentColor", "#1c2330")
            .replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        )
        partial.write_text(text, encoding="utf-8")
    else:
        partial.write_text(render_tiers(chart), encoding="utf-8")
    partial.replace(file)


def tier_figure(chart: TierChart) -> str:
    """Draw the chart as inline SVG, described for screen readers."""
    with style("tiers"):
        return svg(_figure(chart, "none"), "tiers", chart.title, " ".join(_words(chart)))


def render_tiers(chart: TierChart) -> str:
    """The chart with its numbers as one HTML page that needs nothing else."""
    rows = "\n".join(
        f"<tr><td>{escape(point.name)}</td>"
        f'<td class="n">{point.quality:.4g}{"" if point.ci95 is None else f" ±{point.ci95:.2g}"}</td>'
        f'<td class="n">{point.cost:.4g}</td><td>{escape(point.remark)}</td></tr>'
        for point in sorted(chart.points, key=lambda point: point.cost)
    )
    cost = escape(_with_unit(chart.cost_title, chart.cost_unit))
    head = "".join(
        f'<th scope="col"{_NUMBER if number else ""}>{heading}</th>'
        for heading, number in (("tier", False), (escape(chart.metric), True), (cost, True), ("", False))
    )
    words = "".join(f"<p>{escape(line)}</p>" for line in _words(chart))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(chart.title)}</title><style>{STYLE}</style></head><body><main>",
            f"<h1>{escape(chart.title)}</h1>",
            f"<section>{words}<figure>{tier_figure(chart)}</figure></section>",
            f'<section><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>',
            rows,
            "</tbody></table></div></section></main></body></html>",
            "",
        ]
    )


def _words(chart: TierChart) -> list[str]:
    better = "higher" if chart.higher_is_better else "lower"
    lines = [f"{chart.metric} ({better} is better) against {chart.cost_title}; bars are 95 % intervals."]
    if chart.front:
        lines.append(f"On the Pareto front: {', '.join(point.name for point in chart.front)}.")
    if refused := [point.name for point in chart.points if point.refused]:
        lines.append(f"Refused: {', '.join(refused)}.")
    return lines


def _with_unit(title: str, unit: str) -> str:
    return f"{title}, {unit}" if unit else title


def _figure(chart: TierChart, background: str) -> Figure:
    figure = Figure(figsize=(8.4, 4.6), facecolor=background)
    axes = figure.add_subplot()
    kinds = (
        ("on the front", BATTERY, "o", lambda point: point.on_front),
        ("dominated", WITHOUT, "o", lambda point: not point.on_front and not point.refused),
        ("refused", LIMIT, "X", lambda point: point.refused),
    )
    for label, colour, marker, belongs in kinds:
        _scatter(axes, [point for point in chart.points if belongs(point)], label, colour, marker)
    front = chart.front
    if len(front) > 1:
        # Between two tiers there is none: the cheaper one's quality is what can be had.
        axes.step(
            [point.cost for point in front],
            [point.quality for point in front],
            where="post",
            color=BATTERY,
            lw=1.2,
            alpha=0.6,
            label="Pareto front",
        )
    if chart.floor is not None:
        axes.axhline(chart.floor, color=LIMIT, lw=1.2, ls=(0, (4, 3)), label=f"floor {chart.floor:g}")
    costs = [point.cost for point in chart.points if point.cost > 0.0]
    if costs and len(costs) == len(chart.points) and max(costs) > _SPAN_OF_A_LINEAR_AXIS * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(EngFormatter(unit=chart.cost_unit))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.12)
    axes.autoscale_view()
    _label(axes, chart.points)
    axes.set_xlabel(chart.cost_title)
    axes.set_ylabel(chart.metric)
    axes.grid()
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5, handlelength=1.8, fontsize=9)
    return figure


def _scatter(axes: Axes, points: list[TierPoint], label: str, colour: str, marker: str) -> None:
    if not points:
        return
    axes.errorbar(
        [point.cost for point in points],
        [point.quality for point in points],
        yerr=[point.ci95 or 0.0 for point in points],
        fmt=marker,
        color=colour,
        ecolor=IMPORT if colour == BATTERY else colour,
        elinewidth=1.0,
        capsize=3,
        ms=7,
        label=label,
    )


def _label(axes: Axes, points: tuple[TierPoint, ...]) -> None:
    """Name the points; names that would lie on one another stand one above the other."""
    placed: list[tuple[float, float]] = []
    for point in points:
        x, y = axes.transData.transform((point.cost, point.quality))
        above = sum(abs(x - left) < _NAME_PIXELS and abs(y - low) < _LINE_PIXELS for left, low in placed)
        placed.append((x, y))
        axes.annotate(
            point.name,
            (point.cost, point.quality),
            xytext=(7, 5 + 11 * above),
            textcoords="offset points",
            color=INK,
            fontsize=9,
        )
