"""Licences through ``scontrol`` and ``squeue``: how many there are, who has them, and a running job's own."""

import re
from collections.abc import Mapping

from slurm_power.model.admission import LicenceCount
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner

_ELEMENT = re.compile(r"\s*([^:=*\s]+)\s*(?:[:=*]\s*(\d+))?\s*")
_ROW = re.compile(r"(\d+)\|(.*)")


def parse_licences(text: str) -> dict[str, LicenceCount]:
    """Read ``scontrol -o show licenses``: local licences by name, remote ones left out."""
    found: dict[str, LicenceCount] = {}
    for line in text.splitlines():
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        total, used = fields.get("Total", ""), fields.get("Used", "")
        if fields.get("Remote", "no") == "no" and total.isdigit() and used.isdigit():
            # A hierarchical resource has a line for each of its layers; the largest is its root.
            name, count = fields.get("LicenseName", ""), LicenceCount(total=int(total), used=int(used))
            if name not in found or found[name].total < count.total:
                found[name] = count
    return found


def licence_counts(text: str) -> dict[str, int]:
    """Read a job's or a reservation's ``watts:700,matlab:2``; what cannot be read is left out."""
    found: dict[str, int] = {}
    for part in re.split(r"[,;|]", text):
        match = _ELEMENT.fullmatch(part)
        if match is not None and match[1] not in ("(null)", "N/A"):
            found[match[1]] = found.get(match[1], 0) + int(match[2] or 1)
    return found


def with_count(text: str, name: str, count: int) -> str | None:
    """A job's licences with so many of one, the others as they are; None for alternatives (``a|b``)."""
    if "|" in text:
        return None
    parts = [part.strip() for part in re.split(r"[,;]", text)]
    rest = [part for part in parts if part and name not in licence_counts(part)]
    return ",".join([*rest, f"{name}:{count}"])


class CliLicences:
    """Slurm's licences by command. All calls raise SchedulerError."""

    def __init__(self, commands: CommandRunner) -> None:
        self._commands = commands

    async def counts(self) -> Mapping[str, LicenceCount]:
        """Every local licence, with its total and what running jobs have of it."""
        return parse_licences(await self._commands.run("scontrol", "-o", "show", "licenses"))

    async def for_het_parts(self) -> bool:
        """Whether each part of a het job may have licences: on 22.05; newer Slurms refuse such a job."""
        return "22.05" in await self._commands.run("scontrol", "--version")

    async def of_jobs(self) -> Mapping[str, str]:
        """The licences of all jobs that run, or are stopped on their nodes, as their records have them."""
        text = await self._commands.run(
            "squeue", "--noheader", "--all", "--states=RUNNING,SUSPENDED,CONFIGURING", "--format=%A|%W"
        )
        rows = [_ROW.fullmatch(line.strip()) for line in text.splitlines()]
        return {row[1]: "" if row[2] == "(null)" else row[2] for row in rows if row is not None}

    async def of_job(self, job_id: str) -> str:
        """The licences of one job, pending or not; raises SchedulerError as well where Slurm has none."""
        if not job_id.isdigit():
            raise SchedulerError(f"{job_id!r} is no job id")
        text = await self._commands.run("squeue", "--noheader", "--all", f"--jobs={job_id}", "--format=%A|%W")
        rows = [_ROW.fullmatch(line.strip()) for line in text.splitlines()]
        return next((row[2] for row in rows if row is not None and row[2] != "(null)"), "")

    async def set_of_job(self, job_id: str, licences: str) -> None:
        """Write a running job's licences anew."""
        if not job_id.isdigit():
            raise SchedulerError(f"{job_id!r} is no job id")
        await self._commands.run("scontrol", "update", f"JobId={job_id}", f"Licenses={licences}")
