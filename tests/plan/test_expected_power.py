"""Which figure of a job's expected power the plan uses for what."""

from dataclasses import replace

import pytest

from slurm_power.model.action import HoldJob
from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import job_loads, pending_watts
from slurm_power.plan.planner import hold_of, plan_cycle
from slurm_power.plan.policy import Policy
from slurm_power.plan.starts import coming_starts, rooms
from tests.plan.situations import pending, running, situation

POLICY = Policy()
KNOWN = ExpectedPower(
    mean_watts=300.0, p95_watts=420.0, known_from="your jobs", jobs=5, start_step_watts=350.0
)


def knowing(snapshot: Snapshot, job_id: str, known: ExpectedPower = KNOWN) -> Snapshot:
    return replace(snapshot, expected={job_id: known})


def test_a_start_is_met_with_the_careful_figure_and_a_queue_with_the_mean() -> None:
    starting = running("1", ("c1",), state=JobState.STARTING)
    (load,) = job_loads(knowing(situation(jobs=(starting,), gpu_watts={"1": 75.0}), "1"), POLICY)
    assert load.coming_watts == pytest.approx(425.0 - 75.0 + POLICY.host_watts_per_gpu), "idle and its step"
    assert load.uncapped_watts == 300.0
    waiting = pending("7", 8)
    added = pending_watts(knowing(situation(jobs=(waiting,)), "7"), waiting, POLICY)
    assert added == 8 * (300.0 - 75.0 + POLICY.host_watts_per_gpu)


def test_a_careful_figure_does_not_go_where_no_gpu_can() -> None:
    starting = running("1", ("c1",), state=JobState.STARTING)
    wild = replace(KNOWN, p95_watts=5_000.0)
    (load,) = job_loads(knowing(situation(jobs=(starting,), gpu_watts={"1": 75.0}), "1", wild), POLICY)
    assert load.coming_watts == pytest.approx(700.0 - 75.0 + POLICY.host_watts_per_gpu)


def test_a_job_whose_gpus_do_not_answer_counts_with_its_mean() -> None:
    lost = replace(running("1", ("c1",)), gpus_by_node=())
    (load,) = job_loads(knowing(situation(jobs=(lost,)), "1"), POLICY)
    assert (load.gpu_watts, load.reachable) == (300.0, False)


def test_a_job_known_to_draw_little_is_not_held_where_its_class_would_be() -> None:
    waiting = pending("7", 8)
    snapshot = situation(jobs=(waiting,), import_watts=25_000.0)
    held = [a for a in plan_cycle(snapshot, POLICY, hold_seconds=60.0).actions if isinstance(a, HoldJob)]
    assert [action.job_id for action in held] == ["7"]
    known = plan_cycle(knowing(snapshot, "7"), POLICY, hold_seconds=60.0).actions
    assert not [action for action in known if isinstance(action, HoldJob)]
    asked, empty = pending("asked", 8, submitted_seconds_ago=0.0), replace(snapshot, jobs=())
    assert hold_of(empty, asked, POLICY, hold_seconds=60.0) is not None
    assert hold_of(knowing(empty, "asked"), asked, POLICY, hold_seconds=60.0) is None


def test_a_coming_start_has_the_step_of_its_own_code() -> None:
    waiting = pending("7", 8)
    snapshot = knowing(situation(jobs=(waiting,)), "7")
    (start,) = coming_starts(snapshot, POLICY, rooms(snapshot.site, {"c1": 8, "c2": 8}))
    assert start.step_watts["grid"] == pytest.approx(8 * (300.0 - 75.0 + POLICY.host_watts_per_gpu))
