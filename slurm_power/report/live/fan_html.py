"""A forecast as one HTML file that needs nothing else: the fan chart, what there is to say, the numbers."""

from datetime import tzinfo
from html import escape
from pathlib import Path

from slurm_power.report.frame.axes import local_time
from slurm_power.report.frame.style import STYLE
from slurm_power.report.live.fan import FanChart, Section
from slurm_power.report.live.fan_figure import fan_figure

_NUMBER = ' class="n"'


def write_fan_html(chart: FanChart, sections: list[Section], zone: tzinfo | None, file: Path) -> None:
    """Write the page; the file appears complete or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(render_fan(chart, sections, zone), encoding="utf-8")
    partial.replace(file)


def render_fan(chart: FanChart, sections: list[Section], zone: tzinfo | None) -> str:
    """Return the page. What users may have named is escaped; the first section stands above the chart."""
    first, *rest = sections
    figure = "" if chart.empty else fan_figure(chart, zone, " ".join(first.lines))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(chart.title)}</title><style>{STYLE}</style></head><body><main>",
            f"<h1>{escape(chart.title)}</h1>",
            f'<p class="when">{local_time(chart.issued_seconds, zone):%Y-%m-%d %H:%M:%S %Z}</p>',
            f"<section>{_paragraphs(first)}<figure>{figure}</figure></section>",
            *(f"<section><h2>{escape(part.heading)}</h2>{_paragraphs(part)}</section>" for part in rest),
            _numbers(chart, zone),
            "</main></body></html>",
            "",
        ]
    )


def _paragraphs(section: Section) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in section.lines)


def _numbers(chart: FanChart, zone: tzinfo | None) -> str:
    """All steps as a table, for those who cannot see the chart or want to copy it."""
    if not chart.p50_watts:
        return ""
    rows = []
    for index, values in enumerate(zip(chart.p10_watts, chart.p50_watts, chart.p90_watts, strict=True)):
        at = local_time(chart.issued_seconds + index * chart.step_seconds, zone)
        limit = f"{chart.limit_watts[index] / 1000:.2f}" if index < len(chart.limit_watts) else ""
        cells = "".join(f'<td class="n">{value / 1000:.2f}</td>' for value in values)
        rows.append(f'<tr><td>{at:%a %H:%M:%S}</td>{cells}<td class="n">{limit}</td></tr>')
    headings = ("From", "p10, kW", "expected, kW", "p90, kW", "limit, kW")
    marked = "".join(
        f'<th scope="col"{_NUMBER if number else ""}>{heading}</th>'
        for number, heading in enumerate(headings)
    )
    return (
        "<section><details><summary>The numbers</summary>"
        f'<div class="wide"><table><thead><tr>{marked}</tr></thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div></details></section>"
    )
