"""Makes Slurm's licence windows those that are wanted, and writes down each that comes, changes or goes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from slurm_power.controller.governance.operators import Note
from slurm_power.model.admission import LaidWindow, LicenceWindow
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.admission_moves import Move, moves
from slurm_power.ports import Reservations, SchedulerError
from slurm_power.slurm.reservations import PREFIX


class WindowKeeper:
    """Ours are known by their names, so an earlier controller's are taken over, or ended."""

    def __init__(self, reservations: Reservations | None, licence: str, note: Note) -> None:
        self._reservations = reservations
        self._licence = licence
        self._note = note
        self._count = 0
        # Those that were there last, with their watts.
        self._there: dict[str, int] = {}

    async def keep(self, wanted: Sequence[LicenceWindow], laid: Sequence[LaidWindow], now: float) -> None:
        """Lay, change and end; first what grows, so that no job slips in between. Raises SchedulerError.

        ``laid`` is all that Slurm has, others' included: these are left alone.
        """
        # Slurm lists one that is over for some seconds more.
        ours = [one for one in laid if one.ours and self._licence in one.licences and one.end > now]
        names = {one.name for one in ours}
        for name, watts in self._there.items():
            if name not in names:
                self._over(name, watts)
        self._there = {one.name: one.licences[self._licence] for one in ours}
        refused = []
        for move in moves(wanted, ours, licence=self._licence, now=now):
            try:
                await self._make(move, now)
            except SchedulerError:
                # While others still have to shrink, the sum may pass the total for a moment.
                if not move.grows:
                    raise
                refused.append(move)
        for move in refused:
            await self._make(move, now)

    async def _make(self, move: Move, now: float) -> None:
        window, laid = move.wanted, move.laid
        if self._reservations is None:
            return
        if window is None:
            if laid is not None:
                await self._reservations.end(laid.name)
                self._over(laid.name, self._there.pop(laid.name, 0))
            return
        if laid is None:
            self._count += 1
            name = f"{PREFIX}{now:.0f}_{self._count}"
            await self._reservations.lay(
                name, start=window.start, end=window.end, licence=self._licence, watts=window.watts
            )
        else:
            name = laid.name
            start = window.start if laid.start > now + 1.0 else None
            await self._reservations.change(
                name, start=start, end=window.end, licence=self._licence, watts=window.watts
            )
        self._there[name] = window.watts
        if not move.renewal:
            until = f"until {_clock_text(window.end)}{' or for longer' if window.open_end else ''}"
            since = f" from {_clock_text(window.start)}" if window.start > now + 1.0 else ""
            text = f"{kilowatts_text(window.watts)} kept from new jobs{since} {until}: {window.reason}"
            self._about("window" if laid is None else "window changed", name, text, watts=window.watts)

    def _over(self, name: str, watts: int) -> None:
        self._about("window over", name, f"{kilowatts_text(watts)} are free for new jobs again")

    def _about(self, kind: str, name: str, text: str, **details: Any) -> None:
        self._note("admission", kind, f"licence:{self._licence}", text, details={"name": name, **details})


def _clock_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S UTC")
