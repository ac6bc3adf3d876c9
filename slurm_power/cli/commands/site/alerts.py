"""``slurm-power alerts``: what is wrong with the site, and whom that reaches."""

import time
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from slurm_power import clock
from slurm_power.cli.command_group import CommandGroup
from slurm_power.cli.commands.connection import (
    Answer,
    ask,
    json_option,
    print_json,
    printable,
    socket_option,
)
from slurm_power.cli.commands.quantities import Duration, duration_text

_STYLES = {"page": "bold red", "warn": "yellow", "info": "cyan"}
_TEST_SECONDS = 150.0
_LOOK_SECONDS = 0.5


@click.group(cls=CommandGroup, invoke_without_command=True)
@socket_option
@json_option
@click.pass_context
def alerts(context: click.Context, socket_path: Path | None, as_json: bool) -> None:
    """Show the alerts that are firing; test or silence them.

    Exit status 1 while one of severity page fires that nobody has silenced. Only for operators.
    """
    context.obj = socket_path
    if context.invoked_subcommand is None:
        _list(socket_path, as_json=as_json)


@alerts.command("list")
@socket_option
@json_option
@click.pass_obj
def list_alerts(above: Path | None, socket_path: Path | None, as_json: bool) -> None:
    """Show the alerts that fire."""
    _list(socket_path or above, as_json=as_json)


def _list(socket_path: Path | None, *, as_json: bool) -> None:
    answer = ask({"op": "alerts"}, socket_path)
    rows = answer["alerts"]
    if as_json:
        print_json({key: answer[key] for key in ("alerts", "silences", "heard", "age_seconds")})
    else:
        console = Console(highlight=False)
        for line in alert_lines(printable(rows)):
            console.print(line, soft_wrap=True)
        if not rows:
            console.print("nothing is wrong" if answer["heard"] else "no alerts are known")
        for silence in printable(answer["silences"]):
            console.print(
                Text(
                    f"{silence['alert_id']} is silenced by {silence['who']} until {silence['until']}:"
                    f" {silence['reason']}",
                    style="dim",
                ),
                soft_wrap=True,
            )
    if not answer["heard"]:
        click.echo(_unheard(answer), err=True)
    if any(row["severity"] == "page" and row["state"] == "firing" for row in rows):
        raise SystemExit(1)


def alert_lines(rows: list[Answer], *, effects: bool = True) -> list[Text]:
    """What fires, one after the other; of printable rows."""
    lines = []
    for row in rows:
        style = "dim" if row["state"] != "firing" else _STYLES.get(row["severity"], "")
        quiet = "" if row["state"] == "firing" else f" ({row['state']})"
        lines.append(Text(f"{row['severity'].upper():<5}{row['summary']}{quiet}", style=style))
        if effects:
            lines += [Text(f"       {effect}") for effect in row["effects"]]
            lines.append(Text(f"     {row['what_to_do']} ({row['runbook']})"))
            lines.append(Text(f"     {row['id']}, since {row['since']}", style="dim"))
    return lines


@alerts.command()
@socket_option
@json_option
@click.pass_obj
def test(above: Path | None, socket_path: Path | None, as_json: bool) -> None:
    """Send a test alert by every way out.

    Says which have failed; exit status 1 if any has.
    """
    path = socket_path or above
    if not ask({"op": "alerts"}, path)["heard"]:
        raise click.ClickException(_unheard(ask({"op": "alerts"}, path)))
    wish_id = str(ask({"op": "alerts", "wish": "test"}, path)["wish_id"])
    until = clock.monotonic() + _TEST_SECONDS
    while (results := ask({"op": "alerts"}, path)["results"].get(wish_id)) is None:
        if clock.monotonic() > until:
            raise click.ClickException(f"powerbridge has not tried it in {_TEST_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)
    if as_json:
        print_json({"channels": results})
    else:
        for name, why in printable(results).items():
            click.echo(f"{name}: {why or 'sent'}")
        if set(results) <= {"journal"}:
            click.echo("no other way out is configured: see docs/alerts.md", err=True)
    if any(results.values()):
        raise SystemExit(1)


@alerts.command()
@click.argument("alert_id", metavar="ID")
@click.option("--for", "seconds", type=Duration(), help="For how long: 30m, 2h, 1d.")
@click.option("--reason", help="Why; others will read it.")
@click.option("--end", is_flag=True, help="End a silence instead.")
@socket_option
@click.pass_obj
def silence(  # noqa: PLR0917  # click passes them by name
    above: Path | None,
    alert_id: str,
    seconds: float | None,
    reason: str | None,
    end: bool,
    socket_path: Path | None,
) -> None:
    """Silence an alert for a while.

    ID is an alert's, or the name of a rule for all of its alerts.
    """
    path = socket_path or above
    if end:
        if seconds is not None or reason is not None:
            raise click.UsageError("--end takes neither --for nor --reason")
        ask({"op": "alerts", "wish": "unsilence", "alert_id": alert_id}, path)
        click.echo("the silence ends")
        return
    problems = [
        text
        for missing, text in (
            (seconds is None, "--for: missing; a silence has an end"),
            (not (reason or "").strip(), "--reason: missing; it is what others will read"),
        )
        if missing
    ]
    if problems:
        raise click.UsageError("; ".join(problems))
    more = {"alert_id": alert_id, "seconds": seconds, "reason": reason}
    ask({"op": "alerts", "wish": "silence", **more}, path)
    if not (answer := ask({"op": "alerts"}, path))["heard"]:
        click.echo(_unheard(answer), err=True)
    click.echo(f"nobody is told of {printable(alert_id)} for {duration_text(seconds)}")


def _unheard(answer: Answer) -> str:
    age_seconds = answer["age_seconds"]
    since = (
        "has told nothing yet" if age_seconds is None else f"was last heard {duration_text(age_seconds)} ago"
    )
    return f"powerbridge {since}: is it running?"
