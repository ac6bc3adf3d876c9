"""What the controller learns of jobs' power, what of it the planner gets, and what a restart keeps."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slurm_power.controller.jobs.job_expectations import POWERS, JobExpectations, part_key
from slurm_power.controller.levers.levers import LeverState
from slurm_power.controller.records.recorder import Recorder
from slurm_power.model.job import Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import job_loads, pending_watts
from slurm_power.plan.policy import Policy
from slurm_power.store.sqlite import SqliteStore
from tests.plan.situations import AT, cap_lease, pending, running, situation

POLICY = Policy()
DREW = 400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "s.sqlite")
    yield opened
    opened.close()


class Bench:
    """A controller's expectations and its recorder, stepped second by second."""

    def __init__(self, store: SqliteStore) -> None:
        self.notes: list[tuple[str, str]] = []
        self.recorder = Recorder(store, POLICY)

        def note(actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
            self.notes.append((subject, reason))

        self.expectations = JobExpectations(store, POLICY, note)

    def tick(
        self, second: float, *jobs: Job, watts: float = DREW, cap_watts: float | None = None
    ) -> Snapshot:
        caps = {} if cap_watts is None else {job.job_id: cap_lease(job.job_id, cap_watts) for job in jobs}
        gpu_watts = {job.job_id: watts for job in jobs}
        seen = situation(jobs=jobs, gpu_watts=gpu_watts, caps=caps)
        snapshot = self.expectations.onto(replace(seen, at=AT + timedelta(seconds=second)))
        self.recorder.jobs(snapshot, LeverState(), {}, 1.0)
        self.expectations.observe(snapshot, job_loads(snapshot, POLICY), 1.0)
        return snapshot

    def run(self, job_id: str, seconds: int = 100, first: float = 0.0, **how: Any) -> None:
        """One of alice's jobs of the name ``bert_run<id>``, from start to end."""
        for second in range(1, seconds + 1):
            self.tick(first + second, mine(job_id, first), **how)
        self.tick(first + seconds + 1, replace(mine(job_id, first), state=JobState.ENDED))


def mine(job_id: str, started: float = 0.0) -> Job:
    job = running(job_id, ("c1",))
    return replace(job, name=f"bert_run{job_id}", started=AT + timedelta(seconds=started))


def mine_pending(job_id: str) -> Job:
    return replace(pending(job_id, 8), user="alice", account="physics", name=f"bert_run{job_id}")


def test_the_next_job_of_the_name_is_known_by_what_the_last_one_drew(store: SqliteStore) -> None:
    bench = Bench(store)
    assert bench.tick(0.0, mine_pending("9")).expected == {}
    bench.run("1")
    bench.tick(200.0, mine_pending("9"))
    snapshot = bench.tick(201.0, mine_pending("9"))
    found = snapshot.expected["9"]
    assert found.mean_watts == pytest.approx(DREW, rel=0.05)
    assert (found.known_from, found.jobs) == ("your jobs of this name and size", 1)
    before = pending_watts(replace(snapshot, expected={}), mine_pending("9"), POLICY)
    after = pending_watts(snapshot, mine_pending("9"), POLICY)
    assert before - after == pytest.approx(8 * (650.0 - found.mean_watts)), "holds follow what is expected"
    record = bench.recorder.job_record("9")
    assert record["expected_mean_watts"] == pytest.approx(found.mean_watts, abs=0.1)
    assert record["expected_known_from"] == "your jobs of this name and size"


def test_what_was_expected_stays_on_record_while_the_job_runs(store: SqliteStore) -> None:
    bench = Bench(store)
    bench.run("1")
    for second in range(200, 320):
        snapshot = bench.tick(second, mine("2", 199.0), watts=600.0)
    assert snapshot.expected["2"].own_seconds > 100.0
    assert snapshot.expected["2"].mean_watts > 480.0
    record = bench.recorder.job_record("2")
    assert record["expected_mean_watts"] == pytest.approx(DREW, rel=0.05)
    assert record["mean_watts"] == pytest.approx(8 * 600.0)


def test_a_start_that_the_list_has_not_told_of_yet_waits_for_its_name(store: SqliteStore) -> None:
    bench = Bench(store)
    bench.run("1")
    unlisted = replace(mine("2", 199.0), name="", account="", state=JobState.STARTING, started=None)
    for second in (200, 201):
        assert bench.tick(second, unlisted).expected == {}
    for second in (202, 203):
        bench.tick(second, mine("2", 199.0))
    assert bench.recorder.job_record("2")["expected_known_from"] == "your jobs of this name and size"


def test_gpus_of_another_type_are_another_matter_but_who_asks_for_any_is_told(store: SqliteStore) -> None:
    bench = Bench(store)
    for first, kind, watts in ((0, "h100", 600.0), (200, "a100", 300.0)):
        for second in range(first + 1, first + 100):
            bench.tick(second, replace(mine(kind, first), gpu_type=kind), watts=watts)
        bench.tick(first + 100.0)
    queue = [replace(mine_pending(kind), gpu_type=kind) for kind in ("h100", "a100", "l40s", "")]
    for second in (401, 402):
        snapshot = bench.tick(second, *(replace(job, job_id=f"q{job.job_id}") for job in queue[:3]), queue[3])
    means = {job_id: found.mean_watts for job_id, found in snapshot.expected.items()}
    assert means["qh100"] == pytest.approx(600.0, rel=0.05)
    assert means["qa100"] == pytest.approx(300.0, rel=0.05)
    assert 300.0 < means["ql40s"] < 600.0, "of its type nothing is known: by any type"
    assert snapshot.expected[""].jobs == 2


def test_a_cap_of_ours_teaches_nothing(store: SqliteStore) -> None:
    bench = Bench(store)
    bench.run("1", watts=300.0, cap_watts=300.0)
    bench.tick(200.0, mine_pending("9"))
    assert bench.tick(201.0, mine_pending("9")).expected == {}


def test_a_job_that_was_hardly_seen_teaches_nothing(store: SqliteStore) -> None:
    bench = Bench(store)
    bench.run("1", seconds=8)
    assert bench.tick(202.0, mine_pending("9")).expected == {}


def test_a_requeued_job_is_another_run(store: SqliteStore) -> None:
    bench = Bench(store)
    for second in range(1, 60):
        bench.tick(second, mine("1"))
    for second in range(60, 120):
        bench.tick(second, mine("1", 59.0))
    bench.tick(120.0)
    bench.tick(121.0, mine_pending("9"))
    assert bench.tick(122.0, mine_pending("9")).expected["9"].jobs == 2


def test_a_restart_keeps_what_was_learned_and_who_is_being_watched(store: SqliteStore) -> None:
    first = Bench(store)
    first.run("1")
    for second in range(200, 260):
        first.tick(second, mine("2", 199.0))
    first.expectations.keep()
    second_life = Bench(store)
    second_life.tick(260.0)
    second_life.tick(261.0, mine_pending("9"))
    found = second_life.tick(262.0, mine_pending("9")).expected["9"]
    assert found.jobs == 2, "the second one's end was seen by the second controller"
    assert second_life.notes == []


def test_without_a_state_it_learns_from_the_records(store: SqliteStore) -> None:
    first = Bench(store)
    first.run("1")
    store.put_jobs({"77": {"state": "ended", "mean_watts": "much"}, "78": {}})
    store.put_state(POWERS, None)
    second_life = Bench(store)
    second_life.tick(200.0, mine_pending("9"))
    found = second_life.tick(201.0, mine_pending("9")).expected["9"]
    assert found.jobs == 1
    assert found.mean_watts == pytest.approx(DREW, rel=0.05)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (POWERS, {"version": 1, "levels": {"x": [1]}}),
        (POWERS, [1]),
        (part_key(3), {"1": {}}),
        (part_key(0), "x"),
    ],
)
def test_a_damaged_state_is_named_and_left_out(store: SqliteStore, key: str, value: object) -> None:
    store.put_state(key, value)
    bench = Bench(store)
    ((subject, reason),) = bench.notes
    assert subject == f"state:{key}"
    assert "learned anew" in reason
    bench.run("1")
    bench.tick(200.0, mine_pending("9"))
    assert bench.tick(201.0, mine_pending("9")).expected["9"].jobs == 1


def test_a_long_queue_is_told_piece_by_piece_and_forgotten_with_its_jobs(store: SqliteStore) -> None:
    bench = Bench(store)
    bench.run("1")
    queue = [mine_pending(str(number)) for number in range(100, 700)]
    counts = [len(bench.tick(200.0 + second, *queue).expected) for second in range(5)]
    assert counts == [0, 250, 500, 600, 600]
    bench.tick(300.0)
    assert bench.tick(301.0).expected == {}


def test_a_snapshot_does_not_change_afterwards(store: SqliteStore) -> None:
    bench = Bench(store)
    bench.run("1")
    snapshot = bench.tick(200.0, mine_pending("9"))
    bench.tick(201.0, mine_pending("9"))
    assert snapshot.expected == {}
