"""``slurm-power plan``: what was decided last, and with ``--explain`` what every lever costs."""

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
from slurm_power.cli.commands.screen import is_narrow, screen
from slurm_power.cli.commands.site.admission_words import admission_lines
from slurm_power.model.money import money_unit, price_text

_NOBODY = "another user's job"


@click.command()
@click.option("--explain", is_flag=True, help="Rank the levers by price; say what was next, and what for.")
@socket_option
@json_option
def plan(explain: bool, socket_path: Path | None, as_json: bool) -> None:
    """Show what is being done now, and what each lever would cost.

    The last plan: levers moved, limits that cannot be met, and with --explain all prices.
    """
    answer = ask({"op": "plan", "explain": explain}, socket_path)
    if as_json:
        print_json(answer)
        return
    answer = printable(answer)
    console = screen()
    if answer["at"] is None:
        console.print("no plan has been made yet")
        return
    at = datetime.fromisoformat(answer["at"])
    mode = "" if answer["mode"] == "control" else ", which is only watched: nothing of it was done"
    console.print(f"[bold]{escape(answer['site'])}[/bold]: the plan of {at.astimezone():%H:%M:%S}{mode}")
    _actions(console, answer)
    for circuit in answer.get("circuits", []):
        _circuit(console, circuit, answer.get("currency"))
    if answer.get("circuits"):
        unit = money_unit(answer.get("currency"))
        console.print(
            f"Prices are in {unit} per kWh; work is in GPU-hours, weighted by priority.", style="dim"
        )
    if answer.get("circuits_left_off"):
        console.print(f"and {answer['circuits_left_off']} more circuits")
    for shortfall in answer["shortfalls"]:
        console.print(_shortfall_text(shortfall, at), style="bold red", markup=False)
    for note in answer["notes"]:
        console.print(note, style="yellow", markup=False)
    for line in admission_lines(answer.get("admission")):
        console.print(line, markup=False, soft_wrap=True)
    if over := answer.get("weights_overridden"):
        told = ", ".join(f"{key} {value}" for key, value in over["weights"].items())
        console.print(f"Weights are overridden by {over['by']}: {told} ({over['reason']})", markup=False)
    console.print(_fairness_text(answer["fairness"]), markup=False)


def _actions(console: Console, answer: Answer) -> None:
    moves = [action for action in answer["actions"] if action.get("changed", True)]
    kept = len(answer["actions"]) - len(moves)
    for action in moves:
        console.print(f"{_action_text(action)}: {action['reason']}", markup=False, soft_wrap=True)
    if answer["actions_left_off"]:
        console.print(f"and {answer['actions_left_off']} more")
    if kept:
        console.print(f"{kept} {'lever stays as it is' if kept == 1 else 'levers stay as they are'}")
    if not answer["actions"]:
        console.print("no lever is moved, or none that you may see")


def _action_text(action: Answer) -> str:
    lever, subject, watts = action["lever"], action["subject"], action["watts"]
    if lever == "discharge":
        return f"{subject} {battery_text(watts)}"
    if lever == "cap":
        return f"job {subject} {'uncapped' if watts is None else f'at {watts_text(watts)} a GPU'}"
    done = {
        "hold": "held",
        "pause": "paused",
        "resume": "resumed",
        "relocate": "sent elsewhere",
        "give nodes back": "may start anywhere again",
    }
    return f"job {subject} {done.get(lever, 'let go')}"


def _circuit(console: Console, circuit: Answer, currency: str | None) -> None:
    name = escape(circuit["circuit"])
    limit = f"limit {watts_text(circuit['limit_watts'])} ({circuit['limit_kind']})"
    drawn = f"draws {watts_text(circuit['load_watts'])} with what batteries feed in"
    without = f"would draw {watts_text(circuit['natural_watts'])} without levers"
    console.print(
        f"\n[bold]{name}[/bold]: {limit}, steered to {watts_text(circuit['target_watts'])};"
        f" {drawn}, {without}",
        soft_wrap=True,
    )
    console.print(_shadow_text(circuit, currency), markup=False, soft_wrap=True)
    if circuit["levers"]:
        console.print(_ranking(circuit["levers"], narrow=is_narrow(console)))
    if circuit["levers_left_off"]:
        console.print(f"and {circuit['levers_left_off']} levers more")


