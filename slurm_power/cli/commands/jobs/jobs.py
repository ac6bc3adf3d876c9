"""``slurm-power jobs``: what jobs used and what was done to them, in sacct's manner."""

from pathlib import Path

import click

from slurm_power.cli.commands.connection import json_option, print_json, socket_option
from slurm_power.cli.commands.jobs.job_fields import DEFAULT, FIELDS, as_object, columns, table
from slurm_power.cli.commands.jobs.job_lineage import show_lineage
from slurm_power.cli.commands.jobs.job_rows import AskedWrongly, Row, Selection, read_rows
from slurm_power.cli.commands.jobs.job_statement import statement
from slurm_power.cli.commands.quantities import plain_text


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in (text or "").split(","))))


@click.command()
@click.argument("job", required=False)
@click.option("-j", "--jobs", "jobs_text", metavar="JOBS", help="Only these, by id, comma-separated.")
@click.option("-u", "--user", "--uid", "users_text", metavar="USERS", help="Only of these users.")
@click.option("-a", "--allusers", "all_users", is_flag=True, help="Of all users, as far as you may see them.")
@click.option(
    "-A", "--accounts", "--account", "accounts_text", metavar="ACCOUNTS", help="Only of these accounts."
)
@click.option("-S", "--starttime", metavar="TIME", help="Since then, as for sacct (default: midnight).")
@click.option("-E", "--endtime", metavar="TIME", help="Until then, as for sacct (default: now).")
@click.option("-s", "--state", "states_text", metavar="STATES", help="Only in these states; also ENDED.")
@click.option("-o", "--format", "format_text", metavar="FIELDS", help="Columns, each with %WIDTH if wanted.")
@click.option("-e", "--helpformat", is_flag=True, help="List the columns there are.")
@click.option("-P", "--parsable2", is_flag=True, help="Fields between bars, for programs.")
@click.option("-n", "--noheader", is_flag=True, help="Without headings.")
@click.option("-X", "--allocations", is_flag=True, help="One line a job, as always; taken as sacct takes it.")
@click.option("--statement", "as_statement", is_flag=True, help="An account of each job in sentences.")
@click.option("--lineage", "as_lineage", is_flag=True, help="The runs of one JOB, each with its model tier.")
@socket_option
@json_option
def jobs(  # noqa: PLR0917  # click passes them by name
    job: str | None,
    jobs_text: str | None,
    users_text: str | None,
    all_users: bool,
    accounts_text: str | None,
    starttime: str | None,
    endtime: str | None,
    states_text: str | None,
    format_text: str | None,
    helpformat: bool,
    parsable2: bool,
    noheader: bool,
    allocations: bool,  # noqa: ARG001  # there are no other lines
    as_statement: bool,
    as_lineage: bool,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Show what jobs have used: energy, caps, cost, CO2.

    Your own of today, those chosen, or an account of one JOB.

    What was read for less than 95 % of a job's time is marked as an estimate (~). docs/energy.md explains
    how each number is known.
    """
    if helpformat:
        width = max(len(field.name) for field in FIELDS)
        click.echo("\n".join(f"{field.name:<{width}}  {field.meaning}" for field in FIELDS))
        return
    if as_lineage:
        show_lineage(job, socket_path, as_json=as_json)
        return
    problems: list[str] = []
    wanted = columns(format_text or DEFAULT, problems)
    if job is not None and jobs_text is not None:
        problems.append("give a job alone, or --jobs")
    selection = Selection(
        jobs=_list(jobs_text) or _list(job),
        users=_list(users_text),
        accounts=_list(accounts_text),
        states=_list(states_text),
        start=starttime,
        end=endtime,
        all_users=all_users,
    )
    rows, notes = _read(selection, socket_path, problems)
    if as_json:
        print_json({"jobs": [as_object(row) for row in rows], "notes": notes})
        return
    for note in notes:
        click.echo(f"slurm-power: {plain_text(note)}", err=True)
    if job is not None or as_statement:
        if not rows and job is not None:
            raise click.ClickException(f"nothing is known of a job {plain_text(job)} (or it is not yours)")
        click.echo("\n\n".join("\n".join(map(plain_text, statement(row))) for row in rows))
    elif parsable2:
        lines = [] if noheader else ["|".join(column.field.name for column in wanted)]
        lines += ["|".join(plain_text(column.field.text(row)) for column in wanted) for row in rows]
        click.echo("\n".join(lines), nl=bool(lines))
    else:
        lines = [plain_text(line) for line in table(rows, wanted, header=not noheader)]
        click.echo("\n".join(lines), nl=bool(lines))
        if not noheader and any(row.receipt is not None and row.receipt.is_estimate for row in rows):
            click.echo("~ an estimate: less than 95 % of the job's time was read")


def _read(selection: Selection, socket_path: Path | None, problems: list[str]) -> tuple[list[Row], list[str]]:
    """The rows; raises AskedWrongly with ``problems`` and with what is wrong with the selection."""
    try:
        rows, notes = read_rows(selection, socket_path)
    except AskedWrongly as wrong:
        problems = [*problems, wrong.message]
        rows, notes = [], []
    except click.ClickException:
        if not problems:
            raise
        rows, notes = [], []
    if problems:
        raise AskedWrongly("; ".join(problems))
    return rows, notes
