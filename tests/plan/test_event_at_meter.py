"""A grid event as the meter shows it: how soon it is met, and how much is given away in it."""

from datetime import timedelta

import pytest

from slurm_power.model.grid_event import Commitment
from slurm_power.model.job import Flex
from slurm_power.plan.policy import Policy
from tests.plan.at_meter import BEFORE, EMPTY_SOC_RATIO, NODES, Loop, job_on
from tests.plan.situations import AT

CUT_RATIO = 0.30


def cut(
    *, seconds: int, soc_ratio: float = EMPTY_SOC_RATIO, flex: Flex = Flex.FLEX3
) -> tuple[list[float], float, float]:
    """Imports from the start of an event on, its level, and the load before; a training on each node."""
    jobs = tuple(job_on(node, (node,), starts=-600, flex=flex) for node in NODES)
    loop = Loop(jobs, dict.fromkeys(NODES, -600), Policy(), soc_ratio=soc_ratio)
    loop.run(0)
    before_watts = loop.imports[-1]
    level_watts = (1.0 - CUT_RATIO) * before_watts
    loop.levers.add_event(
        circuit="grid",
        limit_watts=level_watts,
        starts_at=AT,
        ends_at=AT + timedelta(seconds=seconds),
        reason="the grid is short",
        commitment=Commitment.MUST,
        baseline_watts=before_watts,
    )
    loop.run(seconds, since=0)
    return loop.imports[BEFORE:], level_watts, before_watts


def over_curtailed_points(watts: list[float], level_watts: float, before_watts: float) -> list[float]:
    minutes = [sum(watts[at : at + 60]) / 60.0 for at in range(0, len(watts) - 59, 60)]
    return [100.0 * max(0.0, level_watts - mean) / before_watts for mean in minutes]


def test_without_a_battery_the_level_is_reached_in_seconds_and_little_is_given_away() -> None:
    watts, level_watts, before_watts = cut(seconds=180)
    reached = next(second for second, one in enumerate(watts) if one <= level_watts)
    assert reached <= 5
    assert max(watts[reached:]) <= 1.01 * level_watts
    points = over_curtailed_points(watts, level_watts, before_watts)
    assert max(points) <= 1.5
    assert points[-1] <= 1.05, "the margin of 0.7 points, a quarter as much, and the step of a cap"


def test_with_a_battery_the_jobs_give_only_what_it_cannot() -> None:
    watts, level_watts, before_watts = cut(seconds=180, soc_ratio=0.9)
    reached = next(second for second, one in enumerate(watts) if one <= level_watts)
    assert reached <= 5
    assert max(watts[reached:]) <= 1.01 * level_watts
    assert max(over_curtailed_points(watts, level_watts, before_watts)) <= 1.5


@pytest.mark.parametrize("flex", [Flex.FLEX0, Flex.FLEX1])
def test_what_the_promises_leave_stays_above_the_level(flex: Flex) -> None:
    watts, level_watts, _ = cut(seconds=60, flex=flex)
    assert min(watts) > level_watts
