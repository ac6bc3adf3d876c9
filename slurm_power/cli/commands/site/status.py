"""``slurm-power status``: the site at a glance."""

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
from slurm_power.cli.commands.quantities import battery_text, duration_text, percent_text, watts_text
from slurm_power.cli.commands.screen import NARROW_COLUMNS, is_narrow, screen
from slurm_power.cli.commands.site.admission_words import admission_lines

# Fewer have no room for the workload class beside names and remarks.
_ALL_COLUMNS = 96


@click.command()
@socket_option
@json_option
def status(socket_path: Path | None, as_json: bool) -> None:
    """Show power against limits, storage, jobs and events."""
    answer = ask({"op": "status"}, socket_path)
    if as_json:
        print_json(answer)
        return
    answer = printable(answer)
    console = screen()
    if (standing := answer.get("standing")) is not None:
        style = "bold green" if standing["safe"] else "bold red"
        console.print(standing["headline"], style=style, highlight=False, markup=False, soft_wrap=True)
    mode = "controls" if answer["mode"] == "control" else "only watches, touches nothing"
    if answer.get("paused_until"):
        until = datetime.fromisoformat(answer["paused_until"]).astimezone()
        mode += f" until {until:%Y-%m-%d %H:%M:%S}"
    console.print(f"[bold]{escape(answer['site'])}[/bold]: powerctld {mode}, up", end=" ")
    console.print(duration_text(answer["uptime_seconds"]), highlight=False)
    narrow = is_narrow(console)
    _circuits(console, answer, narrow=narrow)
    if answer["ess"]:
        _batteries(console, answer, narrow=narrow)
    if (level := answer.get("level")) is not None:
        console.print(_level_text(level), highlight=False, markup=False)
    _print_jobs(console, answer)
    for service in answer.get("services", []):
        console.print(_service_text(service), highlight=False, markup=False, soft_wrap=True)
    for line in admission_lines(answer.get("admission")):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for record in answer.get("yields", []):
        ends = duration_text(record["ends_in_seconds"])
        text = f"node {record['node']} is yielded to {record['who']}, ends in {ends}: {record['reason']}"
        console.print(text, style="yellow", highlight=False, markup=False)
    for event in answer["events"]:
        console.print(event_text(event), style="yellow", highlight=False, markup=False)
    for shortfall in answer["shortfalls"]:
        missing, ahead = watts_text(shortfall["watts"]), shortfall.get("from_seconds", 0.0)
        text = f"{shortfall['circuit']} is {missing} above what the levers can hold: "
        if ahead > 0:
            text = f"{shortfall['circuit']} will be {missing} above its limit in {duration_text(ahead)}: "
        console.print(text + shortfall["reason"], style="bold red", highlight=False, markup=False)


def _service_text(service: Answer) -> str:
    serving = service["serving"] or "nothing yet"
    text = f"service {service['name']} of {service['user']} serves {service['family']} with {serving}"
    streams = sum(backend["open_streams"] for backend in service["backends"])
    if streams:
        text += f", {streams} open streams"
    asked = service["asked_tier"]
    if asked is not None:
        return f"{text}; asked for {asked} in place of {service['full_tier']}: {service['reason']}"
    return f"{text}; on its way back to {service['full_tier']}" if service["switching"] else text


def _level_text(level: Answer) -> str:
    trade = "" if level["trade_watts"] is None else f"; {level['trade_reason']}"
    if level["level_watts"] is None:
        return f"in {level['period']} no peak of {level['circuit']} is paid for now{trade}"
    held = f"in {level['period']} the batteries hold {level['circuit']} to "
    return f"{held}{watts_text(level['level_watts'])} ({level['reason']}){trade}"


def event_text(event: Answer) -> str:
    """An event of a printable answer as a line."""
    limit = f"event {event['event_id']}: {event['circuit']} limited to {watts_text(event['limit_watts'])}"
    starts = event["starts_in_seconds"]
    if event["ends_in_seconds"] <= 0:
        return f"event {event['event_id']}: {event['circuit']} recovers from it: {event['reason']}"
    when = f" from in {duration_text(starts)}" if starts > 0 else ""
    return f"{limit}{when}, ends in {duration_text(event['ends_in_seconds'])}: {event['reason']}"


