"""``slurm-power report energy --mine``: a user's own jobs, by what every user may ask."""

import os
import pwd
from datetime import datetime
from pathlib import Path

import click

from slurm_power import clock
from slurm_power.cli.commands.jobs.job_rows import Row, Selection, read_rows
from slurm_power.cli.commands.reports.report_spans import AskedSpan
from slurm_power.report.energy.own_energy import OwnJob, own_energy_document, own_jobs_within
from slurm_power.report.frame.document import Document


def own_energy(asked: AskedSpan, socket_path: Path | None) -> Document:
    """The statement of who calls, whatever else they may see; by the clock of this machine, as sacct's.

    Raises click.ClickException where neither Slurm's accounting nor powerctld answers.
    """
    user = _own_name()
    since, until = _bounds(asked)
    selection = Selection(users=(user,), start=_typed(since), end=_typed(until))
    rows, notes = read_rows(selection, socket_path)
    own = [row for row in rows if row.user == user]
    runs = [(_own_job(row), row.start, row.end or min(until, clock.now())) for row in own if row.start]
    currency = next((row.currency for row in own if row.currency), "")
    return own_energy_document(
        own_jobs_within([(job, start, max(start, end)) for job, start, end in runs], since, until),
        user=user,
        span_words=_words(asked, since, until),
        currency=currency,
        notes=[f"{note}." for note in notes],
        labels={
            "User": user,
            "From": f"{since:%Y-%m-%d %H:%M:%S %Z}",
            "Until": f"{until:%Y-%m-%d %H:%M:%S %Z}",
            "Made": f"{clock.now():%Y-%m-%d %H:%M:%S} UTC",
        },
    )


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise click.ClickException(f"there is no user with the id {os.getuid()} on this machine") from None


def _bounds(asked: AskedSpan) -> tuple[datetime, datetime]:
    """The span in local time; a month by this machine's clock, with its summer time."""
    now = clock.now().astimezone()
    if asked.month is None:
        assert asked.since is not None
        return asked.since.astimezone(), min((asked.until or now).astimezone(), now)
    year, month = asked.month
    first, last = (
        datetime.fromisoformat(f"{at[0]:04}-{at[1]:02}-01T00:00:00").astimezone()
        for at in ((year, month), (year + month // 12, month % 12 + 1))
    )
    if first >= now:
        raise click.BadParameter("it has not begun yet", param_hint="--month")
    return first, min(last, now)


def _typed(at: datetime) -> str:
    """A time as sacct takes it: by the local clock."""
    return f"{at:%Y-%m-%dT%H:%M:%S}"


def _words(asked: AskedSpan, since: datetime, until: datetime) -> str:
    if asked.month is not None:
        year, month = asked.month
        return f"{year}-{month:02}" + (", so far" if until >= clock.now().astimezone() else "")
    return f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}"


def _own_job(row: Row) -> OwnJob:
    return OwnJob(
        job_id=row.job_id,
        name=row.name,
        account=row.account,
        state=row.state,
        gpu_count=row.gpu_count or 0,
        seconds=row.elapsed_seconds or 0.0,
        within_ratio=1.0,
        receipt=row.receipt,
        final=row.final,
    )
