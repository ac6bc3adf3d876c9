"""``slurm-power forecast``: what a circuit is expected to draw, as a fan chart, and how far to trust it."""

from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from slurm_power.cli.commands.connection import (
    Answer,
    ask,
    json_option,
    print_json,
    printable,
    socket_option,
)
from slurm_power.cli.commands.site.fan_text import ASCII, LEAST_WIDTH, UNICODE, Signs, fan_lines, legend
from slurm_power.cli.commands.site.forecast_words import circuit_starts, sections, step_text
from slurm_power.report.live.fan import FanChart, StartMark

_CHART_ROWS = 14
_MOST_WIDTH = 120
_REACH_TITLES = {"near": "the next hour", "far": "the next days"}
_LEAST_PAST_STEPS = 4
_DAYS_FOR_FAR = 1.0


@click.command()
@click.option("--circuit", help="Which circuit (default: the grid connection).")
@click.option(
    "--reach",
    type=click.Choice(list(_REACH_TITLES)),
    help="The next hour in minutes, or the next days in quarters of an hour"
    " (default: near if a massive start comes within it or little is known, else far).",
)
@click.option("--png", "png_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture.")
@click.option("--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a page.")
@click.option("--ascii", "only_ascii", is_flag=True, help="Draw with the plainest characters.")
@socket_option
@json_option
def forecast(  # noqa: PLR0917  # click gives them by name
    circuit: str | None,
    reach: str | None,
    png_file: Path | None,
    html_file: Path | None,
    only_ascii: bool,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Show what a circuit is expected to draw, with an 80 % band.

    Left of the upright line is what was drawn, right of it what is expected. Below stand what drives it, the
    starts that are coming, how good such forecasts were lately, and who made this one. Times are local ones.
    """
    answer = ask({"op": "forecast", "circuit": circuit}, socket_path)
    if as_json:
        print_json(answer)
        return
    answer = printable(answer)
    reach = reach or _reach_of_interest(answer)
    chart = fan_chart(answer, reach)
    if png_file is not None or html_file is not None:
        _write(answer, chart, reach, png_file, html_file)
        return
    _show(answer, chart, reach, only_ascii=only_ascii)


def fan_chart(answer: Answer, reach: str) -> FanChart:
    """Turn an answer into the chart of one reach; the past takes a third of it at most."""
    found: dict[str, Any] | None = answer["forecasts"].get(reach)
    history: dict[str, Any] | None = answer["history"].get(reach)
    supply = (answer.get("supply") or {}).get(reach) or {}
    at_seconds = datetime.fromisoformat(answer["at"]).timestamp()
    steps = len(found["p50_watts"]) if found else 0
    past = list(history["watts"]) if history else []
    past_step = history["step_seconds"] if history else 60.0
    if found and history:
        most = max(_LEAST_PAST_STEPS, round(steps * found["step_seconds"] / 2 / past_step))
        past = past[-most:]
    limit_watts = answer["limit_watts"]
    limits = supply.get("limit_watts") or ([] if limit_watts is None else [limit_watts] * steps)
    past_end = history["end_seconds"] if history else at_seconds
    chart = FanChart(
        title=f"{answer['site']}, {answer['circuit']}: {_REACH_TITLES[reach]}",
        circuit=answer["circuit"],
        past_start_seconds=past_end - len(past) * past_step,
        past_step_seconds=past_step,
        past_watts=tuple(past),
        issued_seconds=found["issued_seconds"] if found else past_end,
        step_seconds=found["step_seconds"] if found else past_step,
        p10_watts=tuple(found["p10_watts"]) if found else (),
        p50_watts=tuple(found["p50_watts"]) if found else (),
        p90_watts=tuple(found["p90_watts"]) if found else (),
        limit_watts=tuple(limits[:steps]),
        starts=tuple(_start_marks(answer)) if found else (),
    )
    seen = tuple(mark for mark in chart.starts if chart.issued_seconds <= mark.at_seconds < chart.end_seconds)
    return replace(chart, starts=seen)


def _start_marks(answer: Answer) -> list[StartMark]:
    at_seconds = datetime.fromisoformat(answer["at"]).timestamp()
    return [
        StartMark(
            at_seconds=at_seconds + max(0.0, start["lead_seconds"]),
            text=f"{'job ' + start['job_id'] if start['job_id'] else 'a job'}"
            f" {step_text(start['step_watts'][answer['circuit']])}",
        )
        for start in circuit_starts(answer)
        if start["massive"] and start["lead_seconds"] is not None
    ]


def _reach_of_interest(answer: Answer) -> str:
    """The hour when something massive starts within it, or where days are not known or rest on hours."""
    found = answer["forecasts"]
    if not found.get("near"):
        return "far" if found.get("far") else "near"
    if not found.get("far") or found["far"]["history_days"] < _DAYS_FOR_FAR:
        return "near"
    ahead_seconds = found["near"]["step_seconds"] * len(found["near"]["p50_watts"])
    soon = (
        start["massive"] and start["lead_seconds"] is not None and start["lead_seconds"] < ahead_seconds
        for start in circuit_starts(answer)
    )
    return "near" if any(soon) else "far"


def _show(answer: Answer, chart: FanChart, reach: str, *, only_ascii: bool) -> None:
    console = Console(highlight=False)
    signs = ASCII if only_ascii or console.options.ascii_only else UNICODE
    first, *rest = sections(answer, chart, reach, None)
    console.print(Text(chart.title, style="bold"))
    for line in first.lines:
        console.print(Text(line))
    _draw(console, chart, signs)
    for part in rest:
        console.print(Text(f"{part.heading}:", style="bold"))
        for line in part.lines:
            for row in Text(line, style=_style(line)).wrap(console, max(console.width - 2, 10)):
                row.rstrip()
                console.print(Text("  ") + row)
    others = [name for name in answer["circuits"] if name != answer["circuit"]]
    if others:
        console.print(Text(f"Other circuits: {', '.join(others)}", style="dim"))


def _draw(console: Console, chart: FanChart, signs: Signs) -> None:
    if chart.empty or console.width < LEAST_WIDTH:
        return
    width = min(console.width, _MOST_WIDTH)
    for line in fan_lines(chart, width=width, height=_CHART_ROWS, zone=None, signs=signs):
        console.print(line, no_wrap=True, overflow="crop")
    console.print(legend(chart, signs))


def _style(line: str) -> str:
    """Yellow for what an operator should look at."""
    return "yellow" if line.startswith(("Massive start", "Fall-back", "The forecast worker")) else ""


def _write(
    answer: Answer, chart: FanChart, reach: str, png_file: Path | None, html_file: Path | None
) -> None:
    zone: tzinfo | None = None
    try:
        from slurm_power.report.live.fan_figure import write_fan_png  # noqa: PLC0415 - matplotlib, an extra
        from slurm_power.report.live.fan_html import write_fan_html  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise click.ClickException(
            f"pictures need {package}, which is not installed: pip install 'slurm-power[report]'"
        ) from None
    if png_file is not None and chart.empty:
        raise click.ClickException(f"there is nothing to draw of {chart.circuit} yet")
    try:
        if png_file is not None:
            write_fan_png(chart, zone, png_file)
            click.echo(f"wrote {png_file}")
        if html_file is not None:
            write_fan_html(chart, sections(answer, chart, reach, zone), zone, html_file)
            click.echo(f"wrote {html_file}")
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
