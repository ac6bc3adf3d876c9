"""Admission in powerctld against a Slurm that counts licences as the real one does, and fails as it may."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_power.config.admission import AdmissionConfig
from slurm_power.controller import admission_desk
from slurm_power.controller.admission_desk import AdmissionDesk, SlurmAdmission
from slurm_power.controller.job_expectations import JobExpectations
from slurm_power.forecast.job_power import Submission
from slurm_power.model.action import Plan, SetCap
from slurm_power.model.admission import LaidWindow, LicenceCount
from slurm_power.model.grid_event import Commitment
from slurm_power.model.job import Flex
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import LimitEvent, Snapshot
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from slurm_power.ports import SchedulerError
from slurm_power.slurm.licences import licence_counts
from slurm_power.store.sqlite import SqliteStore
from tests.plan.situations import AT, cap_lease, pending, running, site, situation

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


@pytest.fixture
def slurm() -> FakeSlurm:
    return FakeSlurm()


@pytest.fixture
def bench(tmp_path: Path, slurm: FakeSlurm) -> Iterator[Bench]:
    store = SqliteStore(tmp_path / "s.sqlite")
    yield Bench(store, tmp_path / "admission" / "expected_watts", slurm)
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


def test_a_window_for_an_event_and_its_end(bench: Bench) -> None:
    bench.step(scene())
    assert not bench.slurm.windows
    bench.step(scene(event()))
    assert bench.kept == rounded(TOTAL - (39_600 - 5_000))
    (one,) = bench.slurm.windows.values()
    assert (one.start, one.end) == (math.floor(NOW), math.ceil(NOW + 900.0))
    assert one.name.startswith("slurmpower_")
    bench.step(scene(event(), at=100.0))
    assert [call[0] for call in bench.slurm.calls] == ["lay"], "what is right is left alone"
    bench.step(scene(at=200.0))
    assert not bench.slurm.windows
    assert bench.kinds() == ["window", "window over"]
    assert "short" in bench.notes[0][2]


def test_a_lease_is_renewed_and_runs_out(bench: Bench) -> None:
    """10.2 kW are drawn beside licences, 5.2 kW more than stand: kept free as long as somebody looks."""
    bench.step(scene(watts=10_200.0))
    (one,) = bench.slurm.windows.values()
    first_end = one.end
    assert one.end - one.start == 600
    bench.step(scene(watts=10_200.0, at=100.0))
    assert bench.slurm.windows[one.name].end == first_end
    bench.step(scene(watts=10_200.0, at=300.0))
    assert bench.slurm.windows[one.name].end == first_end + 300
    assert bench.kinds() == ["window"], "a renewal is no news"


def test_a_restart_takes_windows_over(bench: Bench, tmp_path: Path) -> None:
    bench.step(scene(event()))
    bench.slurm.windows["slurmpower_old"] = LaidWindow(
        name="slurmpower_old", start=int(NOW), end=int(NOW + 90), licences={"watts": 7}, ours=True
    )
    store = SqliteStore(tmp_path / "other.sqlite")
    again = Bench(store, bench.file, bench.slurm)
    again.step(scene(event(), at=10.0))
    store.close()
    assert [call[0] for call in bench.slurm.calls] == ["lay", "end"]
    assert bench.kept == rounded(TOTAL - (39_600 - 5_000))


def test_others_windows_are_left_alone_and_left_room(bench: Bench) -> None:
    others = LaidWindow(
        name="maintenance", start=int(NOW), end=int(NOW + 90), licences={"watts": 50_000}, ours=False
    )
    bench.slurm.windows["maintenance"] = others
    bench.step(scene(event()))
    assert bench.slurm.windows["maintenance"] == others
    during = [one for one in bench.slurm.windows.values() if one.ours and one.start <= NOW]
    assert sum(one.licences["watts"] for one in during) == TOTAL - 50_000
    assert "less than needed" in bench.faults["admission:reserved"]
    del bench.slurm.windows["maintenance"]
    bench.step(scene(event(), at=100.0))
    assert bench.kept == rounded(TOTAL - (39_600 - 5_000))
    assert bench.faults["admission:reserved"] == ""


def test_levels_change_within_the_total(bench: Bench) -> None:
    """A deep event in a shallow one's place: what grows is refused for a moment, and made after the rest."""
    bench.step(scene(event(watts=20_000.0), event(900.0, 1800.0, 60_000.0)))
    before = bench.kept
    bench.step(scene(event(watts=60_000.0), event(900.0, 1800.0, 20_000.0), at=10.0))
    total_at = [
        sum(one.licences["watts"] for one in bench.slurm.windows.values() if one.start <= at < one.end)
        for at in (NOW + 20, NOW + 1000)
    ]
    assert total_at == [rounded(TOTAL - (59_400 - 5_000)), rounded(TOTAL - (19_800 - 5_000))]
    assert before == rounded(TOTAL - (19_800 - 5_000))


