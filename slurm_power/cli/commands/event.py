"""``slurm-power event``, ``cancel-event``, ``yield`` and ``control``: what operators tell the controller."""

from pathlib import Path

import click

from slurm_power.cli.commands.connection import Answer, ask, json_option, print_json, socket_option
from slurm_power.cli.commands.quantities import Duration, Watts, duration_text, watts_text


@click.command()
@click.argument("circuit")
@click.option("--limit-watts", type=Watts(), required=True, help="The most it may draw: 9000, 9kW, 1.2MW.")
@click.option("--for", "duration_seconds", type=Duration(), required=True, help="How long: 10m, 2h, ...")
@click.option("--in", "start_seconds", type=Duration(), default=0.0, help="When it begins: in 5m, ...")
@click.option("--reason", required=True, help="Why, in words users will read.")
@socket_option
@json_option
def event(  # noqa: PLR0917 - click passes each option by its name
    circuit: str,
    limit_watts: float,
    duration_seconds: float,
    start_seconds: float,
    reason: str,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Lower the limit of CIRCUIT for a while."""
    answer = ask(
        {
            "op": "event",
            "circuit": circuit,
            "limit_watts": limit_watts,
            "start_in_seconds": start_seconds,
            "duration_seconds": duration_seconds,
            "reason": reason,
        },
        socket_path,
    )
    start = f"from in {duration_text(start_seconds)}" if start_seconds else "from now"
    text = f"{circuit}: at most {watts_text(limit_watts)} {start} for {duration_text(duration_seconds)}"
    _report(answer, f"event {answer.get('event_id')}: {text}", as_json=as_json)


@click.command("cancel-event")
@click.argument("event_id")
@socket_option
@json_option
def cancel_event(event_id: str, socket_path: Path | None, as_json: bool) -> None:
    """End event EVENT_ID now."""
    answer = ask({"op": "cancel_event", "event_id": event_id}, socket_path)
    _report(answer, f"event {event_id} is over", as_json=as_json)


@click.command("yield")
@click.argument("node")
@click.option("--for", "duration_seconds", type=Duration(), help="How long: 30m, 2h, at most 7d.")
@click.option("--end", is_flag=True, help="Take the node back now.")
@click.option("--reason", help="Why, in words users will read.")
@socket_option
@json_option
def yield_node(  # noqa: PLR0917 - click passes each option by its name
    node: str,
    duration_seconds: float | None,
    end: bool,
    reason: str | None,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Leave the GPUs of NODE to somebody else for a while.

    Caps for a contract or an event end and none is set; limits that somebody else writes stay. Caps for a
    breaker go on.
    """
    if end == (duration_seconds is not None):
        raise click.UsageError("say how long with --for, or take the node back with --end")
    if not end and not reason:
        raise click.UsageError("say why with --reason; users will read it")
    answer = ask(
        {"op": "yield", "node": node, "seconds": duration_seconds or 0, "reason": reason or "taken back"},
        socket_path,
    )
    text = "is taken back" if end else f"is yielded for {duration_text(duration_seconds)}"
    _report(answer, f"{node} {text}", as_json=as_json)


@click.command()
@click.argument("switch", type=click.Choice(["on", "off"]))
@socket_option
@json_option
def control(switch: str, socket_path: Path | None, as_json: bool) -> None:
    """Switch acting on or off; while it is off the controller only watches and writes down."""
    answer = ask({"op": "control", "enabled": switch == "on"}, socket_path)
    _report(answer, f"control is {switch}", as_json=as_json)


def _report(answer: Answer, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(text)
