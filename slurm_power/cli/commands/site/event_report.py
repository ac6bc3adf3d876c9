"""``slurm-power events`` and ``event-report``: which events there are, and what came of one."""

from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slurm_power.cli.commands.connection import (
    Answer,
    ask,
    json_option,
    print_json,
    printable,
    socket_option,
)
from slurm_power.cli.commands.quantities import duration_text, percent_text, watts_text
from slurm_power.cli.commands.screen import is_narrow, screen

_MOST_JOBS = 20


@click.command()
@socket_option
@json_option
def events(socket_path: Path | None, as_json: bool) -> None:
    """List grid events: past, running and coming."""
    answer = ask({"op": "events"}, socket_path)
    if as_json:
        print_json(answer)
        return
    rows = printable(answer["events"])
    if not rows:
        click.echo("no event is known")
        return
    console = screen()
    narrow = is_narrow(console)
    table = Table(box=None, header_style="dim")
    for heading in (
        ("event", "circuit", "state") if narrow else ("event", "circuit", "state", "from", "until")
    ):
        table.add_column(heading, no_wrap=True)
    for heading in ("level",) if narrow else ("level", "delivered"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("reason")
    for row in rows:
        times = [] if narrow else _span_texts(row["starts_at"], row["ends_at"])
        delivered = [] if narrow else [_delivered_text(row["result"])]
        table.add_row(
            *(escape(str(row[key])) for key in ("event_id", "circuit", "state")),
            *times,
            watts_text(row["limit_watts"]),
            *delivered,
            escape(str(row["reason"])),
        )
    console.print(table)


@click.command("event-report")
@click.argument("event_id")
@socket_option
@json_option
def event_report(event_id: str, socket_path: Path | None, as_json: bool) -> None:
    """Show what event EVENT_ID delivered, and what it cost."""
    answer = ask({"op": "event_report", "event_id": event_id}, socket_path)
    if as_json:
        print_json(answer["report"])
        return
    report = printable(answer["report"])
    for name, value in _lines(report):
        click.echo(f"{name:<22} {value}")
    for short in report["shortfalls_announced"]:
        text = f"at {_time_text(short['at'])}: {watts_text(short['watts'])} missing from"
        click.echo(f"{'told ahead':<22} {text} {_time_text(short['from_at'])} on: {short['reason']}")
    _print_jobs(report)


def _lines(report: Answer) -> list[tuple[str, str]]:
    result = report["result"]
    firmness = "must" if report["commitment"] == "must" else "best effort"
    noticed = "unknown" if report["announced_at"] is None else _time_text(report["announced_at"])
    ramp, recover = duration_text(report["ramp_seconds"]), duration_text(report["recover_seconds"])
    reached = duration_text(result["time_to_target_seconds"])
    above = result["above_target_ratio"]
    above_text = "\N{EN DASH}" if above is None else f"{100.0 * above:.1f} %"
    gave, took = result["ess_discharged_kwh"], result["ess_charged_kwh"]
    return [
        ("event", f"{report['event_id']} on {report['circuit']}, {report['state']}: {report['reason']}"),
        ("asked", f"{_asked(report)}, {firmness}; notice at {noticed}"),
        ("from, until", f"{_time_text(report['starts_at'])}, {_time_text(report['ends_at'])}"),
        ("ramp, recovery", f"{ramp} down to the start, {recover} up after the end"),
        ("baseline", f"{watts_text(report['baseline_watts'])}: {report['baseline_method']}"),
        (
            "delivered",
            (
                f"{watts_text(result['delivered_watts'])} of {watts_text(result['promised_watts'])}"
                f" ({percent_text(result['delivered_ratio'])}), {_number(result['delivered_kwh'])} kWh"
            ),
        ),
        (
            "too much",
            (
                f"{_points_text(result['over_curtailment_points'])} of the baseline on the mean,"
                f" {_points_text(result['worst_over_curtailment_points'])} in the worst minute"
            ),
        ),
        (
            "above the target",
            (
                f"{watts_text(result['above_target_watts'])} ({above_text}) in the worst minute,"
                f" {result['minutes_above_target']} minutes by more than 1 %"
            ),
        ),
        ("time to target", reached),
        (
            "after it",
            (
                f"{watts_text(result['rebound_watts'])} above the baseline at most,"
                f" steepest rise {watts_text(result['steepest_rise_watts'])} a minute"
            ),
        ),
        ("metered", f"{percent_text(result['coverage_ratio'])} of the event"),
        ("batteries", f"gave {gave:.2f} kWh, took {took:.2f} kWh"),
        (
            "jobs",
            (
                f"{result['lost_gpu_hours']:.2f} GPU-hours lost to caps, {result['held_gpu_hours']:.2f} held;"
                f" performance left {percent_text(result['performance_ratio'])}"
            ),
        ),
    ]


def _asked(report: Answer) -> str:
    level = f"at most {watts_text(report['limit_watts'])}"
    if report["cut_ratio"] is not None:
        return f"{level}, {percent_text(report['cut_ratio'])} below the baseline"
    if report["cut_watts"] is not None:
        return f"{level}, {watts_text(report['cut_watts'])} below the baseline"
    return level


def _print_jobs(report: Answer) -> None:
    jobs = report["jobs"]
    if not jobs:
        return
    table = Table("job", "user", box=None, header_style="dim")
    for heading in ("GPUs", "GPU-hours lost", "capped for", "worst", "held for"):
        table.add_column(heading, justify="right")
    for job in jobs[:_MOST_JOBS]:
        table.add_row(
            escape(str(job["job_id"])),
            escape(str(job["user"])),
            str(job["gpu_count"]),
            f"{job['lost_gpu_hours']:.2f}",
            duration_text(job["capped_seconds"]),
            f"{percent_text(job['worst_slowdown_ratio'])} slower",
            duration_text(job["held_seconds"]),
        )
    Console().print(table)
    if len(jobs) > _MOST_JOBS:
        click.echo(f"and {len(jobs) - _MOST_JOBS} more; --json shows all")


def _time_text(at: str) -> str:
    """A time of the wire without its fractions of a second: ``2026-01-02 17:00:00+00:00``."""
    date, _, rest = at.partition("T")
    return f"{date} {rest[:8]}{rest[-6:] if rest[-6:-5] in ('+', '-') else ''}"


def _span_texts(starts_at: str, ends_at: str) -> list[str]:
    """Begin and end by the local clock; the end without its date where that is the same."""
    starts = datetime.fromisoformat(starts_at).astimezone()
    ends = datetime.fromisoformat(ends_at).astimezone()
    same_day = starts.date() == ends.date()
    return [f"{starts:%Y-%m-%d %H:%M}", f"{ends:%H:%M}" if same_day else f"{ends:%Y-%m-%d %H:%M}"]


def _delivered_text(result: Answer) -> str:
    """What was delivered of what was promised; a dash while that is not known, or nothing was asked."""
    delivered_watts, promised_watts = result["delivered_watts"], result["promised_watts"]
    if delivered_watts is None or promised_watts is None or promised_watts <= 0.0:
        return watts_text(None)
    return f"{watts_text(delivered_watts)} of {watts_text(promised_watts)}"


def _points_text(points: float | None) -> str:
    return "\N{EN DASH}" if points is None else f"{points:.1f} points"


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.2f}"
