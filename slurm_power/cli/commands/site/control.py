"""``slurm-power control`` and ``slurm-power release-all``: the automation as a whole."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from slurm_power.cli.commands.confirmation import confirm, yes_option
from slurm_power.cli.commands.connection import ask, json_option, print_json, printable, socket_option
from slurm_power.cli.commands.quantities import Duration, duration_text

_SWITCHED = "asked for on the command line"
_ENABLED = {"on": True, "resume": True, "off": False, "pause": False}
_LEVERS = (
    ("caps", "cap", "caps"),
    ("holds", "hold", "holds"),
    ("pauses", "pause", "pauses"),
    ("setpoints", "setpoint", "setpoints"),
    ("relocations", "relocation", "relocations"),
    ("micro_batches", "micro-batch", "micro-batches"),
    ("services", "service's tier", "services' tiers"),
    ("tier_moves", "tier move", "tier moves"),
)


@click.command()
@click.argument("switch", type=click.Choice(list(_ENABLED)))
@click.option(
    "--for", "seconds", type=Duration(), help="How long: 30m, 2h, at most 31d; then it ends by itself."
)
@click.option("--reason", help="Why, in words users and auditors will read.")
@yes_option
@socket_option
@json_option
def control(  # noqa: PLR0917 - click passes each option by its name
    switch: str, seconds: float | None, reason: str | None, yes: bool, socket_path: Path | None, as_json: bool
) -> None:
    """Switch control on or off, or pause it for a while.

    While it is off the controller only watches and writes down: everything is given back at once, and no
    limit is held by it, a breaker's neither. `pause --for 2h` ends by itself, also when powerctld is
    restarted meanwhile; `resume` ends it before. `off` has no end, but a powerctld that starts anew does as
    site.toml says. `on --for 1h` tries the control for an hour.
    """
    problems = []
    if switch == "pause" and seconds is None:
        problems.append("--for: missing; a pause has an end, say how long (or use off)")
    if switch == "pause" and not (reason or "").strip():
        problems.append("--reason: missing; it is what users and auditors will read")
    if switch == "resume" and seconds is not None:
        problems.append("--for: goes with pause, off and on")
    if problems:
        raise click.UsageError("\n       ".join(problems))
    enabled = _ENABLED[switch]
    if switch == "resume" and ask({"op": "status", "most_jobs": 0}, socket_path).get("paused_until") is None:
        raise click.UsageError("there is no pause to resume from; `control on` switches the control on")
    length = "" if seconds is None else f" for {duration_text(seconds)}"
    meant = (
        "Let the control act on jobs and batteries" if enabled else "Give everything back, and hold no limit"
    )
    confirm(f"{meant}{length}?", yes=yes)
    request: dict[str, Any] = {"op": "control", "enabled": enabled, "reason": reason or _SWITCHED}
    answer = ask(request | ({} if seconds is None else {"for_seconds": seconds}), socket_path)
    if as_json:
        print_json(answer)
        return
    click.echo(f"control is {'on' if enabled else 'off'}{_until(answer.get('ends_at'), enabled=enabled)}")


def _until(moment: object, *, enabled: bool) -> str:
    """When a pause or a trial ends, in words that follow others."""
    if not isinstance(moment, str):
        return ""
    try:
        ends = datetime.fromisoformat(moment).astimezone()
    except ValueError:
        return ""
    return f" until {ends:%Y-%m-%d %H:%M:%S}, then {'off' if enabled else 'on'} again by itself"


@click.command("release-all")
@click.option("--reason", required=True, help="Why, in words users and auditors will read.")
@click.option("--safety-too", is_flag=True, help="What a breaker's limit needs now as well.")
@yes_option
@socket_option
@json_option
def release_all(reason: str, safety_too: bool, yes: bool, socket_path: Path | None, as_json: bool) -> None:
    """Give back every cap, hold, pause and setpoint, now.

    And every wish for a lighter tier.

    What is still needed is planned anew in the next cycle, a second later: limits that do not fit without it
    take it again. To have it stay given back, pause the control: `slurm-power control pause --for 1h`.

    What a safety limit (a breaker's) needs stays meanwhile, since it would be set again at once and the
    breaker does not wait; --safety-too gives that back as well, for the second until the next cycle. A job
    that was moved to another tier already stays there until it ends; a user's own cap is not ours.
    """
    if not reason.strip():
        raise click.UsageError("--reason: missing; it is what users and auditors will read")
    more = ", what breakers need too" if safety_too else ""
    confirm(f"Give every cap, hold, pause and setpoint back now{more}?", yes=yes)
    request: dict[str, Any] = {"op": "release_all", "reason": reason}
    answer = ask(request | ({"safety_too": True} if safety_too else {}), socket_path)
    if as_json:
        print_json(answer)
        return
    answer = printable(answer)
    click.echo(f"given back: {_counted(answer['released'])}")
    kept = answer["kept_for_safety_count"]
    if kept:
        more = "" if kept == len(answer["kept_for_safety"]) else ", ..."
        click.echo(f"stays, for a breaker: {', '.join(answer['kept_for_safety'])}{more}")
    if answer["mode"] == "control":
        click.echo("what limits still need is planned anew in the next cycle")
    else:
        click.echo("control is off: nothing is set again")


def _counted(counts: dict[str, int]) -> str:
    found = []
    for key, one, many in _LEVERS:
        number = counts.get(key, 0)
        if number:
            found.append(f"{number} {one if number == 1 else many}")
    return ", ".join(found) or "nothing was set"
