"""Receipts into Slurm's accounting: read and write the AdminComment that slurmdbd keeps of jobs that ended.

slurmctld takes no change of a job that has ended, not even of its comments, so the one way is sacctmgr to
slurmdbd. It writes each quote as a backtick (`), which is undone by who reads; docs/energy.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from slurm_power.model.receipt import StepTimes
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.receipt_text import with_receipt, without_quotes

_FIELDS = "JobID,JobIDRaw,State,End,AdminComment"
# What sacct prints between fields: the comment is the last one and may hold anything.
_BAR = "|"
_JOB_ID = re.compile(r"\d+(_\d+|\+\d+)?")
_STEP_ID = re.compile(r"\d+(?:_\d+|\+\d+)?\.(\d+(?:\+\d+)?)")
# Slurm writes whole seconds: what it cuts off of them, on average.
_CUT_OFF_SECONDS = 0.5
_NOT_ENDED = ("PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING")


class NoAccountingError(SchedulerError):
    """This Slurm keeps no accounting that receipts could go to."""


class ForeignCommentError(SchedulerError):
    """A job's AdminComment holds what is not ours, and stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountedJob:
    """A job as slurmdbd has it. ``name`` is the one by which sacctmgr finds this job and no other."""

    job_id: str
    name: str
    ended: bool
    admin_comment: str


class AccountingReceipts:
    """Talks to slurmdbd through ``sacct`` and ``sacctmgr``. All calls raise SchedulerError."""

    def __init__(self, commands: CommandRunner) -> None:
        """``commands`` should run one at a time: slurmdbd serves the whole cluster."""
        self._commands = commands

    async def read(self, job_ids: Sequence[str]) -> dict[str, AccountedJob]:
        """What is known of jobs, by their raw ids; raises NoAccountingError where nothing can be."""
        text = await self._sacct("--allocations", f"--jobs={','.join(job_ids)}", f"--format={_FIELDS}")
        wanted = set(job_ids)
        found = {}
        for line in text.splitlines():
            name, job_id, state, end, comment = (*line.split(_BAR, 4), "", "", "", "")[:5]
            # Asked for an array's id, sacct lists all its tasks; an id of an array alone is no job's.
            if job_id in wanted and _JOB_ID.fullmatch(name):
                # After a time without slurmdbd it has the state first, and end and comment seconds later:
                # what is written in between would be over a comment that nobody has seen.
                ended = not state.startswith(_NOT_ENDED) and _seconds(end) is not None
                found[job_id] = AccountedJob(job_id=job_id, name=name, ended=ended, admin_comment=comment)
        return found

    async def steps(self, job: AccountedJob) -> list[StepTimes]:
        """The steps that srun started in a job, when they ran; those still running are left out."""
        text = await self._sacct(f"--jobs={job.name}", "--format=JobID,Start,End")
        found = []
        for line in text.splitlines():
            name, start, end = (*line.split(_BAR), "", "")[:3]
            match = _STEP_ID.fullmatch(name)
            times = _seconds(start), _seconds(end)
            if match is not None and times[0] is not None and times[1] is not None:
                found.append(StepTimes(match[1], times[0], times[1]))
        return found

    async def write(self, job: AccountedJob, receipt: dict[str, object]) -> None:
        """Put a receipt into a job's AdminComment, beside what else of ours is in it.

        Raises ForeignCommentError, and changes nothing, for a comment that is not ours alone.
        """
        text = with_receipt(job.admin_comment, receipt)
        if text is None:
            raise ForeignCommentError(
                f"job {job.name}: its AdminComment is another tool's, so it stays as it is"
            )
        said = await self._commands.run(
            *("sacctmgr", "--immediate", "modify", "job", "where", f"jobid={job.name}"),
            *("set", f"AdminComment={without_quotes(text)}"),
        )
        if "Modified" not in said:
            raise SchedulerError(f"sacctmgr: {' '.join(said.split()) or 'changed nothing'}")

    async def _sacct(self, *words: str) -> str:
        try:
            return await self._commands.run("sacct", "--noheader", "--parsable2", *words)
        except SchedulerError as error:
            if "accounting storage is disabled" in str(error):
                raise NoAccountingError(str(error)) from error
            raise


def _seconds(text: str) -> float | None:
    try:
        whole = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return whole + _CUT_OFF_SECONDS
