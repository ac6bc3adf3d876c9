"""One grid event over a mix of running jobs, minute by minute: caps and pauses, a battery, the recovery.

Time 0 is the start of the event. Before it every job is uncapped; the first caps are written just so much
earlier that the draw is at the target at second 0. After it caps are lifted in steps. The battery is full
at the start and is recharged some other time: charging right after the event would be a rebound.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from slurm_power.model.job import Flex
from slurm_power.plan.allocation import Floats
from slurm_power.plan.ess_spread import water_level
from slurm_power.plan.lp_caps import Bound, JobPoints, bound
from slurm_power.plan.power_cut import PowerCut, cut_power
from slurm_power.plan.response import CapCurve, Response, Setting
from slurm_power.simulate.event_files import MixJob

FLOOR_RATIOS = {Flex.FLEX0: 0.99, Flex.FLEX1: 0.90, Flex.FLEX2: 0.75, Flex.FLEX3: 0.50}
# So much is kept above a floor, or rounding would read as a breach.
_FLOOR_HEADROOM = 1e-6
MINUTE_SECONDS = 60
# From an order to the moment at which power begins to move on the last node, and how it moves then. The
# first is the goal for the median on a live site, with room; the regulator itself takes about 0.1 s.
CAP_DEAD_TIME_SECONDS = 1.0
CAP_TIME_CONSTANT_SECONDS = 0.3
# Draw counts as on target within this much of it; caps are written so early that it is ten times closer.
ON_TARGET_RATIO = 0.01
_EARLY_RATIO = 0.001
# How fast the draw at the meter rises again, as a share of the uncapped draw each minute.
RECOVERY_STEP_RATIO = 0.05
_MINUTES_AROUND = 5
_RAMP_STEP_SECONDS = 10
_TINY_WATTS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSpec:
    """What is asked for: less than ``1 - cut_ratio`` of the uncapped draw for so many whole minutes.

    The target falls from the uncapped draw to that within the first ``ramp_seconds`` of the event. The
    battery gives ``ess_watt_hours`` at the meter at up to ``ess_watts``.
    """

    cut_ratio: float
    minutes: int
    ramp_seconds: float = 0.0
    ess_watts: float = 0.0
    ess_watt_hours: float = 0.0
    ess_round_trip_ratio: float = 0.88


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened, in columns: ``(minutes, jobs)`` or ``(minutes,)``, minute i beginning at ``seconds[i]``.

    ``cap_watts`` is NaN where no GPU of the job runs. ``target_watts`` is NaN outside the event; it and
    ``ess_discharge_watts`` are means over the minute. ``shortfall_watts`` is the most by which the draw at
    the meter passes the target, all jobs at their floors.
    """

    jobs: tuple[MixJob, ...]
    spec: EventSpec
    uncapped_watts: float
    target_watts: Floats
    seconds: Floats
    job_watts: Floats
    cap_watts: Floats
    performance_ratios: Floats
    ess_discharge_watts: Floats
    last: PowerCut
    alternating: tuple[str, ...]
    shortfall_watts: float
    lead_seconds: float
    time_to_target_seconds: float | None
    bound: Bound = field(repr=False)

    @property
    def grid_import_watts(self) -> Floats:
        """Draw at the meter in each minute: all GPUs, less the battery's discharge."""
        total: Floats = self.job_watts.sum(axis=1) - self.ess_discharge_watts
        return total


def responses_of(jobs: Sequence[MixJob], curves: Mapping[str, CapCurve]) -> list[Response]:
    """What each job offers, with the floor of its flex class."""
    return [
        Response(
            curve=curves[job.workload], gpus=job.gpus, floor_ratio=FLOOR_RATIOS[job.flex] + _FLOOR_HEADROOM
        )
        for job in jobs
    ]


def weights_of(jobs: Sequence[MixJob]) -> list[float]:
    """What a job's performance counts: its GPUs times its priority."""
    return [job.gpus * job.priority for job in jobs]


