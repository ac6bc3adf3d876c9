"""Licence reservations through ``scontrol``: those that exist, and ours laid, changed and ended.

Ours are named ``slurmpower_...`` and hold nothing but licences for root; others' are never touched.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from slurm_power.model.admission import LaidWindow
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.licences import licence_counts

PREFIX = "slurmpower_"


def parse_reservations(text: str) -> tuple[LaidWindow, ...]:
    """Read ``scontrol -o show reservation``, times in UTC; those without licences are left out."""
    found = []
    for line in text.splitlines():
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        name, licences = fields.get("ReservationName", ""), licence_counts(fields.get("Licenses", ""))
        start, end = _seconds(fields.get("StartTime", "")), _seconds(fields.get("EndTime", ""))
        if not name or not licences or start is None or end is None:
            continue
        bare = fields.get("Nodes") in ("(null)", "", None) and fields.get("NodeCnt") in ("0", "", None)
        ours = name.startswith(PREFIX) and fields.get("Users") == "root" and bare and len(licences) == 1
        found.append(LaidWindow(name=name, start=start, end=end, licences=licences, ours=ours))
    return tuple(found)


class CliReservations:
    """Slurm's licence reservations by command. All calls raise SchedulerError."""

    def __init__(self, commands: CommandRunner) -> None:
        self._commands = commands

    async def laid(self) -> Sequence[LaidWindow]:
        """All reservations that hold licences, others' included."""
        return parse_reservations(await self._commands.run("scontrol", "-o", "show", "reservation"))

    async def lay(self, name: str, *, start: int, end: int, licence: str, watts: int) -> None:
        """Reserve so many of a licence from ``start`` to ``end``, in seconds of the epoch."""
        await self._commands.run(
            *("scontrol", "create", "reservation", f"ReservationName={_own(name)}", "Users=root"),
            *(f"StartTime={_text(start)}", f"EndTime={_text(end)}", f"Licenses={licence}:{watts}"),
            "Flags=ANY_NODES,IGNORE_JOBS",
        )

    async def change(self, name: str, *, end: int, licence: str, watts: int, start: int | None) -> None:
        """Change one of ours; ``start`` None leaves its start, as it must where it has begun."""
        words = [] if start is None else [f"StartTime={_text(start)}"]
        words += [f"EndTime={_text(end)}", f"Licenses={licence}:{watts}"]
        await self._commands.run("scontrol", "update", f"ReservationName={_own(name)}", *words)

    async def end(self, name: str) -> None:
        """End one of ours now; one that has ended by itself is none any more."""
        try:
            await self._commands.run("scontrol", "delete", f"ReservationName={_own(name)}")
        except SchedulerError as error:
            if "invalid" not in str(error).lower():
                raise


def _own(name: str) -> str:
    if not name.startswith(PREFIX):
        raise SchedulerError(f"reservation {name} is not ours: left alone")
    return name


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _seconds(text: str) -> int | None:
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
