"""A desk for admission, and a Slurm that counts licences as the real one does, and fails as it may."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from slurm_power.config.admission import AdmissionConfig
from slurm_power.controller.admission.admission_desk import AdmissionDesk, SlurmAdmission
from slurm_power.controller.jobs.job_expectations import JobExpectations
from slurm_power.model.admission import LaidWindow, LicenceCount
from slurm_power.model.grid_event import Commitment
from slurm_power.model.snapshot import LimitEvent, Snapshot
from slurm_power.plan.policy import Policy
from slurm_power.ports import SchedulerError
from slurm_power.slurm.licences import licence_counts
from slurm_power.store.sqlite import SqliteStore
from tests.plan.situations import AT, site, situation

POLICY = Policy()
TOTAL = 95_000
# 8 GPUs of 650 W, less idle, with their share of the host.
JOB_WATTS = 6_400
NOW = AT.timestamp()


class FakeSlurm:
    """Licences and reservations: windows that together pass the total are refused."""

    def __init__(self) -> None:
        self.totals = {"watts": TOTAL}
        self.jobs: dict[str, str] = {}
        self.pending: dict[str, str] = {}
        self.windows: dict[str, LaidWindow] = {}
        self.calls: list[tuple[str, ...]] = []
        self.away = False
        self.het_parts = True
        self.now = NOW

    def _answer(self) -> None:
        if self.away:
            raise SchedulerError("scontrol: no answer within 5 s")

    async def counts(self) -> Mapping[str, LicenceCount]:
        self._answer()
        return {
            name: LicenceCount(
                total=total, used=sum(licence_counts(text).get(name, 0) for text in self.jobs.values())
            )
            for name, total in self.totals.items()
        }

    async def for_het_parts(self) -> bool:
        self._answer()
        return self.het_parts

    async def of_jobs(self) -> Mapping[str, str]:
        self._answer()
        return dict(self.jobs)

    async def of_job(self, job_id: str) -> str:
        self._answer()
        return {**self.jobs, **self.pending}[job_id]

    async def set_of_job(self, job_id: str, licences: str) -> None:
        self._answer()
        self.calls.append(("job", job_id, licences))
        (self.pending if job_id in self.pending else self.jobs)[job_id] = licences

    async def laid(self) -> Sequence[LaidWindow]:
        self._answer()
        self.windows = {name: one for name, one in self.windows.items() if one.end > self.now}
        return tuple(self.windows.values())

    def _check(self, name: str, start: int, end: int, watts: int) -> None:
        others = [
            one for key, one in self.windows.items() if key != name and one.start < end and one.end > start
        ]
        if watts + sum(one.licences["watts"] for one in others) > self.totals["watts"]:
            raise SchedulerError("scontrol: Error creating the reservation: Invalid license specification")

    async def lay(self, name: str, *, start: int, end: int, licence: str, watts: int) -> None:
        self._answer()
        self._check(name, start, end, watts)
        assert name not in self.windows
        self.calls.append(("lay", name))
        self.windows[name] = LaidWindow(name=name, start=start, end=end, licences={licence: watts}, ours=True)

    async def change(self, name: str, *, end: int, licence: str, watts: int, start: int | None) -> None:
        self._answer()
        before = self.windows[name]
        assert start is None or before.start > self.now, "Reservation already started"
        start = before.start if start is None else start
        self._check(name, start, end, watts)
        self.calls.append(("change", name))
        self.windows[name] = replace(before, start=start, end=end, licences={licence: watts})

    async def end(self, name: str) -> None:
        self._answer()
        self.calls.append(("end", name))
        assert self.windows[name].ours
        del self.windows[name]


class Bench:
    """A desk with its notes and faults; ``see`` is some cycles of the loop, ``step`` what comes beside."""

    def __init__(self, store: SqliteStore, file: Path, slurm: FakeSlurm, **config: Any) -> None:
        given = {"enabled": True, "standing_watts": 5_000.0, "follow_seconds": 5.0, "file": file, **config}
        whole: Any = SimpleNamespace(
            admission=AdmissionConfig(**given), policy=POLICY, site=site(grid_limit_watts=100_000.0)
        )
        self.slurm, self.file, self.first = slurm, file, True
        self.notes: list[tuple[str, str, str]] = []
        self.faults: dict[str, str] = {}
        self.expectations = JobExpectations(store, POLICY, self._note)
        self.desk = AdmissionDesk(
            whole,
            SlurmAdmission(licences=slurm, reservations=slurm),
            self.expectations,
            note=self._note,
            fault=self.faults.__setitem__,
        )

    def _note(self, actor: str, kind: str, subject: str, reason: str, **_: Any) -> None:
        assert actor in ("admission", "controller")
        self.notes.append((kind, subject, reason))

    def see(self, snapshot: Snapshot, *, seconds: int = 6, controls: bool = True) -> None:
        for _ in range(seconds):
            self.desk.observe(snapshot, controls=controls)

    def step(self, snapshot: Snapshot, *, controls: bool = True) -> None:
        self.slurm.now = snapshot.at.timestamp()
        self.see(snapshot, controls=controls)
        asyncio.run(self.desk._step())
        if self.first:
            # Only now it knows which load has licences.
            self.first = False
            self.step(snapshot, controls=controls)

    @property
    def kept(self) -> int:
        return sum(one.licences["watts"] for one in self.slurm.windows.values() if one.ours)

    def kinds(self) -> list[str]:
        return [kind for kind, *_ in self.notes]


async def until(happened: Callable[[], object]) -> None:
    while not happened():  # noqa: ASYNC110  # polls what has no event
        await asyncio.sleep(0.01)


def opened(tmp_path: Path) -> Iterator[Bench]:
    """A desk on a Slurm of its own; for a fixture."""
    store = SqliteStore(tmp_path / "s.sqlite")
    yield Bench(store, tmp_path / "admission" / "expected_watts", FakeSlurm())
    store.close()


def rounded(watts: float) -> int:
    """Needs are rounded up to steps of half a percent."""
    return math.ceil(watts / 475) * 475


def event(starts: float = 0.0, ends: float = 900.0, watts: float = 40_000.0) -> LimitEvent:
    return LimitEvent(
        event_id="ev-1",
        circuit="grid",
        limit_watts=watts,
        starts_in_seconds=starts,
        ends_in_seconds=ends,
        reason="short",
        commitment=Commitment.MUST,
    )


def scene(*events: LimitEvent, at: float = 0.0, watts: float = 5_000.0, **more: Any) -> Snapshot:
    """A site of 100 kW that draws 5 kW by itself; events count from its own moment on."""
    moved = tuple(
        replace(one, starts_in_seconds=one.starts_in_seconds - at, ends_in_seconds=one.ends_in_seconds - at)
        for one in events
    )
    made = situation(
        of=site(grid_limit_watts=100_000.0, with_ess=False), import_watts=watts, events=moved, **more
    )
    return replace(made, at=AT + timedelta(seconds=at))