def simulate_event(jobs: Sequence[MixJob], curves: Mapping[str, CapCurve], spec: EventSpec) -> Event:
    """Run one event. The order of the jobs changes nothing but the order of the columns."""
    by_name = sorted(range(len(jobs)), key=lambda index: jobs[index].name)
    ordered = [jobs[index] for index in by_name]
    run = _Run(ordered, curves, spec)
    minutes = list(run.minutes())
    columns = [int(index) for index in np.argsort(by_name)]
    table = np.array([minute.settings for minute in minutes])[:, columns, :]
    return Event(
        jobs=tuple(jobs),
        spec=spec,
        uncapped_watts=run.uncapped_watts,
        target_watts=np.array([minute.target_watts for minute in minutes]),
        seconds=np.array([minute.second for minute in minutes], dtype=np.float64),
        job_watts=table[:, :, 0],
        cap_watts=table[:, :, 1],
        performance_ratios=table[:, :, 2],
        ess_discharge_watts=np.array([minute.ess_discharge_watts for minute in minutes]),
        last=run.reordered_last(columns),
        alternating=tuple(job.name for job in jobs if job.name in run.alternating),
        shortfall_watts=run.shortfall_watts,
        lead_seconds=run.lead_seconds,
        time_to_target_seconds=None if run.shortfall_watts > 0.0 else run.time_to_target_seconds,
        bound=run.bound(),
    )


@dataclass(frozen=True, slots=True)
class _Minute:
    """``settings`` are (watts, cap, performance) of each job."""

    second: int
    target_watts: float
    settings: list[tuple[float, float, float]]
    ess_discharge_watts: float = 0.0