def _shadow_text(circuit: Answer, currency: str | None) -> str:
    """What the limit costs at its margin, and what would come next."""
    following = circuit["next"]
    after = (
        "nothing is left to choose"
        if following is None
        else f"next would be {_lever_text(following)} at {_money(following['next_price'], currency)}"
    )
    if not circuit["binding"]:
        return f"The limit does not bind, so its shadow price is none; {after}."
    if circuit["shadow"] is None:
        return f"The limit binds and no lever is in use for it; {after}."
    marginal = circuit["marginal"]
    return (
        f"Shadow price {_money(circuit['shadow'], currency)} ({_work(circuit['shadow'])}): that of"
        f" the last watt of {_lever_text(marginal)}; {after}."
    )


def _ranking(rows: list[Answer], *, narrow: bool) -> Table:
    table = Table(box=None, header_style="dim")
    if narrow:
        table.add_column("lever", no_wrap=True)
        table.add_column("of")
        for heading in ("price", "chosen"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            price = row["price"] or row["next_price"]
            money = "" if price is None else f"{price['money_per_kwh']:.3f}"
            chosen = watts_text(row["chosen_watts"]) if row["chosen_watts"] else ""
            table.add_row(row["lever"], escape(_whose(row)), money, chosen)
        return table
    for heading in ("", "lever", "of"):
        table.add_column(heading, no_wrap=True)
    for heading in ("price", "work", "chosen", "next"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("left")
    for rank, row in enumerate(rows, 1):
        price = row["price"] or row["next_price"]
        then = row["next_price"] if row["price"] else None
        table.add_row(
            str(rank),
            row["lever"],
            escape(_whose(row)),
            "" if price is None else f"{price['money_per_kwh']:.3f}",
            "" if price is None else f"{price['work_gpu_hours_per_kwh']:.2f}",
            watts_text(row["chosen_watts"]) if row["chosen_watts"] else "",
            "" if then is None else f"{then['money_per_kwh']:.3f}",
            watts_text(row["left_watts"]) if row["left_watts"] else escape(row["remark"]),
        )
    return table


def _whose(row: Answer) -> str:
    if row["flex"] is None:
        return str(row["subject"])
    return (
        f"{_NOBODY}, {row['flex']}"
        if row["subject"] is None
        else f"{row['subject']} ({row['user']}, {row['flex']})"
    )


def _lever_text(row: Answer) -> str:
    if row["flex"] is None:
        return f"the discharge of {row['subject']}"
    return f"the {row['lever']} on {_NOBODY if row['subject'] is None else 'job ' + row['subject']}"


def _money(price: Answer, currency: str | None) -> str:
    return price_text(price["money_per_kwh"], currency)


def _work(price: Answer) -> str:
    return f"{price['work_gpu_hours_per_kwh']:.2f} GPU-hours of work"


def _shortfall_text(shortfall: Answer, at: datetime) -> str:
    since = shortfall["since"]
    when = "now"
    if shortfall.get("from_seconds", 0.0) > 0.0:
        when = f"in {duration_text(shortfall['from_seconds'])}"
    elif since is not None:
        begun = datetime.fromisoformat(since)
        when = f"since {begun.astimezone():%H:%M:%S} ({duration_text((at - begun).total_seconds())})"
    return (
        f"{shortfall['circuit']} cannot be met {when}: {watts_text(shortfall['watts'])} above what the levers"
        f" can hold, {shortfall['reason']}"
    )


def _fairness_text(fairness: Answer) -> str:
    worst = ""
    if fairness["worst_lost_ratio"]:
        who = fairness["worst_user"] or "one user"
        worst = f"; {who} has lost most lately, {percent_text(fairness['worst_lost_ratio'])} of the GPU time"
    own = fairness["own_lost_ratio"]
    mine = f"; you have lost {percent_text(own)}" if own else ""
    return f"Fairness among users (Jain): {fairness['jain_index']:.3f}{worst}{mine}."
