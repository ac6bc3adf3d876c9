"""Job records of a busy site: some hundreds are looked at each second, and none loses a second by it."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from slurm_power.controller.jobs import job_records
from slurm_power.controller.jobs.job_records import JobRecords
from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import HoldJob, SetCap
from slurm_power.model.job import Job
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, pending, running, situation


class MemoryStore:
    """Of a store only job records; counts what is written."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.writes = 0

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.records.get(job_id, {}))

    def put_jobs(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        self.records |= {job_id: dict(record) for job_id, record in records.items()}
        self.writes += len(records)


def busy(jobs: tuple[Job, ...], second: float) -> Snapshot:
    return replace(situation(jobs=jobs), at=AT + timedelta(seconds=second))


def lived(turns: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """A minute of a site whose jobs come, go and are steered; ``turns`` records are looked at each second."""
    monkeypatch.setattr(job_records, "_TURNS", turns)
    random_ = random.Random(seed)  # the same minute every time
    store, levers = MemoryStore(), LeverState()
    records = JobRecords(store, Policy())  # type: ignore[arg-type]  # it needs no more of a store
    nodes = {"1": ("c1",), "2": ("c2",), "3": ("c3", "c4")}
    jobs: tuple[Job, ...] = ()
    energy: dict[str, float] = {}
    for second in range(60):
        if second % 5 == 0:
            there = [running(job_id, places) for job_id, places in nodes.items() if random_.random() < 0.8]
            jobs = (*there, *(pending(str(number), 8) for number in range(7, 12)))
        at = AT + timedelta(seconds=second)
        for job in jobs:
            chance = random_.random()
            if job.nodes and chance < 0.2:
                watts = random_.choice([300.0, 500.0, None])
                cap = SetCap(job_id=job.job_id, cap_watts=watts, kind=LimitKind.ECONOMIC, reason="tight")
                levers.capped(replace(cap, slowdown_ratio=random_.random()), 650.0, at)
            elif not job.nodes and chance < 0.2:
                levers.held(
                    HoldJob(job_id=job.job_id, seconds=4.0, reason="x", saved_watts=100.0 * second), at
                )
            if job.nodes:
                energy[job.job_id] = 1000.0 * second
        levers.follow({job.job_id: job.state for job in jobs}, at)
        levers.expire(at)
        here = {job.job_id for job in jobs}
        energies = {job_id: joules for job_id, joules in energy.items() if job_id in here}
        records.look(busy(jobs, second), levers, energies, random_.choice([0.5, 1.0]))
    records.keep()
    return store


@pytest.mark.parametrize("seed", range(5))
def test_whose_turn_it_is_changes_no_record(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    all_at_once, one_a_second = (lived(turns, seed, monkeypatch) for turns in (1000, 1))
    assert one_a_second.writes < 0.8 * all_at_once.writes
    assert one_a_second.records.keys() == all_at_once.records.keys()
    for job_id, record in all_at_once.records.items():
        other = one_a_second.records[job_id]
        numbers = {key: value for key, value in record.items() if isinstance(value, float)}
        assert {key: other[key] for key in numbers} == pytest.approx(numbers)
        assert {**other, **numbers} == record


def test_who_asks_is_told_of_the_second_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_records, "_TURNS", 1)
    store = MemoryStore()
    records = JobRecords(store, Policy())  # type: ignore[arg-type]  # it needs no more of a store
    jobs = tuple(running(str(number), (f"c{number}",)) for number in range(1, 5))
    for second in range(10):
        records.look(busy(jobs, second), LeverState(), {}, 1.0)
    assert [records.of(job.job_id)["running_seconds"] for job in jobs] == [10.0] * 4
    assert sum(record["running_seconds"] for record in store.records.values()) < 40.0
    assert "capped_seconds" not in records.of("1")
    records.look(busy(jobs[1:], 10), LeverState(), {}, 1.0)
    assert (records.of("1"), store.job("1")["running_seconds"]) == ({}, 10.0)


def test_a_job_that_changes_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_records, "_TURNS", 0)
    store, levers = MemoryStore(), LeverState()
    records = JobRecords(store, Policy())  # type: ignore[arg-type]  # it needs no more of a store
    job = pending("7", 8)
    records.look(busy((job,), 0), levers, {}, 1.0)
    records.look(busy((replace(job),), 1), levers, {}, 1.0)
    assert store.writes == 1
    levers.held(HoldJob(job_id="7", seconds=60.0, reason="x"), AT + timedelta(seconds=2))
    for second in (2, 3, 4):
        records.look(busy((job,), second), levers, {}, 1.0)
    assert (store.writes, store.job("7")["delayed_watt_seconds"]) == (2, 0.0)
    records.look(busy((replace(job, name="new"),), 5), levers, {}, 1.0)
    assert (store.writes, store.job("7")["name"], store.job("7")["held_seconds"]) == (3, "new", 3.0)
