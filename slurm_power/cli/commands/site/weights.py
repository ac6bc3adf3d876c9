"""``slurm-power weights``: what counts how much, and another operator's word on it at run time."""

from pathlib import Path
from typing import Any

import click

from slurm_power.cli.command_group import CommandGroup
from slurm_power.cli.commands.confirmation import confirm, yes_option
from slurm_power.cli.commands.connection import (
    Answer,
    ask,
    json_option,
    print_json,
    printable,
    socket_option,
)

_LISTS = ("account_weights",)


@click.group(cls=CommandGroup, invoke_without_command=True)
@socket_option
@json_option
@click.pass_context
def weights(context: click.Context, socket_path: Path | None, as_json: bool) -> None:
    """Show, set or reset the weights of the plan (operators).

    What each means: docs/prices.md.
    """
    if context.invoked_subcommand is None:
        _show(ask({"op": "weights"}, socket_path), as_json=as_json)


@weights.command("set")
@click.argument("pairs", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("--reason", required=True, help="Why, in words users and auditors will read.")
@yes_option
@socket_option
@json_option
def set_weights(
    pairs: tuple[str, ...], reason: str, yes: bool, socket_path: Path | None, as_json: bool
) -> None:
    """Put weights in place of site.toml's, in force from the next cycle and until `reset`.

    Those set before stay. Accounts: account_weights=physics=2,teaching=0.5.
    """
    given = _pairs(pairs)
    before = ask({"op": "weights"}, socket_path)
    known = before.get("overridden") or {}
    wanted = {**(known.get("weights") or {}), **given}
    changes = ", ".join(f"{key} {before['weights'].get(key)} -> {value}" for key, value in given.items())
    confirm(f"Set {changes}?", yes=yes)
    _show(ask({"op": "weights", "weights": wanted, "reason": reason}, socket_path), as_json=as_json)


@weights.command()
@click.option("--reason", required=True, help="Why, in words users and auditors will read.")
@yes_option
@socket_option
@json_option
def reset(reason: str, yes: bool, socket_path: Path | None, as_json: bool) -> None:
    """Go back to the weights of site.toml."""
    confirm("Go back to the weights of site.toml?", yes=yes)
    _show(ask({"op": "weights", "weights": None, "reason": reason}, socket_path), as_json=as_json)


def _pairs(pairs: tuple[str, ...]) -> dict[str, Any]:
    """What was typed; raises click.UsageError with all that is wrong."""
    found: dict[str, Any] = {}
    problems = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals or not value:
            problems.append(f"{pair!r}: write KEY=VALUE, such as flex2_weight=2")
        elif key in found:
            problems.append(f"{key}: stands there twice")
        elif key in _LISTS:
            found[key] = value.split(",")
        else:
            try:
                found[key] = float(value)
            except ValueError:
                problems.append(f"{key}: {value!r} is no number")
    if problems:
        raise click.UsageError("\n       ".join(problems))
    return found


def _show(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    answer = printable(answer)
    override = answer["overridden"]
    over = set() if override is None else set(override["weights"])
    for key, value in answer["weights"].items():
        word = ", ".join(value) or "none" if isinstance(value, list) else f"{value:g}"
        click.echo(f"{key:<28} {word}{'  (overridden)' if key in over else ''}")
    if override is not None:
        click.echo(f"overridden by {override['by']} at {override['at']}: {override['reason']}")