def test_slurm_away_and_back(bench: Bench) -> None:
    bench.step(scene(event()))
    bench.slurm.away = True
    with pytest.raises(SchedulerError):
        bench.step(scene(at=20.0))
    bench.slurm.away = False
    bench.step(scene(at=30.0))
    assert not bench.slurm.windows


def test_a_refusal_is_said_once_and_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BEAT_SECONDS", "_FIRST_SECONDS"):
        monkeypatch.setattr(admission_desk, name, 0.01)
    monkeypatch.setattr(admission_desk, "_MOST_BACKOFF_SECONDS", 0.05)
    bench.slurm.away = True

    async def run() -> None:
        bench.see(scene(event()))
        task = asyncio.create_task(bench.desk.run())
        async with asyncio.timeout(5.0):
            await until(lambda: bench.faults.get("admission:slurm"))
            bench.slurm.away = False
            await until(lambda: not bench.faults["admission:slurm"])
            bench.see(scene(event()))
            await until(lambda: bench.slurm.windows)
        task.cancel()

    asyncio.run(run())


def test_nothing_is_renewed_while_no_cycle_works(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_desk, "_STALE_SECONDS", -1.0)
    bench.step(scene(event()))
    assert not bench.slurm.windows


def test_only_looking_lays_nothing_and_takes_back(bench: Bench) -> None:
    bench.step(scene(event()))
    bench.step(scene(event(), at=10.0), controls=False)
    assert not bench.slurm.windows
    row = bench.desk.row()
    assert row is not None
    assert row["laid"] is False


def test_the_end_gives_all_back(bench: Bench) -> None:
    bench.step(scene(event()))
    asyncio.run(bench.desk.let_go())
    assert not bench.slurm.windows


def test_a_lost_meter_counts_as_it_was(bench: Bench) -> None:
    """A meter that stays broken must not keep all jobs waiting; the licences' total holds the breaker."""
    bench.step(scene(watts=10_000.0))
    kept = bench.kept
    assert kept == rounded(TOTAL - 90_000)
    blind = replace(scene(at=10.0), circuits={})
    bench.step(blind)
    bench.step(replace(blind, at=scene(at=60.0).at))
    assert bench.kept == kept
    assert "no usable reading" in bench.faults["admission:meter"]
    bench.step(scene(watts=10_000.0, at=70.0))
    assert bench.faults["admission:meter"] == ""


def test_a_start_without_a_meter_counts_on_what_stands(bench: Bench) -> None:
    blind = replace(scene(), circuits={})
    bench.step(blind)
    assert not bench.slurm.windows
    bench.step(replace(blind, at=scene(at=60.0).at, events=(event(),)))
    assert bench.kept == rounded(TOTAL - (39_600 - 5_000))


def test_a_job_larger_than_a_lasting_room_gets_it_in_the_end(bench: Bench) -> None:
    """A contract has no end: a job that asks for more than it leaves would wait for ever."""
    large = pending("9", 128, flex=Flex.FLEX1, submitted_seconds_ago=60.0)
    bench.slurm.pending["9"] = "watts:94000"
    contract = site(grid_limit_watts=60_000.0, with_ess=False)
    bench.desk._circuit = contract.circuits["grid"]
    young = replace(scene(jobs=(large,)), site=contract)
    bench.step(young)
    assert bench.kept == rounded(TOTAL - (58_800 - 5_000)), "it may be held for 360 s"
    old = replace(large, submitted=AT - timedelta(seconds=400.0))
    bench.step(replace(young, jobs=(old,)))
    assert bench.kept == rounded(TOTAL - 94_000)


