"""What was promised to users holds over several holds, after safety limits, and for jobs of uneven GPUs."""

from dataclasses import replace

import pytest

from slurm_power.model.action import HoldJob, ReleaseJob, SetCap, SetDischarge
from slurm_power.model.job import Flex, JobState
from slurm_power.model.site import Ess, LimitKind
from slurm_power.model.snapshot import HoldLease, NodeState, Snapshot
from slurm_power.plan.loads import job_loads
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, ess_reading, gpu, pending, running, site, situation

POLICY = Policy()


def actions(snapshot: Snapshot) -> tuple[object, ...]:
    return plan_cycle(snapshot, POLICY, hold_seconds=60.0).actions


def caps(snapshot: Snapshot) -> dict[str, float | None]:
    return {action.job_id: action.cap_watts for action in actions(snapshot) if isinstance(action, SetCap)}


def hold_actions(snapshot: Snapshot) -> list[object]:
    return [action for action in actions(snapshot) if isinstance(action, HoldJob | ReleaseJob)]


def test_a_job_that_has_waited_as_promised_is_not_held_again() -> None:
    tight = situation(import_watts=29_000.0, jobs=(pending("7", 8),))
    assert hold_actions(tight) != []
    assert hold_actions(replace(tight, held_before_seconds={"7": 1800.0})) == []


def test_a_new_hold_is_no_longer_than_what_is_left_of_the_promise() -> None:
    tight = situation(import_watts=29_000.0, jobs=(pending("7", 8),))
    (hold,) = hold_actions(replace(tight, held_before_seconds={"7": 1790.0}))
    assert isinstance(hold, HoldJob)
    assert hold.seconds == 10.0


def test_a_hold_under_way_counts_earlier_ones_once() -> None:
    lease = {"7": HoldLease(job_id="7", held_seconds=1000.0, ends_in_seconds=50.0)}
    tight = situation(import_watts=29_000.0, jobs=(pending("7", 8),), holds=lease)
    assert (
        hold_actions(replace(tight, held_before_seconds={"7": 900.0})) == []
    )  # neither released nor renewed


@pytest.mark.parametrize("draw_watts", [68.0, 98.0, 146.0, 196.0])
def test_the_cap_of_a_small_gpu_is_lifted_when_there_is_room(draw_watts: float) -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX3),)
    lease = {"1": cap_lease("1", 0.6 * draw_watts, uncapped_watts=draw_watts)}
    free = situation(
        of=site(with_ess=False),
        import_watts=5000.0,
        jobs=jobs,
        gpu_watts={"1": 0.6 * draw_watts},
        caps=lease,
    )
    small = {
        uuid: replace(one, default_cap_watts=1.1 * draw_watts, min_cap_watts=0.3 * draw_watts)
        for uuid, one in free.nodes["c1"].gpus.items()
    }
    free = replace(free, nodes={"c1": NodeState(name="c1", age_seconds=0.5, gpus=small)})
    assert caps(free) == {"1": None}


def test_the_busiest_gpu_of_a_job_sets_its_floor() -> None:
    """Half of the GPUs work, half wait: a cap just below the mean would take half of the work."""
    jobs = (running("1", ("c1",), flex=Flex.FLEX1),)
    over = situation(of=site(with_ess=False), import_watts=33_000.0, jobs=jobs)
    uneven = {f"c1-{i}": gpu(f"c1-{i}", 690.0 if i < 4 else 80.0) for i in range(8)}
    over = replace(over, nodes={"c1": NodeState(name="c1", age_seconds=0.5, gpus=uneven)})
    assert caps(over) == {}


def test_what_safety_took_beyond_the_promise_is_not_kept_for_money() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX1),)
    lease = {"1": cap_lease("1", 320.0, uncapped_watts=650.0, kind=LimitKind.SAFETY)}
    # The rack has room again; the grid's economic limit has none.
    full = situation(
        of=site(with_ess=False, rack_limit_watts=12_000.0),
        import_watts=29_500.0,
        rack_watts=(6000.0, 9000.0),
        jobs=jobs,
        gpu_watts={"1": 320.0},
        caps=lease,
    )
    cap_watts = caps(full)["1"]
    assert cap_watts is not None
    assert 0.8 * 650.0 < cap_watts < 650.0  # flex1: 90 % of the performance
    tight_rack = replace(
        full, circuits={**full.circuits, "rack1": replace(full.circuits["rack1"], watts=11_900.0)}
    )
    assert caps(tight_rack) == {"1": 320.0}


def test_two_batteries_share_an_excess_and_the_room() -> None:
    one = site()
    two = replace(one, ess={**one.ess, "second": Ess(name="second", circuit="grid")})

    def setpoints(import_watts: float) -> list[float]:
        low = ess_reading(soc_ratio=0.5)
        snapshot = situation(of=two, import_watts=import_watts, ess=low)
        snapshot = replace(snapshot, ess={"battery": low, "second": replace(low, name="second")})
        return [action.discharge_watts for action in actions(snapshot) if isinstance(action, SetDischarge)]

    assert sum(setpoints(33_400.0)) == pytest.approx(4000.0)
    assert sum(setpoints(40_400.0)) == pytest.approx(11_000.0)
    charging = setpoints(19_400.0)
    assert charging and all(watts < 0.0 for watts in charging)
    assert sum(charging) >= -10_000.0


def test_jobs_without_gpus_have_no_load() -> None:
    cpu_only = running("1", ("c1",), gpus_per_node=0)
    assert cpu_only.state is JobState.RUNNING
    assert job_loads(situation(jobs=(cpu_only,)), POLICY) == ()
