"""Starts behind a gate: the draw rises along the ramp, every gate ends, and no promise pays for it."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise

import pytest

from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import SetCap
from slurm_power.model.job import Flex, Job, JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, cap_lease, running, site, situation

RAMP_WATTS = 500.0
POLICY = Policy(start_ramp_watts_per_second=RAMP_WATTS)
ROOMY = site(with_ess=False, grid_limit_watts=90_000.0)
FLOOR_WATTS = 315.0  # 45 % of 700 W


def caps(snapshot: Snapshot, policy: Policy = POLICY) -> dict[str, float | None]:
    found = plan_cycle(snapshot, policy, hold_seconds=60.0).actions
    return {action.job_id: action.cap_watts for action in found if isinstance(action, SetCap)}


def starting(flex: Flex = Flex.FLEX2, **changes: object) -> Job:
    job = running("1", ("c1",), flex=flex, state=JobState.STARTING, started_seconds_ago=0.0)
    return replace(job, time_limit_seconds=86_400.0, **changes)  # type: ignore[arg-type]  # fields by name


def at_start(job: Job, **more: object) -> Snapshot:
    return situation(of=ROOMY, jobs=(job,), gpu_watts={"1": 75.0}, **more)  # type: ignore[arg-type]  # fields by name


def test_a_start_that_the_ramp_cannot_take_begins_at_the_floor() -> None:
    assert caps(at_start(starting())) == {"1": FLOOR_WATTS}
    assert caps(at_start(starting()), Policy()) == {}
    fast = Policy(start_ramp_watts_per_second=10_000.0)
    assert caps(at_start(starting()), fast) == {}, "6.4 kW come within the ramp"


def test_a_promise_pays_for_no_gate() -> None:
    assert caps(at_start(starting(Flex.FLEX0))) == {}
    short = replace(starting(Flex.FLEX1), state=JobState.RUNNING, started=AT - timedelta(seconds=15))
    assert caps(at_start(replace(short, time_limit_seconds=300.0))) == {}
    assert caps(at_start(short)) == {"1": FLOOR_WATTS}


def test_a_yielded_node_has_no_gate() -> None:
    assert caps(replace(at_start(starting()), yielded_nodes=frozenset({"c1"}))) == {}


def test_it_waits_for_the_load_and_rises_with_it() -> None:
    job = running("1", ("c1",), started_seconds_ago=60.0)
    job = replace(job, time_limit_seconds=86_400.0)
    lease = {"1": cap_lease("1", FLOOR_WATTS, changed_seconds_ago=2.0)}
    idle = situation(of=ROOMY, jobs=(job,), gpu_watts={"1": 75.0}, caps=lease)
    assert caps(idle) == {"1": FLOOR_WATTS}
    busy = situation(of=ROOMY, jobs=(job,), gpu_watts={"1": 310.0}, caps=lease)
    # 500 W a second over eight GPUs, in whole steps; what it has waited is not made up for.
    assert caps(busy) == {"1": FLOOR_WATTS + 60.0}
    full = situation(
        of=site(with_ess=False), import_watts=29_000.0, jobs=(job,), gpu_watts={"1": 310.0}, caps=lease
    )
    assert caps(full) == {"1": FLOOR_WATTS}, "no room to rise into"


def test_a_gate_ends_whatever_the_job_does() -> None:
    job = running("1", ("c1",), started_seconds_ago=700.0)
    lease = {"1": cap_lease("1", FLOOR_WATTS, changed_seconds_ago=600.0)}
    late = situation(of=ROOMY, jobs=(job,), gpu_watts={"1": 75.0}, caps=lease)
    assert caps(late) == {"1": None}


def test_a_limit_that_asks_for_more_comes_first() -> None:
    job = replace(running("1", ("c1",), started_seconds_ago=5.0), time_limit_seconds=86_400.0)
    tight = situation(of=site(with_ess=False), import_watts=33_000.0, jobs=(job,), gpu_watts={"1": 600.0})
    asked = caps(tight, Policy())["1"]
    gated = caps(tight)["1"]
    assert gated == asked


@dataclass(slots=True)
class Start:
    """Jobs that load for some seconds and then draw all they may, second by second under the planner."""

    jobs: tuple[Job, ...]
    loads_seconds: dict[str, int]
    levers: LeverState = field(default_factory=LeverState)
    watts: list[float] = field(default_factory=list)

    def run(self, seconds: int) -> None:
        for second in range(seconds):
            at = AT + timedelta(seconds=second)
            draws = {}
            for job in self.jobs:
                cap = self.levers.caps.get(job.job_id)
                wanted = 650.0 if second >= self.loads_seconds[job.job_id] else 75.0
                draws[job.job_id] = min(wanted, cap.cap_watts if cap else 700.0)
            self.watts.append(8.0 * sum(draws.values()))
            view = self.levers.view(at)
            seen = situation(of=ROOMY, jobs=self.jobs, gpu_watts=draws, caps=dict(view.caps))
            for action in plan_cycle(replace(seen, at=at), POLICY, hold_seconds=60.0).actions:
                if isinstance(action, SetCap):
                    self.levers.capped(action, draws[action.job_id], at)


def fresh(job_id: str, node: str) -> Job:
    job = running(job_id, (node,), flex=Flex.FLEX2, started_seconds_ago=0.0)
    return replace(job, time_limit_seconds=86_400.0)


@pytest.mark.parametrize("loads", [{"1": 2}, {"1": 90}, {"1": 2, "2": 2, "3": 40}])
def test_the_site_rises_along_the_ramp_and_every_gate_opens(loads: dict[str, int]) -> None:
    jobs = tuple(fresh(job_id, f"c{job_id}") for job_id in loads)
    start = Start(jobs, loads)
    start.run(120)
    step_to_floor = 8.0 * (FLOOR_WATTS - 75.0)
    rises = [after - before for before, after in pairwise(start.watts)]
    for second, rise in enumerate(rises, start=1):
        loading = sum(second == at for at in loads.values())
        assert rise <= RAMP_WATTS + 40.0 + loading * step_to_floor, f"second {second}: {rise:.0f} W"
    assert start.watts[-1] == pytest.approx(8.0 * 650.0 * len(jobs))
    assert start.levers.caps == {}
