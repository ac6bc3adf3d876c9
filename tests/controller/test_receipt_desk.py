"""Receipts are made of jobs that have ended, once each, and handed out until Slurm has them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from slurm_power.controller.jobs import receipt_desk, receipt_queue
from slurm_power.controller.jobs.job_rates import EnergyPoints, JobRates, Rates
from slurm_power.controller.jobs.receipt_desk import ReceiptDesk
from slurm_power.model.job import Job, JobState
from slurm_power.model.receipt import StepTimes
from slurm_power.model.snapshot import Snapshot
from slurm_power.ports import SchedulerError
from slurm_power.slurm.receipts import AccountedJob, ForeignCommentError, NoAccountingError
from tests.plan.situations import AT, running, situation


@dataclass
class Site:
    """Of the controller what receipts need: records of listed jobs, the store behind them, energies."""

    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    joules: dict[str, float] = field(default_factory=dict)

    @property
    def recorder(self) -> "Site":
        return self

    store = telemetry = recorder

    def job_record(self, job_id: str) -> Mapping[str, Any]:
        return self.listed.get(job_id, {})

    def job_energy(self, job_id: str, figures: Mapping[str, Any]) -> None:
        self.listed[job_id].update(figures)

    def job(self, job_id: str) -> dict[str, object]:
        return dict(self.kept.get(job_id, {}))

    def put_jobs(self, records: Mapping[str, Mapping[str, object]]) -> None:
        self.kept |= {job_id: dict(record) for job_id, record in records.items()}

    def state(self, key: str, default: object = None) -> object:
        return self.states.get(key, default)

    def put_state(self, key: str, value: object) -> None:
        self.states[key] = value

    def energies_joules(self) -> Mapping[str, float]:
        return dict(self.joules)


@dataclass
class Slurm:
    """An accounting that fails as told: ``errors`` by job, or for every call."""

    jobs: dict[str, AccountedJob] = field(default_factory=dict)
    written: dict[str, dict[str, object]] = field(default_factory=dict)
    errors: dict[str, SchedulerError] = field(default_factory=dict)
    away: SchedulerError | None = None
    asked: int = 0
    step_times: list[StepTimes] = field(default_factory=list)

    def know(self, *job_ids: str, ended: bool = True) -> None:
        for job_id in job_ids:
            self.jobs[job_id] = AccountedJob(job_id=job_id, name=job_id, ended=ended, admin_comment="")

    async def read(self, job_ids: Sequence[str]) -> dict[str, AccountedJob]:
        self.asked += 1
        if self.away is not None:
            raise self.away
        return {job_id: self.jobs[job_id] for job_id in job_ids if job_id in self.jobs}

    async def steps(self, job: AccountedJob) -> list[StepTimes]:  # noqa: ARG002  # all its jobs have the same
        return self.step_times

    async def write(self, job: AccountedJob, receipt: dict[str, object]) -> None:
        if job.job_id in self.errors:
            raise self.errors[job.job_id]
        self.written[job.job_id] = receipt


@dataclass
class Lived:
    """A desk, and what it wrote into the ledger and what it said was wrong."""

    site: Site
    slurm: Slurm | None
    rates: Rates = field(default_factory=Rates)
    notes: list[tuple[str, ...]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = ReceiptDesk(
            self.site,
            self.slurm,
            rates=lambda _snapshot: self.rates,
            note=lambda *words: self.notes.append(words),
            fault=lambda *words: self.faults.append(words),
        )

    def see(self, second: float, *jobs: Job, enabled: bool = True) -> None:
        seen: Snapshot = replace(situation(jobs=jobs), at=AT + timedelta(seconds=second))
        self.desk.observe(seen, enabled=enabled)

    def hand_out(self, done: Any, seconds: float = 5.0) -> None:
        """Let the queue work until ``done()``."""

        async def work() -> None:
            task = asyncio.create_task(self.desk.run())
            async with asyncio.timeout(seconds):
                while not done():  # noqa: ASYNC110  # what is waited for tells nobody
                    await asyncio.sleep(0.005)
            task.cancel()

        asyncio.run(work())


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_TRY_SECONDS", "_BEAT_SECONDS", "_PACE_SECONDS"):
        monkeypatch.setattr(receipt_queue, name, 0.01)


def told(job_id: str, *nodes: str, **record: Any) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "user": "alice",
        "nodes": list(nodes or ("c1",)),
        "started": AT.isoformat(),
        "energy_joules": 3.6e6,
        "energy_coverage_ratio": 1.0,
        "energy_node_count": len(nodes or ("c1",)),
        "running_seconds": 60.0,
        **record,
    }


def ended(job_id: str, *nodes: str) -> Job:
    return replace(running(job_id, nodes or ("c1",)), state=JobState.ENDED, gpus_by_node=())


def lived(*job_ids: str, slurm: Slurm | None = None) -> Lived:
    """Jobs that run at second 0 and have ended at second 10."""
    found = Lived(Site(listed={job_id: told(job_id) for job_id in job_ids}), slurm)
    found.see(0, *(running(job_id, ("c1",)) for job_id in job_ids))
    found.see(10, *(ended(job_id) for job_id in job_ids))
    return found


def test_a_job_that_ends_gets_a_receipt_and_slurm_gets_it() -> None:
    slurm = Slurm()
    slurm.know("17")
    found = lived("17", slurm=slurm)
    record = found.site.listed["17"]
    assert record["receipt"]["energy_joules"] == 3_600_000
    assert record["ended"] == (AT + timedelta(seconds=10)).isoformat()
    found.hand_out(lambda: slurm.written)
    assert slurm.written["17"] == record["receipt"]
    assert (found.notes, found.faults) == ([], [])
    assert found.desk.queue is not None
    assert not found.desk.queue.jobs


def test_accounts_that_are_open_are_waited_for_but_not_for_ever() -> None:
    found = Lived(Site(listed={"17": told("17", "c1", "c2")}), None)
    job = ended("17", "c1", "c2")
    still_open = replace(job, gpus_by_node=(("c2", ("GPU-c2-0",)),))
    found.see(0, running("17", ("c1", "c2")))
    found.see(10, still_open)
    found.see(39, still_open)
    assert "receipt" not in found.site.listed["17"]
    found.see(41, still_open)
    assert "receipt" in found.site.listed["17"]
    again = Lived(Site(listed={"17": told("17", "c1", "c2")}), None)
    again.see(10, still_open)
    again.see(11, job)
    assert "receipt" in again.site.listed["17"], "closed as soon as the last node has told"


def test_no_receipt_for_what_never_ran_or_is_not_known() -> None:
    site = Site(listed={"1": {"job_id": "1", "nodes": []}, "2": told("2", energy_joules=None)})
    found = Lived(site, Slurm())
    found.see(0, ended("1"), ended("2"), ended("3"))
    assert all("receipt" not in record for record in site.listed.values())
    assert found.desk.queue is not None
    assert not found.desk.queue.jobs


def test_a_job_that_slurm_forgets_has_ended_too() -> None:
    found = Lived(Site(listed={"17": told("17")}), Slurm())
    found.see(0, running("17", ("c1",)))
    found.site.kept["17"] = found.site.listed.pop("17")
    found.see(10)
    assert found.site.kept["17"]["receipt"]["energy_joules"] == 3_600_000


def test_a_job_that_runs_again_gets_a_new_receipt() -> None:
    found = lived("17", slurm=Slurm())
    found.see(20, running("17", ("c1",)))
    later = (AT + timedelta(seconds=20)).isoformat()
    found.site.listed["17"] |= {"energy_joules": 7.2e6, "started": later}
    found.see(30, ended("17"))
    assert found.site.listed["17"]["receipt"]["energy_joules"] == 7_200_000


def test_a_restart_neither_loses_nor_repeats() -> None:
    slurm = Slurm(away=SchedulerError("sacct: connection refused"))
    slurm.know("17", "18")
    before = lived("17", "18", slurm=slurm)
    before.hand_out(lambda: before.faults)
    before.desk.keep()
    assert before.faults == [
        ("receipts", "Slurm's accounting takes no receipts, 2 wait: sacct: connection refused")
    ]
    slurm.away = None
    after = Lived(before.site, slurm)
    after.see(20, ended("17"), ended("18"))
    after.hand_out(lambda: len(slurm.written) == 2)
    after.desk.keep()
    slurm.written.clear()
    third = Lived(before.site, slurm)
    third.see(30, ended("17"), ended("18"))
    assert third.desk.queue is not None
    assert not third.desk.queue.jobs
    assert slurm.written == {}


def test_what_keeps_all_from_slurm_is_told_once_and_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_queue, "_LONGEST_WAIT_SECONDS", 0.02)
    slurm = Slurm(away=SchedulerError("slurmdbd is away"))
    slurm.know("17")
    found = lived("17", slurm=slurm)
    found.hand_out(lambda: slurm.asked > 4)
    assert len(found.faults) == 1
    slurm.away = None
    found.hand_out(lambda: slurm.written)
    assert found.faults[1:] == [("receipts", "")]
    assert found.notes == []


def test_one_job_s_trouble_does_not_keep_the_others_back() -> None:
    slurm = Slurm(errors={"17": SchedulerError("changed nothing"), "18": ForeignCommentError("theirs")})
    slurm.know("17", "18", "19", "20")
    found = lived("17", "18", "19", "20", "21", slurm=slurm)  # 21 is not in the accounting yet
    found.hand_out(lambda: slurm.written.keys() == {"19", "20"} and found.notes)
    assert found.desk.queue is not None
    assert set(found.desk.queue.jobs) == {"17", "21"}
    (note,) = found.notes
    assert note[:3] == ("controller", "receipts kept", "receipts")
    assert "1 receipts stay with powerctld" in note[3]
    slurm.errors.clear()
    slurm.know("21")
    found.hand_out(lambda: len(slurm.written) == 4)


def test_nothing_that_goes_wrong_ends_the_controller() -> None:
    slurm = Slurm()
    slurm.know("17", "18")
    found = lived("17", "18", slurm=slurm)
    for second in (11, 12, 13):
        found.site.joules["17"] = 1e6 * second
        found.see(2.0 * second, ended("17"), ended("18"))
    found.site.listed["17"]["started"] = "no time"
    slurm.step_times = [StepTimes("0", AT.timestamp(), AT.timestamp() + 5.0)]
    found.hand_out(lambda: "18" in slurm.written)
    assert "17" not in slurm.written
    found.site.listed["17"]["started"] = AT.isoformat()
    found.hand_out(lambda: "17" in slurm.written)


def test_a_job_that_slurm_s_accounting_still_runs_waits() -> None:
    """What is written before the end is known there would be overwritten with it."""
    slurm = Slurm()
    slurm.know("17", ended=False)
    found = lived("17", slurm=slurm)
    found.hand_out(lambda: slurm.asked > 2)
    assert slurm.written == {}
    slurm.know("17")
    found.hand_out(lambda: slurm.written)


def test_given_up_after_days_with_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_queue, "_GIVE_UP_SECONDS", 0.0)
    found = lived("17", "18", slurm=Slurm())
    found.hand_out(lambda: found.notes)
    assert found.desk.queue is not None
    assert not found.desk.queue.jobs
    assert [note[3].partition(":")[0] for note in found.notes] == [
        "2 receipts stay with powerctld (slurm-power jobs)"
    ]


def test_without_accounting_receipts_stay_here_and_slurm_is_not_asked_again() -> None:
    slurm = Slurm(away=NoAccountingError("Slurm accounting storage is disabled"))
    found = lived("17", slurm=slurm)
    found.hand_out(lambda: found.notes)
    asked = slurm.asked
    found.site.listed["18"] = told("18")
    found.see(20, running("18", ("c1",)))
    found.see(30, ended("18"))
    assert "receipt" in found.site.listed["18"]
    assert found.desk.queue is not None
    assert not found.desk.queue.jobs
    assert (slurm.asked, found.faults) == (asked, [])


def test_an_array_that_ends_at_once_is_spread_over_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_desk, "_MOST_CLOSED", 3)
    found = lived(*map(str, range(8)), slurm=Slurm())
    jobs = tuple(ended(str(number)) for number in range(8))
    made = [sum("receipt" in record for record in found.site.listed.values())]
    for second in (11, 12, 13):
        found.see(second, *jobs)
        made.append(sum("receipt" in record for record in found.site.listed.values()))
    assert made == [3, 6, 8, 8]


def test_a_requeued_job_has_not_ended() -> None:
    found = Lived(Site(listed={"17": told("17")}), Slurm())
    found.see(0, running("17", ("c1",)))
    found.see(10, replace(running("17", ()), state=JobState.PENDING, nodes=()))
    assert "receipt" not in found.site.listed["17"]


def test_shadow_mode_touches_nothing() -> None:
    slurm = Slurm()
    slurm.know("17")
    found = Lived(Site(listed={"17": told("17")}), slurm)
    found.see(0, running("17", ("c1",)), enabled=False)
    found.see(10, ended("17"), enabled=False)
    assert "receipt" in found.site.listed["17"]
    assert found.desk.queue is not None
    assert not found.desk.queue.jobs


def test_energy_is_paid_for_at_the_price_of_its_time() -> None:
    found = Lived(Site(listed={"17": told("17")}), None, rates=Rates(0.10, None))
    job = running("17", ("c1",))
    for second, joules, rates in (
        (0, 0.0, Rates(0.10, None)),
        (10, 1.2e6, Rates(0.10, None)),
        (20, 2.4e6, Rates(0.40, None)),  # until now it cost 0.10
        (30, 3.0e6, Rates(0.40, None)),
    ):
        found.site.joules["17"], found.rates = joules, rates
        found.see(second, job)
    found.see(40, ended("17"))
    receipt = found.site.listed["17"]["receipt"]
    assert receipt["cost"] == pytest.approx((2.4 * 0.10 + 1.2 * 0.40) / 3.6)
    assert "co2_grams" not in receipt


def test_what_was_used_while_nobody_looked_has_no_price() -> None:
    rates = JobRates()
    rates.look({"17": 0.0}, Rates(0.2, 300.0), 0.0)
    rates.look({"17": 1e6}, Rates(0.2, 300.0), 60.0)
    short = JobRates(rates.document())
    short.look({"17": 2e6}, Rates(0.2, 300.0), 120.0)
    assert short.taken("17", 3e6)["priced_joules"] == 3e6
    long = JobRates(rates.document())
    long.look({"17": 2e6}, Rates(0.2, 300.0), 7200.0)
    assert long.taken("17", 3e6)["priced_joules"] == 1e6


@pytest.mark.parametrize("stored", [None, 3, {}, {"jobs": 1}, {"jobs": {"1": ["x"]}, "rates": [1, 2]}])
def test_a_state_that_is_none_is_as_nothing(stored: object) -> None:
    assert JobRates(stored).taken("17", 5.0)["priced_joules"] == 0.0
    site = Site(states={"receipts": {"waiting": stored, "rates": stored}})
    assert Lived(site, Slurm()).desk.queue is not None


def test_points_of_long_jobs_stay_few_and_reach_from_start_to_end() -> None:
    points = EnergyPoints()
    for second in range(0, 20_000, 2):
        points.add({"17": 100.0 * second}, float(second))
    found = points.of("17")
    assert 64 <= len(found) <= 129
    assert found[0] == (0.0, 0.0)
    assert found[-1][0] > 19_600
    assert all(joules == 100.0 * at for at, joules in found)
    points.keep(())
    assert points.of("17") == []
