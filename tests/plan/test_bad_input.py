"""What no snapshot should have and some day one has: each has an answer, and none is a traceback."""

import math

import pytest

from slurm_power.model.action import HoldJob, Plan, SetCap, SetDischarge
from slurm_power.model.job import Flex, Job, Workload
from slurm_power.model.reading import EssReading
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import ess_reading, pending, running, site, situation

POLICY = Policy()
LIMIT_WATTS = 12_000.0


def plan(
    jobs: tuple[Job, ...],
    draws: dict[str, float],
    *,
    import_watts: float = 16_000.0,
    ess: EssReading | None = None,
) -> Plan:
    return plan_cycle(
        situation(
            of=site(grid_limit_watts=LIMIT_WATTS, with_ess=ess is not None),
            import_watts=import_watts,
            gpu_watts=draws,
            jobs=jobs,
            ess=ess or ess_reading(),
        ),
        POLICY,
        hold_seconds=60.0,
    )


def caps(made: Plan) -> dict[str, float | None]:
    return {action.job_id: action.cap_watts for action in made.actions if isinstance(action, SetCap)}


def discharge_watts(made: Plan) -> float:
    return sum(action.discharge_watts for action in made.actions if isinstance(action, SetDischarge))


def test_a_job_with_a_lying_class_is_capped_from_what_it_draws() -> None:
    """It says that it generates, which draws little, and draws all there is: its meters are believed."""
    liar = running("1", ("c1",), flex=Flex.FLEX3, workload=Workload.GENERATION)
    honest = running("2", ("c2",), flex=Flex.FLEX0)
    saved_watts = []
    for drawn_watts in (POLICY.generation_gpu_watts, 695.0):
        made = plan((liar, honest), {"1": drawn_watts, "2": 400.0})
        (cap,) = [action for action in made.actions if isinstance(action, SetCap)]
        assert cap.job_id == "1" and cap.slowdown_ratio <= 0.5
        assert cap.cap_watts is not None and cap.cap_watts < drawn_watts
        saved_watts.append(cap.saved_watts)
    assert saved_watts[1] / saved_watts[0] == pytest.approx(695.0 / POLICY.generation_gpu_watts, rel=0.1)


@pytest.mark.parametrize("soc_ratio", [-0.5, math.nan])
def test_a_charge_that_cannot_be_is_an_empty_battery(soc_ratio: float) -> None:
    job = running("1", ("c1",), flex=Flex.FLEX3)
    made = plan((job,), {"1": 650.0}, ess=ess_reading(soc_ratio=soc_ratio))
    assert discharge_watts(made) <= 0.0
    assert "1" in caps(made)


def test_a_charge_above_full_never_charges_and_gives_no_more_than_its_power() -> None:
    job = running("1", ("c1",), flex=Flex.FLEX3)
    assert 0.0 < discharge_watts(plan((job,), {"1": 650.0}, ess=ess_reading(soc_ratio=1.5))) <= 8000.0
    assert (
        discharge_watts(plan((job,), {"1": 250.0}, ess=ess_reading(soc_ratio=1.5), import_watts=2000.0))
        >= 0.0
    )


def test_a_battery_of_no_size_leaves_it_to_the_jobs() -> None:
    job = running("1", ("c1",), flex=Flex.FLEX3)
    made = plan((job,), {"1": 650.0}, ess=ess_reading(energy_rating_kwh=0.0, max_watts=0.0))
    assert discharge_watts(made) == 0.0
    assert caps(made) == caps(plan((job,), {"1": 650.0}))


def test_too_much_load_without_a_job_is_nobodys_cap() -> None:
    made = plan((), {}, import_watts=50_000.0)
    assert not made.actions
    (shortfall,) = made.shortfalls
    assert shortfall.circuit == "grid" and 50_000.0 - LIMIT_WATTS <= shortfall.watts < 40_000.0


def test_50000_identical_jobs_are_held_a_few_at_a_time_and_the_same_ones_again() -> None:
    jobs = tuple(pending(str(number), 8) for number in range(50_000))
    made = plan(jobs, {}, import_watts=11_500.0)
    held = [action.job_id for action in made.actions if isinstance(action, HoldJob)]
    assert held == [str(number) for number in range(len(held))] and 0 < len(held) <= 1000
    assert made == plan(jobs, {}, import_watts=11_500.0)