class _Run:
    """The event as it goes: plans are made once for each budget."""

    def __init__(self, jobs: Sequence[MixJob], curves: Mapping[str, CapCurve], spec: EventSpec) -> None:
        self.alternating: set[str] = set()
        self.shortfall_watts = 0.0
        self._jobs = jobs
        self._spec = spec
        self._responses = responses_of(jobs, curves)
        self._weights = weights_of(jobs)
        self._uncapped = [response.uncapped() for response in self._responses]
        self.uncapped_watts = self._total(self._uncapped)
        self._cut_watts = spec.cut_ratio * self.uncapped_watts
        self._target_watts = self.uncapped_watts - self._cut_watts
        self._plans: dict[float, PowerCut] = {}
        self._last: PowerCut | None = None
        self._level_watts = self._ess_level()

    @property
    def lead_seconds(self) -> float:
        """How long before the start the first caps are written; a ramp that starts at 0 needs no lead."""
        if self._spec.ramp_seconds > 0.0:
            return 0.0
        return float(math.ceil(self._settle_seconds(_EARLY_RATIO)))

    @property
    def time_to_target_seconds(self) -> float:
        """From the first cap written until the draw is within 1 % of the target."""
        short_of = max(0.0, 1.0 - ON_TARGET_RATIO * self._target_watts / self._cut_watts)
        return max(self._settle_seconds(ON_TARGET_RATIO), self._spec.ramp_seconds * short_of)

    def _settle_seconds(self, within_ratio: float) -> float:
        ratio = self._cut_watts / (within_ratio * self._target_watts)
        return CAP_DEAD_TIME_SECONDS + CAP_TIME_CONSTANT_SECONDS * math.log(max(1.0, ratio))

    def reordered_last(self, columns: list[int]) -> PowerCut:
        """The plan of the event's last minute, its jobs in another order."""
        assert self._last is not None
        return PowerCut(
            settings=tuple(self._last.settings[index] for index in columns),
            watts=self._last.watts,
            shortfall_watts=self._last.shortfall_watts,
            price_per_watt=self._last.price_per_watt,
        )

    def bound(self) -> Bound:
        """What the linear program says for the same targets."""
        points = [
            JobPoints(
                watts=tuple(
                    watts * response.gpus for watts in (*response.curve.gpu_watts, response.paused_gpu_watts)
                ),
                performance_ratios=(*response.curve.performance_ratios, 0.0),
                weight=weight,
                floor_ratio=FLOOR_RATIOS[job.flex],
            )
            for job, response, weight in zip(self._jobs, self._responses, self._weights, strict=True)
        ]
        counted: dict[float, int] = {}
        for minute in range(self._spec.minutes):
            watts = self._minute_target(minute)
            counted[watts] = counted.get(watts, 0) + 1
        return bound(
            points,
            list(counted.items()),
            ess_watts=self._spec.ess_watts,
            ess_watt_hours=self._spec.ess_watt_hours,
        )

    def minutes(self) -> Iterator[_Minute]:
        """All minutes: before, the event, the recovery, after."""
        end = self._spec.minutes * MINUTE_SECONDS
        for minute in range(-_MINUTES_AROUND, -1):
            yield self._free_minute(minute * MINUTE_SECONDS)
        yield self._lead_in()
        grid_watts, ess_watt_hours = 0.0, self._spec.ess_watt_hours
        for minute in range(self._spec.minutes):
            done = self._event_minute(minute)
            grid_watts = sum(watts for watts, _, _ in done.settings) - done.ess_discharge_watts
            ess_watt_hours -= done.ess_discharge_watts / 60.0
            yield done
        second = end
        for row in self._recovery(grid_watts, end, ess_watt_hours):
            yield row
            second = row.second + MINUTE_SECONDS
        for minute in range(_MINUTES_AROUND):
            yield self._free_minute(second + minute * MINUTE_SECONDS)

    def _free_minute(self, second: int) -> _Minute:
        return _Minute(second, math.nan, self._rows(self._uncapped))

    def _lead_in(self) -> _Minute:
        """The last minute before the event: at its end the caps of the first one come down."""
        lead = self.lead_seconds
        moving = max(0.0, lead - CAP_DEAD_TIME_SECONDS)
        lag = CAP_TIME_CONSTANT_SECONDS * -math.expm1(-moving / CAP_TIME_CONSTANT_SECONDS)
        share = (moving - lag) / MINUTE_SECONDS if lead else 0.0
        after = self._event_minute(0)
        rows = [
            (
                watts + share * (to_watts - watts),
                # A job that is going to be paused keeps its cap until then.
                cap if math.isnan(to_cap) else cap + lead / MINUTE_SECONDS * (to_cap - cap),
                performance + share * (to_performance - performance),
            )
            for (watts, cap, performance), (to_watts, to_cap, to_performance) in zip(
                self._rows(self._uncapped), after.settings, strict=True
            )
        ]
        return _Minute(-MINUTE_SECONDS, math.nan, rows)

    def _target_at(self, second: float) -> float:
        ramp = self._spec.ramp_seconds
        return self.uncapped_watts - self._cut_watts * (min(1.0, second / ramp) if ramp > 0.0 else 1.0)

    def _moments(self, minute: int) -> list[float]:
        """Targets within a minute, each for an equal part of it."""
        begin = minute * MINUTE_SECONDS
        if begin >= self._spec.ramp_seconds:
            return [self._target_watts]
        middle = _RAMP_STEP_SECONDS / 2
        return [self._target_at(begin + at + middle) for at in range(0, MINUTE_SECONDS, _RAMP_STEP_SECONDS)]

    def _minute_target(self, minute: int) -> float:
        moments = self._moments(minute)
        return sum(moments) / len(moments)

    def _recovery_targets(self) -> list[float]:
        step = RECOVERY_STEP_RATIO * self.uncapped_watts
        count = math.ceil(self._cut_watts / step - _TINY_WATTS) - 1
        return [self._target_watts + step * (number + 1) for number in range(count)]

    def _ess_level(self) -> float:
        """The draw of all GPUs that the battery holds up: the same in each minute that it feeds.

        The minutes after the event count too, since what the battery has carried must not come back at once;
        but not where the event needs all it has to be kept at all.
        """
        event = [
            (watts, 1.0 / len(self._moments(minute)) / 60.0)
            for minute in range(self._spec.minutes)
            for watts in self._moments(minute)
        ]
        recovery = [(watts, 1.0 / 60.0) for watts in self._recovery_targets()]
        spec, most_watts = self._spec, self.uncapped_watts
        with_recovery, event_only = (
            water_level(moments[:, 0], moments[:, 1], spec.ess_watts, spec.ess_watt_hours, most_watts)
            for moments in (np.array(event + recovery), np.array(event))
        )
        return max(with_recovery, min(event_only, self._plan(0.0).watts))

    def _discharge(self, target_watts: float) -> float:
        return min(max(0.0, self._level_watts - target_watts), self._spec.ess_watts)

    def _event_minute(self, minute: int) -> _Minute:
        parts = [self._moment(target) for target in self._moments(minute)]
        rows = np.array([rows for rows, _ in parts]).mean(axis=0)
        return _Minute(
            minute * MINUTE_SECONDS,
            self._minute_target(minute),
            [(float(watts), float(cap), float(ratio)) for watts, cap, ratio in rows],
            sum(discharge for _, discharge in parts) / len(parts),
        )

    def _moment(self, target_watts: float) -> tuple[list[tuple[float, float, float]], float]:
        """The jobs' rows and the battery's discharge under one target; keeps the worst shortfall."""
        discharge = self._discharge(target_watts)
        plan = self._plan(target_watts + discharge)
        self._last = plan
        discharge = min(discharge, max(0.0, plan.watts - target_watts))
        # A milliwatt is rounding.
        above_watts = plan.watts - discharge - target_watts
        if above_watts > 1e-3:
            self.shortfall_watts = max(self.shortfall_watts, above_watts)
        self.alternating |= {
            job.name for job, one in zip(self._jobs, plan.settings, strict=True) if one.alternates
        }
        return self._rows(plan.settings), discharge

    def _plan(self, budget_watts: float) -> PowerCut:
        found = self._plans.get(budget_watts)
        if found is None:
            found = self._plans[budget_watts] = cut_power(self._responses, self._weights, budget_watts)
        return found

    def _recovery(self, grid_watts: float, second: int, ess_watt_hours: float) -> Iterator[_Minute]:
        """Raise the draw at the meter by one step each minute until everything is as before.

        The battery goes on as long as what it carried is more than one step. No job gets less than it had
        in the minute before.
        """
        assert self._last is not None
        step = RECOVERY_STEP_RATIO * self.uncapped_watts
        settings: Sequence[Setting] = self._last.settings
        while grid_watts + step < self.uncapped_watts - _TINY_WATTS:
            target_watts = grid_watts + step
            budget_watts = target_watts + self._discharge(target_watts)
            settings = cut_power(self._at_least(settings), self._weights, budget_watts).settings
            if self._total(settings) < budget_watts - _TINY_WATTS:
                settings = self._lifted(settings, budget_watts)
            watts = self._total(settings)
            discharge = min(max(0.0, watts - target_watts), self._spec.ess_watts, 60.0 * ess_watt_hours)
            ess_watt_hours -= discharge / 60.0
            yield _Minute(second, math.nan, self._rows(settings), discharge)
            second += MINUTE_SECONDS
            # A job that cannot follow in so small a step goes back with the last one.
            grid_watts = max(target_watts, watts - discharge)

    def _at_least(self, settings: Sequence[Setting]) -> list[Response]:
        """The jobs with what they have now as their floor."""
        return [
            replace(response, floor_ratio=min(1.0, max(response.floor_ratio, one.performance_ratio)))
            for response, one in zip(self._responses, settings, strict=True)
        ]

    def _lifted(self, settings: Sequence[Setting], budget_watts: float) -> list[Setting]:
        """Lift all caps as far as the budget allows, where a lift brings watts and no performance."""
        low, high = 0.0, 1.0
        best = list(settings)
        for _ in range(30):
            share = (low + high) / 2.0
            raised = [
                response.setting(
                    one.cap_watts + share * (response.curve.caps_watts[-1] - one.cap_watts),
                    one.paused_gpus,
                )
                for one, response in zip(settings, self._responses, strict=True)
            ]
            if self._total(raised) <= budget_watts:
                low, best = share, raised
            else:
                high = share
        return best

    def _total(self, settings: Sequence[Setting]) -> float:
        return sum(
            one.gpu_watts * response.gpus for one, response in zip(settings, self._responses, strict=True)
        )

    def _rows(self, settings: Sequence[Setting]) -> list[tuple[float, float, float]]:
        return [
            (
                one.gpu_watts * job.gpus,
                one.cap_watts if one.paused_gpus < job.gpus else math.nan,
                one.performance_ratio,
            )
            for one, job in zip(settings, self._jobs, strict=True)
        ]
