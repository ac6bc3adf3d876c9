"""``slurm-power policy`` and ``slurm-power appeal``: what may be done to jobs, and users' word against it."""

from datetime import datetime
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


@click.group(cls=CommandGroup, invoke_without_command=True)
@socket_option
@json_option
@click.pass_context
def policy(context: click.Context, socket_path: Path | None, as_json: bool) -> None:
    """Show who may be slowed, how far, and how to appeal.

    The sentences are made from the values in force.
    """
    if context.invoked_subcommand is not None:
        return
    answer = ask({"op": "policy"}, socket_path)
    if as_json:
        print_json(answer)
        return
    for line in _lines(printable({key: one for key, one in answer.items() if key != "text"})):
        click.echo(line)
    if answer["text"]:
        click.echo("\nThe site's own words:\n")
        # Line by line: what is no printable text in it must not move the cursor.
        for line in str(answer["text"]).splitlines():
            click.echo(printable(line))


@policy.command()
@click.option("--reason", required=True, help="Why the policy was changed.")
@yes_option
@socket_option
@json_option
def sign(reason: str, yes: bool, socket_path: Path | None, as_json: bool) -> None:
    """Sign changes of site.toml that nobody has signed yet (operators)."""
    confirm("Put your name to the changes of the policy?", yes=yes)
    answer = ask({"op": "policy_sign", "reason": reason}, socket_path)
    if as_json:
        print_json(answer)
    else:
        count = len(answer["signed"])
        click.echo(f"signed: {count} {'change' if count == 1 else 'changes'}")


def _local_text(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"


def _lines(answer: Answer) -> list[str]:
    until = "" if answer["paused_until"] is None else f" until {_local_text(answer['paused_until'])}"
    mode = "" if answer["mode"] == "control" else f" Control is off{until}: nothing is touched now."
    found = [f"Policy of {answer['site']}.{mode}", ""]
    topic = ""
    for line in answer["lines"]:
        heading = line["topic"] if line["topic"] != topic else ""
        topic = line["topic"]
        found.append(f"  {heading:<10} {line['text']}")
    found.append("")
    override = answer["weights_overridden"]
    if override is not None:
        found.append(f"Weights are overridden by {override['by']}: {override['reason']}")
    if answer["owner"] or answer["contact"]:
        found.append(f"Answers for it: {answer['owner'] or '?'} ({answer['contact'] or 'no contact given'}).")
    else:
        found.append("Nobody is named who answers for it ([governance] in site.toml).")
    where = f" {answer['appeals']}" if answer["appeals"] else ""
    found.append(
        f'Appeals: slurm-power appeal JOB --text "..."; answered within {answer["answer_days"]} days.{where}'
    )
    if answer["review_by"]:
        late = ", which has passed" if answer["overdue"] else ""
        found.append(f"To be looked at again by {answer['review_by']}{late}.")
    since = "not kept yet"
    if answer["changed_at"]:
        since = f"since {_local_text(answer['changed_at'])} by {answer['author']}"
    unsigned = answer["unsigned_changes"]
    remark = f"; {unsigned} unsigned" if unsigned else ""
    found.append(f"In force {since}{remark}; fingerprint {answer['fingerprint'][:16]}.")
    return found


class _AppealGroup(CommandGroup):
    """``appeal JOB`` beside ``appeal answer ID`` and ``appeal list``."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; any other word is a job."""
        return super().get_command(ctx, cmd_name) or self.commands["file"]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Leave the job where the command finds it."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            return "file", self.commands["file"], args
        return super().resolve_command(ctx, args)


@click.group(cls=_AppealGroup, subcommand_metavar="JOB --text TEXT | answer ID --text TEXT | list")
def appeal() -> None:
    """Object to what was done to a job of yours; an operator answers.

    Both are entries of the ledger, and in the report on fairness.
    """


@appeal.command("file", hidden=True)
@click.argument("job_id", metavar="JOB")
@click.option("--text", "words", required=True, help="What was wrong, in your words.")
@socket_option
@json_option
def file_appeal(job_id: str, words: str, socket_path: Path | None, as_json: bool) -> None:
    """Appeal against what was done to job JOB."""
    answer = ask({"op": "appeal", "job_id": job_id, "text": words}, socket_path)
    if as_json:
        print_json(answer)
        return
    answer = printable(answer)
    contact = f" (or ask {answer['contact']})" if answer["contact"] else ""
    click.echo(
        f"appeal {answer['appeal_id']} about job {job_id} is filed; answered within"
        f" {answer['answer_days']} days{contact}"
    )


@appeal.command("answer")
@click.argument("appeal_id", metavar="ID")
@click.option("--text", "words", required=True, help="The answer, for the job's user.")
@socket_option
@json_option
def answer_appeal(appeal_id: str, words: str, socket_path: Path | None, as_json: bool) -> None:
    """Answer appeal ID (operators)."""
    answer = ask({"op": "appeal_answer", "appeal_id": appeal_id, "text": words}, socket_path)
    if as_json:
        print_json(answer)
    else:
        answer = printable(answer)
        click.echo(f"appeal {answer['appeal_id']} of {answer['user']} is answered")


@appeal.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only those that wait for an answer.")
@socket_option
@json_option
def list_appeals(only_open: bool, socket_path: Path | None, as_json: bool) -> None:
    """List your appeals with their answers; operators see everybody's."""
    rows: list[dict[str, Any]] = ask({"op": "appeals"}, socket_path)["appeals"]
    rows = [row for row in rows if not only_open or row["answered_at"] is None]
    if as_json:
        print_json({"appeals": rows})
        return
    for row in printable(rows):
        click.echo(f"{row['appeal_id']}  job {row['job_id']}  {row['user']}  {row['at']}: {row['text']}")
        if row["answered_at"] is None:
            click.echo("    waits for an answer")
        else:
            click.echo(f"    {row['answered_by']}, {row['answered_at']}: {row['answer']}")
    if not rows:
        click.echo("no appeals")
