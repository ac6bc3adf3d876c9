"""What the controller writes down, and what it forgets."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_power.act import Outcome
from slurm_power.controller.levers.levers import LeverState
from slurm_power.controller.records.recorder import Recorder
from slurm_power.controller.records.series_values import series_values
from slurm_power.model.action import HoldJob, ReleaseJob, SetCap
from slurm_power.model.job import Job
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.policy import Policy
from slurm_power.store.sqlite import SqliteStore
from tests.plan.situations import AT, pending, running, situation

CAP = SetCap(job_id="1", cap_watts=500.0, kind=LimitKind.ECONOMIC, reason="tight")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "s.sqlite")
    yield opened
    opened.close()


def at(seconds: float, *jobs: Job) -> Snapshot:
    return replace(situation(jobs=jobs), at=AT + timedelta(seconds=seconds))


def tick(recorder: Recorder, snapshot: Snapshot, energy_joules: dict[str, float] | None = None) -> None:
    recorder.jobs(snapshot, LeverState(), energy_joules or {}, 1.0)


def test_a_jobs_record_goes_on_after_a_restart_and_leaves_memory_with_its_job(store: SqliteStore) -> None:
    first = Recorder(store, Policy())
    for second in range(3):
        tick(first, at(second, running("1", ("c1",))), {"1": 1000.0 * second})
    second_life = Recorder(store, Policy())
    tick(second_life, at(3, running("1", ("c1",))))
    record = second_life.job_record("1")
    assert (record["seconds"], record["mean_watts"], record["energy_joules"]) == (4.0, 5200.0, 2000.0)
    tick(second_life, at(4))
    assert second_life.job_record("1") == {}
    assert store.job("1")["seconds"] == 4.0


def test_an_unchanged_record_is_not_written_again(store: SqliteStore) -> None:
    recorder = Recorder(store, Policy())
    tick(recorder, at(0, pending("7", 8)))
    store.put_job("7", {"mark": True})
    tick(recorder, at(1, pending("7", 8)))
    assert store.job("7") == {"mark": True}
    tick(recorder, at(2, replace(pending("7", 8), name="renamed")))
    assert store.job("7")["name"] == "renamed"


def test_a_waiting_job_is_described_again_when_a_lever_has_touched_it(store: SqliteStore) -> None:
    recorder, levers, job = Recorder(store, Policy()), LeverState(), pending("7", 8)

    def held_seconds(second: float) -> object:
        recorder.jobs(at(second, job), levers, {}, 1.0)
        return store.job("7")["held_seconds"]

    assert [held_seconds(0), held_seconds(1)] == [0.0, 0.0]
    levers.held(HoldJob(job_id="7", seconds=60.0, reason="no room"), AT + timedelta(seconds=1))
    assert held_seconds(11) == 10.0
    levers.released(ReleaseJob(job_id="7", reason="room"), AT + timedelta(seconds=15))
    assert [held_seconds(20), held_seconds(30)] == [14.0, 14.0]
    recorder.job_energy("7", {"node_seconds": 5.0})
    held_seconds(31)
    assert store.job("7")["node_seconds"] == 5.0


def test_a_failure_about_a_job_is_its_owners_business(store: SqliteStore) -> None:
    recorder = Recorder(store, Policy())
    jobs = {"1": running("1", ("c1",)), "7": pending("7", 8)}
    snapshot = at(0, *jobs.values())
    hold = HoldJob(job_id="7", seconds=60.0, reason="no room")
    for action in (CAP, hold, CAP):
        outcome = Outcome(action=action, error="no answer")
        recorder.outcome(outcome, snapshot, jobs, changed=False, shadow=False)
    assert [(e.kind, e.job_id, e.user) for e in store.entries()] == [
        ("failed", "1", "alice"),
        ("failed", "7", "bob"),
    ]


def test_a_cap_that_only_some_nodes_took_is_written_with_what_failed(store: SqliteStore) -> None:
    recorder = Recorder(store, Policy())
    jobs = {"1": running("1", ("c1", "c2"))}
    outcome = Outcome(action=CAP, error="not connected: c2", partly=True)
    recorder.outcome(outcome, at(0), jobs, changed=True, shadow=False)
    assert [entry.kind for entry in store.entries()] == ["failed", "cap"]


def test_no_draw_is_made_up_for_a_job_that_no_node_reports() -> None:
    job = running("1", ("c1",))
    reported, silent = at(0, job), replace(at(1, job), nodes={})
    drawn = [series_values(snapshot, Policy())["job.1.gpu_watts"] for snapshot in (reported, silent)]
    assert drawn == [5200.0, None]
