"""The guard in between, the whole plan on its beat, the day's plan with the supply's prices."""

import asyncio
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from slurm_power.config import SiteConfig, load_site
from slurm_power.controller.planning.day_plan import DayPlanDesk
from slurm_power.controller.planning.planning import Planning
from slurm_power.forecast.supply import SupplyAhead
from slurm_power.model.action import HoldJob, SetCap
from slurm_power.model.day_plan import DayPlan
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.class_problem import HOURS, ClassProblem
from tests.config.test_site import GOOD, write
from tests.controller.test_fairness_desk import Memory
from tests.plan.situations import ess_reading, pending, running, situation
from tests.plan.test_class_plan import HOURLY, idle, solved


class Prices:
    """A supply that knows the first two hours."""

    def ahead(
        self, snapshot: Snapshot, circuit: str, *, start_seconds: float, step_seconds: float, steps: int
    ) -> SupplyAhead:
        assert (circuit, step_seconds, steps) == (snapshot.site.root.name, 3600.0, HOURS)
        nothing = (None,) * steps
        return SupplyAhead(
            start_seconds=start_seconds,
            step_seconds=step_seconds,
            limit_watts=(float("inf"),) * steps,
            price_per_kwh=(0.5, -0.02, *nothing[2:]),
            demand_price_per_kw=nothing,
            carbon_g_per_kwh=nothing,
        )


def planner(config: SiteConfig) -> Planning:
    def silent(*_: object, **_more: object) -> None: ...

    return Planning(config, Memory(), supply=Prices(), note=silent, fault=silent)


@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    return load_site(write(tmp_path, GOOD))


def test_holds_come_on_the_beat_and_caps_every_second(config: SiteConfig) -> None:
    planning = planner(config)
    tight = situation(
        import_watts=33_000.0, jobs=(pending("7", 8), running("1", ("c1",))), ess=ess_reading(soc_ratio=0.1)
    )
    plans = [planning.plan(replace(tight), float(second)) for second in range(11)]
    with_holds = [any(isinstance(one, HoldJob) for one in plan.actions) for plan in plans]
    assert [second for second, there in enumerate(with_holds) if there] == [0, 5, 10]
    assert all(any(isinstance(one, SetCap) for one in plan.actions) for plan in plans)


def test_the_days_plan_knows_the_prices_and_reaches_the_release(config: SiteConfig) -> None:
    seen: list[ClassProblem] = []
    queue = idle(tuple(pending(str(n), 8) for n in range(60)))

    def solver(problem: ClassProblem, at: datetime) -> DayPlan:
        seen.append(problem)
        return replace(solved(), made_at=at, deferred={HOURLY: 60})

    async def run() -> None:
        planning = planner(config)
        planning.day = DayPlanDesk(
            config.policy,
            seconds=300.0,
            fault=lambda _subject, _text: None,
            prices=planning.prices,
            solver=solver,
        )
        assert not reasons(planning, queue, 0)
        planning.day.look(queue, 0.0)
        await planning.day.stop()
        assert all("the day's plan" in reason for reason in reasons(planning, queue, 1))
        assert reasons(planning, queue, 10)

    asyncio.run(run())
    assert seen[0].energy_price_per_kwh[:3].tolist() == [0.5, -0.02, config.policy.energy_price_per_kwh]


def reasons(planning: Planning, snapshot: Snapshot, second: int) -> list[str]:
    """Why jobs are held for the plan of the day."""
    found = planning.plan(replace(snapshot), float(second)).actions
    return [one.reason for one in found if isinstance(one, HoldJob) and "day's plan" in one.reason]