def _circuits(console: Console, answer: Answer, *, narrow: bool) -> None:
    """A line a circuit; where there is little room what is wrong with their readings stands below."""
    table = Table(box=None, header_style="dim")
    table.add_column("circuit", no_wrap=True)
    for heading in ("power", "limit", "used"):
        table.add_column(heading, justify="right", no_wrap=True)
    if not narrow:
        table.add_column("")
    remarks = []
    for circuit in answer["circuits"]:
        watts, limit_watts = circuit["watts"], circuit["limit_watts"]
        used_ratio = watts / limit_watts if watts is not None and limit_watts else None
        colour = "red" if used_ratio is not None and used_ratio > 1.0 else "green"
        quality = circuit["quality"]
        remark = "" if quality == "good" else f"{quality}: {circuit['reason']}".rstrip(": ")
        remark = remark if quality else "not metered"
        if remark and narrow:
            remarks.append(f" {circuit['name']} is {remark}")
        table.add_row(
            escape(circuit["name"]),
            watts_text(watts),
            "none" if limit_watts is None else watts_text(limit_watts),
            f"[{colour}]{percent_text(used_ratio)}[/{colour}]",
            *([] if narrow else [escape(remark)]),
        )
    console.print(table)
    for line in remarks:
        console.print(line, highlight=False, markup=False)


def _batteries(console: Console, answer: Answer, *, narrow: bool) -> None:
    """A line a battery, as for circuits."""
    table = Table(box=None, header_style="dim")
    for heading in ("battery", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("charge",) if narrow else ("charge", "health"):
        table.add_column(heading, justify="right", no_wrap=True)
    if not narrow:
        table.add_column("")
    lines = []
    for ess in answer["ess"]:
        remarks = [*ess["alarms"], *([] if ess["remote"] else ["operated locally"])]
        remark = ", ".join(remarks) or ("" if ess["quality"] == "good" else ess["quality"])
        if remark and narrow:
            lines.append(f" {ess['name']}: {remark}")
        table.add_row(
            escape(ess["name"]),
            battery_text(ess["discharge_watts"]),
            percent_text(ess["soc_ratio"]),
            *([] if narrow else [percent_text(ess["soh_ratio"])]),
            *([] if narrow else [escape(remark)]),
        )
    console.print(table)
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _print_jobs(console: Console, answer: Answer) -> None:
    console.print(_jobs(answer, console.width) if answer["jobs"] else "no jobs to show")
    if left_off := answer.get("jobs_left_off"):
        # Those that something is done about come first: none is left off where others are told.
        rest = ", neither capped, held nor paused" if not all(map(_touched, answer["jobs"])) else ""
        text = f"{left_off:,} {'job' if left_off == 1 else 'jobs'} more{rest}: squeue lists them"
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _touched(job: Answer) -> bool:
    return any(job.get(key) is not None for key in ("cap_watts", "hold_ends_in_seconds", "paused_seconds"))


def _jobs(answer: Answer, width: int) -> Table:
    """A line a job; where there is little room only whose it is, what it draws and its cap."""
    narrow = width < NARROW_COLUMNS
    words = {"job": "job_id", "user": "user"}
    if not narrow:
        words |= {"name": "name", "state": "state"}
        words |= {"flex": "flex"} if width < _ALL_COLUMNS else {"class": "workload", "flex": "flex"}
    table = Table(box=None, header_style="dim")
    for heading in words:
        table.add_column(heading, no_wrap=True)
    for heading in ("power", "cap") if narrow else ("GPUs", "power", "cap"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for job in answer["jobs"]:
        remarks = [f"tier {job['tier']}"] if job.get("tier") else []
        if job["cap_watts"] is not None and job.get("cap_is_own"):
            remarks.append("cap asked for by its user")
        elif job["cap_watts"] is not None and job["slowdown_ratio"]:
            remarks.append(f"{percent_text(job['slowdown_ratio'])} slower")
        if job.get("lock_hertz") is not None:
            remarks.append(f"clock locked at {job['lock_hertz'] / 1e6:.0f} MHz")
        if job["hold_ends_in_seconds"] is not None:
            remarks.append(f"held for another {duration_text(job['hold_ends_in_seconds'])} at most")
        table.add_row(
            *(escape(str(job[key])) for key in words.values()),
            *([] if narrow else [str(job["gpu_count"])]),
            watts_text(job["gpu_watts"]),
            watts_text(None) if job["cap_watts"] is None else f"{watts_text(job['cap_watts'])}/GPU",
            escape(", ".join(remarks)),
        )
    return table
