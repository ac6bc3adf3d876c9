"""The planner against a site in plain numbers, cycle after cycle: peaks are held, and nothing flaps."""

import math
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import SetCap, SetDischarge
from slurm_power.model.job import Flex, Job
from slurm_power.model.jobs_level import JobsLevel
from slurm_power.model.outlook import EssOutlook
from tests.plan.situations import AT, ess_reading, running, site, situation
from tests.plan.test_planner_properties import DEFAULT_CAP_WATTS, NODES, floor_watts, plan

LIMIT_WATTS = 20_000.0
BASE_WATTS = 3000.0
# 32 GPUs; a watt per GPU is 32 W at the grid connection (no losses in the small site).
FLEXES = (Flex.FLEX0, Flex.FLEX1, Flex.FLEX2, Flex.FLEX3)


@dataclass(slots=True)
class ClosedLoop:
    """Four jobs, a battery and a meter that is one second late, under the planner; one step is a second."""

    energy_rating_kwh: float
    noise_ratio: float = 0.004
    limit_watts: float = LIMIT_WATTS
    soc_ratio: float = 0.6
    level: JobsLevel | None = None
    levers: LeverState = field(default_factory=LeverState)
    imports_watts: list[float] = field(default_factory=list)
    socs: list[float] = field(default_factory=list)
    changes_at: list[int] = field(default_factory=list)
    caps_after: list[dict[str, float]] = field(default_factory=list)

    def run(self, demand_watts: list[float]) -> None:
        """``demand_watts``: what every GPU would draw, second by second."""
        jobs = tuple(
            running(str(n), (node,), flex=flex)
            for n, (node, flex) in enumerate(zip(NODES, FLEXES, strict=True))
        )
        loads: deque[float] = deque(maxlen=3)
        late: tuple[float, dict[str, float]] | None = None
        for second, demand in enumerate(demand_watts):
            at = AT + timedelta(seconds=second)
            discharge_watts = self._battery()
            draws = {
                job.job_id: min(demand, cap.cap_watts)
                if (cap := self.levers.caps.get(job.job_id))
                else demand
                for job in jobs
            }
            wobble = 1.0 + self.noise_ratio * math.sin(1.7 * second)
            load_watts = (BASE_WATTS + 8.0 * sum(draws.values())) * wobble
            self.imports_watts.append(load_watts - discharge_watts)
            self.socs.append(self.soc_ratio)
            if late is not None:
                self._step(at, jobs, late, tuple(loads), discharge_watts)
            loads.append(load_watts)
            late = (self.imports_watts[-1], draws)
            self.caps_after.append({job_id: cap.cap_watts for job_id, cap in self.levers.caps.items()})

    def turns(self, *, since: int) -> int:
        """How often a cap changed the other way than the last time."""
        found = 0
        for job_id in {job_id for caps in self.caps_after for job_id in caps}:
            series = [caps.get(job_id, DEFAULT_CAP_WATTS) for caps in self.caps_after[since:]]
            moves = [new - old for old, new in pairwise(series) if new != old]
            found += sum(first * then < 0.0 for first, then in pairwise(moves))
        return found

    def _battery(self) -> float:
        watts = self.levers.setpoints.get("battery", 0.0) if self.energy_rating_kwh else 0.0
        if watts > 0.0 and self.soc_ratio <= 0.0:
            watts = 0.0
        if self.energy_rating_kwh:
            self.soc_ratio -= watts / 3_600_000.0 / self.energy_rating_kwh
        return watts

    def _step(
        self,
        at: datetime,
        jobs: tuple[Job, ...],
        late: tuple[float, dict[str, float]],
        recent_load_watts: tuple[float, ...],
        discharge_watts: float,
    ) -> None:
        import_watts, draws = late
        before_watts = self.imports_watts[-3] if len(self.imports_watts) > 2 else import_watts
        view = self.levers.view(at)
        seen = situation(
            of=site(grid_limit_watts=self.limit_watts, with_ess=self.energy_rating_kwh > 0.0),
            import_watts=import_watts,
            rack_watts=(9000.0, 9000.0),
            gpu_watts=draws,
            jobs=jobs,
            ess=ess_reading(
                discharge_watts=discharge_watts,
                soc_ratio=self.soc_ratio,
                energy_rating_kwh=self.energy_rating_kwh,
            ),
            caps=dict(view.caps),
            setpoint_watts=view.setpoints.get("battery", 0.0),
            recent_load_watts=recent_load_watts,
            lasting_watts={"grid": min(import_watts, before_watts)},
        )
        level, outlook = self.level, None
        if level is not None:
            level = replace(level, made_at=at)
            outlook = EssOutlook(
                made_at=at, valid_seconds=60.0, period=level.period, level_watts=level.level_watts
            )
        for action in plan(replace(seen, at=at, jobs_level=level, outlook=outlook)).actions:
            if isinstance(action, SetCap):
                if self.levers.capped(action, draws[action.job_id], at):
                    self.changes_at.append(round((at - AT).total_seconds()))
            elif isinstance(action, SetDischarge):
                self.levers.discharged(action)


# No battery, one that empties on the way, one that carries the whole peak.
batteries = pytest.mark.parametrize("energy_rating_kwh", [0.0, 0.5, 20.0])
peaks = pytest.mark.parametrize("peak_watts", [560.0, 600.0, 650.0])


@batteries
@peaks
def test_a_lasting_peak_is_held_without_flapping(energy_rating_kwh: float, peak_watts: float) -> None:
    loop = ClosedLoop(energy_rating_kwh=energy_rating_kwh)
    loop.run([400.0] * 20 + [peak_watts] * 280)
    highest_watts = max(loop.imports_watts[25:])
    assert highest_watts <= LIMIT_WATTS, f"{highest_watts:.0f} W"
    assert min(loop.socs) >= 0.2 - 0.01
    # A battery that empties hands over in small steps one way; a cap that turns round flaps.
    assert loop.turns(since=200) == 0
    assert sum(second >= 200 for second in loop.changes_at) <= 12, loop.changes_at
    if energy_rating_kwh < 1.0:
        assert loop.caps_after[-1], "only caps could have held this"
    assert all("0" not in caps for caps in loop.caps_after), "flex0 was capped"


@batteries
@peaks
def test_all_caps_are_lifted_when_the_demand_falls(energy_rating_kwh: float, peak_watts: float) -> None:
    loop = ClosedLoop(energy_rating_kwh=energy_rating_kwh)
    loop.run([400.0] * 20 + [peak_watts] * 180 + [200.0] * 100)
    if energy_rating_kwh == 0.0:
        assert loop.caps_after[199]
    assert loop.caps_after[-1] == {}
    assert max(loop.imports_watts[25:]) <= LIMIT_WATTS


def test_an_impossible_peak_still_gets_all_that_was_promised_and_no_more() -> None:
    loop = ClosedLoop(energy_rating_kwh=0.0, noise_ratio=0.0, limit_watts=15_000.0)
    loop.run([300.0] * 20 + [700.0] * 60)
    assert loop.imports_watts[-1] > loop.limit_watts
    jobs = {str(n): running(str(n), (NODES[n],), flex=flex) for n, flex in enumerate(FLEXES)}
    floors = {job_id: floor_watts(job, 700.0) for job_id, job in jobs.items() if job.flex is not Flex.FLEX0}
    assert loop.caps_after[-1] == pytest.approx(floors)