@pytest.mark.parametrize(
    ("totals", "words"),
    [
        ({}, "has no licence watts"),
        ({"watts": 120_000}, "more than grid may draw for jobs (95000 W)"),
        ({"watts": 95_000}, ""),
        ({"watts": 90_000}, ""),
    ],
)
def test_the_total_is_looked_at_and_never_changed(bench: Bench, totals: dict[str, int], words: str) -> None:
    bench.slurm.totals = totals
    bench.step(scene())
    assert words in bench.faults.get("admission:licence", "")
    assert bool(bench.faults.get("admission:licence")) is bool(words)
    assert ("licence\twatts" in bench.file.read_text()) is bool(totals)


def test_a_total_below_the_largest_job_is_said(bench: Bench) -> None:
    bench.slurm.totals = {"watts": 20_000}
    bench.step(scene(jobs=(pending("9", 32),)))
    assert "may add 25600 W: it counts as 20000 W" in bench.faults["admission:licence"]


# --- running jobs -----------------------------------------------------------------------------------------


def job_scene(at: float = 0.0, *, cap: float | None = None, gpu_watts: float = 650.0) -> Snapshot:
    """One job of 8 GPUs for ten minutes, perhaps capped for one."""
    caps = {} if cap is None else {"1": cap_lease("1", cap)}
    watts = 5_000.0 + JOB_WATTS - 8 * (650.0 - gpu_watts)
    return scene(
        at=at,
        watts=watts,
        jobs=(running("1", ("c1",), flex=Flex.FLEX3),),
        gpu_watts={"1": gpu_watts},
        caps=caps,
    )


def test_what_a_licence_stands_for_is_no_other_load(bench: Bench) -> None:
    bench.slurm.jobs = {"1": f"matlab:1,watts:{JOB_WATTS}"}
    bench.step(scene())
    bench.step(job_scene())
    row = bench.desk.row()
    assert row is not None
    assert row["other_watts"] == 5_000.0
    assert row["used_watts"] == JOB_WATTS
    assert not bench.slurm.windows


def test_a_licence_follows_its_cap_and_comes_back_first(bench: Bench) -> None:
    bench.slurm.jobs = {"1": f"matlab:1,watts:{JOB_WATTS}"}
    capped = job_scene(cap=400.0, gpu_watts=400.0)
    bench.step(capped)
    lowered = 8 * (400 - 75 + 225)
    assert bench.slurm.jobs["1"] == f"matlab:1,watts:{lowered}"
    lift = Plan(actions=(SetCap(job_id="1", cap_watts=None, kind=LimitKind.ECONOMIC, reason="room"),))
    (action,) = bench.desk.before(lift, capped).actions
    assert isinstance(action, SetCap)
    assert action.cap_watts == 400.0, "the cap waits, renewed"
    bench.step(capped)
    assert bench.slurm.jobs["1"] == f"matlab:1,watts:{JOB_WATTS}"
    assert bench.desk.before(lift, capped) == lift
    assert [row for row in bench.kinds() if row == "licence"] == ["licence", "licence"]


def test_a_cap_waits_for_no_slurm_that_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.slurm.jobs = {"1": f"watts:{JOB_WATTS}"}
    capped = job_scene(cap=400.0, gpu_watts=400.0)
    bench.step(capped)
    lift = Plan(actions=(SetCap(job_id="1", cap_watts=None, kind=LimitKind.ECONOMIC, reason="room"),))
    assert bench.desk.follower.before(lift, capped, 100.0) != lift
    assert bench.desk.follower.before(lift, capped, 109.0) != lift
    assert bench.desk.follower.before(lift, capped, 110.5) == lift


def test_a_lower_cap_is_never_kept_waiting(bench: Bench) -> None:
    bench.slurm.jobs = {"1": f"watts:{JOB_WATTS}"}
    capped = job_scene(cap=400.0, gpu_watts=400.0)
    bench.step(capped)
    lower = Plan(actions=(SetCap(job_id="1", cap_watts=300.0, kind=LimitKind.ECONOMIC, reason="less"),))
    assert bench.desk.before(lower, capped) == lower


