"""Running jobs' licences follow caps and draws, and come back before the cap goes."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_power.model.action import Plan, SetCap
from slurm_power.model.job import Flex
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.planner import plan_cycle
from tests.controller.admission_bench import (
    JOB_WATTS,
    POLICY,
    Bench,
    event,
    opened,
    scene,
)
from tests.plan.situations import cap_lease, pending, running


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield from opened(tmp_path)


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
    assert bench.desk.follower.before(lift, capped, 129.0) != lift
    assert bench.desk.follower.before(lift, capped, 130.5) == lift


def test_a_licence_that_is_given_back_in_part_is_still_waited_for(bench: Bench) -> None:
    bench.slurm.jobs = {"1": f"watts:{JOB_WATTS}"}
    bench.step(job_scene(cap=300.0, gpu_watts=300.0))
    capped = job_scene(at=5.0, cap=400.0, gpu_watts=400.0)
    bench.step(capped)
    assert bench.slurm.jobs["1"] == f"watts:{8 * (400 - 75 + 225)}"
    lift = Plan(actions=(SetCap(job_id="1", cap_watts=None, kind=LimitKind.ECONOMIC, reason="room"),))
    assert bench.desk.before(lift, capped) != lift


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