def test_the_end_gives_licences_back(bench: Bench) -> None:
    bench.slurm.jobs = {"1": f"watts:{JOB_WATTS}"}
    bench.step(job_scene(cap=400.0, gpu_watts=400.0))
    asyncio.run(bench.desk.let_go())
    assert bench.slurm.jobs["1"] == f"watts:{JOB_WATTS}"


def test_a_requeued_job_gets_its_licence_back(bench: Bench) -> None:
    bench.slurm.jobs = {"1": f"fs:1,watts:{JOB_WATTS}"}
    bench.step(job_scene(cap=400.0, gpu_watts=400.0))
    lowered = bench.slurm.jobs.pop("1")
    assert lowered != f"fs:1,watts:{JOB_WATTS}"
    bench.slurm.pending["1"] = lowered
    bench.step(scene(at=10.0, jobs=(pending("1", 8),)))
    assert bench.slurm.pending["1"] == f"fs:1,watts:{JOB_WATTS}"
    assert not bench.desk.follower.lowered


def test_alternatives_are_left_alone(bench: Bench) -> None:
    bench.slurm.jobs = {"1": f"watts:{JOB_WATTS}|matlab:1"}
    bench.step(job_scene(cap=400.0, gpu_watts=400.0))
    assert not bench.slurm.calls


def test_a_job_that_waits_for_watts_is_not_held(bench: Bench) -> None:
    """Nor does it take the room of those that could start."""
    waits = replace(pending("2", 32, flex=Flex.FLEX3), pending_reason="Licenses")
    full = scene(event(watts=6_000.0), jobs=(waits,), watts=5_900.0)
    assert any(action for action in plan_cycle(full, POLICY, hold_seconds=60.0).actions)
    bench.step(full)
    known = bench.desk.onto(full)
    assert known.licensed
    assert not plan_cycle(known, POLICY, hold_seconds=60.0).actions


# --- the file, and off ------------------------------------------------------------------------------------


def test_the_file_has_what_was_learned(bench: Bench) -> None:
    told = Submission(user="alice", name="bert-7b_run1", workload="training", gpus=8.0)
    for _ in range(20):
        bench.expectations._powers.ended(told, 400.0)
    bench.step(scene())
    lines = bench.file.read_text().splitlines()
    assert lines[0].startswith("slurm-power-expected-watts 1 ")
    rows = [line.split("\t") for line in lines]
    assert ["licence", "watts"] in rows
    assert ["total", str(TOTAL)] in rows
    assert ["class", "training", "650"] in rows
    name = next(row for row in rows if row[0] == "name")
    assert name[1:5] == ["alice", "training", "", "bert-7b_run#"]
    assert 400 <= int(name[5]) < 405
    before = bench.file.stat().st_mtime_ns
    bench.step(scene(at=10.0))
    assert bench.file.stat().st_mtime_ns == before, "written only when it changes"


def test_a_file_that_cannot_be_written_is_a_fault(bench: Bench) -> None:
    bench.file.parent.parent.joinpath("admission").write_text("in the way")
    bench.step(scene(event()))
    assert "cannot be written" in bench.faults["admission:file"]
    assert bench.slurm.windows, "and nothing else"


def test_switched_off_jobs_ask_for_no_watts(bench: Bench, tmp_path: Path) -> None:
    bench.step(scene(event()))
    store = SqliteStore(tmp_path / "other.sqlite")
    off = Bench(store, bench.file, bench.slurm, enabled=False)

    async def run() -> None:
        task = asyncio.create_task(off.desk.run())
        async with asyncio.timeout(5.0):
            await until(lambda: not bench.slurm.windows)
        task.cancel()

    asyncio.run(run())
    store.close()
    assert not bench.file.exists()
    assert off.desk.row() is None
    assert off.desk.onto(scene()).licensed is False


def test_off_and_never_on_touches_nothing(tmp_path: Path, slurm: FakeSlurm) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    file = tmp_path / "somebody's"
    file.write_text("not ours\n")
    off = Bench(store, file, slurm, enabled=False)
    off.see(scene(event()))
    asyncio.run(off.desk._retire())
    asyncio.run(off.desk.let_go())
    store.close()
    assert file.read_text() == "not ours\n"
    assert not slurm.calls
