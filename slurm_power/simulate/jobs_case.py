"""A job log on a site, ready to be run: with levers, without, and against what could have been at best."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from slurm_power.model.job import Flex
from slurm_power.model.site import Ess, Site
from slurm_power.plan.curves import expected_gpu_watts
from slurm_power.plan.policy import Policy
from slurm_power.simulate.cluster import Hardware, Layout, PlantJob, gpus_in_use, natural_watts
from slurm_power.simulate.flex_mix import Mix, flex_at, positions
from slurm_power.simulate.job_logs import JobLog, JobLogError
from slurm_power.simulate.jobs_control import LevelControl
from slurm_power.simulate.jobs_level import LevelSettings, level_keeper
from slurm_power.simulate.jobs_planner import Cut, PlannerControl
from slurm_power.simulate.jobs_run import Battery, RunRecord, Window, simulate
from slurm_power.simulate.lp_combined import Bound, Relaxation, combined_bound

LEVERS = frozenset({"ess", "cap", "hold", "gate"})
DAY_SECONDS = 86_400.0
# Archives round times: a log may use more than there is for a moment.
_MOST_OVERLAP_RATIO = 0.25
# Who may start later in the bound: the low-priority users.
DEFERRABLE_RATIO = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The jobs of a log on a machine. ``deferrable`` says, job by job, who may start later in the bound."""

    layout: Layout
    jobs: tuple[PlantJob, ...]
    deferrable: tuple[bool, ...]
    extra_gpus: int
    notes: tuple[str, ...]

    @property
    def first_seconds(self) -> float:
        """When the first job starts."""
        return min(job.eligible_seconds for job in self.jobs)

    @property
    def last_seconds(self) -> float:
        """When the last job ends."""
        return max(job.eligible_seconds + job.work_seconds for job in self.jobs)

    def most_watts(self) -> float:
        """The highest 15-minute mean of the grid connection in the whole log, without control."""
        steps = max(1, int((self.last_seconds - self.first_seconds) // 900.0) + 1)
        return float(np.max(natural_watts(self.layout, self.jobs, self.first_seconds, 900.0, steps)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Levers:
    """What the controller has: the battery's size, which levers, what it has to hold.

    With neither ``limit_watts`` nor ``cuts`` the aim is the peak of each period.
    """

    names: frozenset[str] = LEVERS
    ess_watts: float = 0.0
    ess_kwh: float = 0.0
    round_trip_ratio: float = 0.88
    limit_watts: float | None = None
    cuts: tuple[Cut, ...] = ()
    settings: LevelSettings = field(default_factory=LevelSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """One billing period of a run, in steps of its window; watts of the grid connection."""

    begin_seconds: float
    first: int
    end: int
    bound: Bound | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Both runs and the bound of each period. ``cuts``: events with the limit they came to."""

    without: RunRecord
    controlled: RunRecord
    periods: tuple[Period, ...]
    battery: Battery | None
    aim: str
    limit_watts: float | None
    cuts: tuple[tuple[Cut, float], ...]
    notes: tuple[str, ...]


def populate(  # noqa: PLR0917  # a log, a site, and what neither says
    log: JobLog, site: Site, policy: Policy, hardware: Hardware, mix: Mix, seed: int
) -> Population:
    """Put a log onto a site. Raises JobLogError when it does not fit."""
    try:
        layout = Layout(site, hardware)
    except ValueError as error:
        raise JobLogError([f"--site: {error}"]) from None
    where = positions(((job.user, job.gpus * job.run_seconds) for job in log.jobs), seed)
    too_large = [job for job in log.jobs if job.gpus > layout.gpus]
    if too_large:
        first = max(too_large, key=lambda job: job.gpus)
        raise JobLogError(
            [
                (
                    f"{len(too_large)} jobs need more GPUs than the site has ({layout.gpus}),"
                    f" job {first.job_id} the most ({first.gpus}); a site with more nodes, or --gpus-per-node"
                )
            ]
        )
    jobs = []
    for job in log.jobs:
        watts = job.watts_per_gpu
        if watts is None:
            watts = max(0.0, expected_gpu_watts(job.workload, policy) - policy.idle_gpu_watts)
        jobs.append(
            PlantJob(
                job_id=job.job_id,
                user=job.user,
                account=job.account,
                flex=flex_at(where[job.user], mix) if job.flex is None else job.flex,
                workload=job.workload,
                gpus=job.gpus,
                dynamic_watts=watts,
                submit_seconds=job.submit_seconds,
                eligible_seconds=job.submit_seconds if job.start_seconds is None else job.start_seconds,
                ready_seconds=job.submit_seconds if job.start_seconds is None else job.start_seconds,
                work_seconds=job.run_seconds,
                limit_seconds=job.limit_seconds,
                board_idle_watts=hardware.board_idle_watts,
            )
        )
    notes = list(log.notes)
    if any(job.start_seconds is None for job in log.jobs):
        jobs = _scheduled(layout, jobs)
        notes.append("the log has no start times: the machine's own scheduler has made them")
    used = gpus_in_use(jobs)
    extra = max(0, max(used.values()) - layout.gpus)
    if extra > _MOST_OVERLAP_RATIO * layout.gpus:
        raise JobLogError(
            [
                (
                    f"the log uses up to {layout.gpus + extra} GPUs at once, the site has {layout.gpus};"
                    " a site with more nodes, or --gpus-per-node"
                )
            ]
        )
    if extra:
        for plant_job in jobs:
            plant_job.overlap_gpus = max(0, used[plant_job.eligible_seconds] - layout.gpus)
        notes.append(
            f"the log uses up to {layout.gpus + extra} GPUs at once, the site has {layout.gpus}:"
            " where it did, so many are taken to be there"
        )
    deferrable = tuple(
        where[job.user] < DEFERRABLE_RATIO if job.flex is None else job.flex is not Flex.FLEX0
        for job in log.jobs
    )
    by_id = {job.job_id: may for job, may in zip(log.jobs, deferrable, strict=True)}
    return Population(
        layout=layout,
        jobs=tuple(jobs),
        deferrable=tuple(by_id[job.job_id] for job in jobs),
        extra_gpus=extra,
        notes=tuple(notes),
    )


def _scheduled(layout: Layout, jobs: Sequence[PlantJob]) -> list[PlantJob]:
    """When each job would start on this machine, by its own scheduler, without control."""
    begin = min(job.submit_seconds for job in jobs)
    days = 1 + int((max(job.submit_seconds + job.work_seconds for job in jobs) - begin) // DAY_SECONDS)
    while True:
        window = Window(begin_seconds=begin, step_seconds=DAY_SECONDS, steps=days)
        ran = simulate(layout, jobs, window)
        if all(job.started_seconds is not None for job in ran.jobs):
            break
        days *= 2
    started = {job.job_id: job.started_seconds or 0.0 for job in ran.jobs}
    return [replace(job, eligible_seconds=started[job.job_id]) for job in jobs]


def run_case(
    population: Population, policy: Policy, window: Window, levers: Levers, *, bound: bool = True
) -> Outcome:
    """Run it three times over: as it was, with the levers, and (``bound``) knowing everything beforehand.

    A window of up to 31 days is one billing period, a longer one has those of the calendar (UTC).
    """
    layout, site = population.layout, population.layout.site
    own = next(iter(site.ess.values()), None)
    battery = None
    if "ess" in levers.names and levers.ess_watts > 0.0 and levers.ess_kwh > 0.0:
        battery = Battery(
            circuit=site.root.name if own is None else own.circuit,
            power_watts=levers.ess_watts,
            energy_kwh=levers.ess_kwh,
            round_trip_ratio=levers.round_trip_ratio,
            soc_kwh=0.5 * levers.ess_kwh,
            reserve_kwh=0.0 if own is None else own.reserve_soc_ratio * levers.ess_kwh,
        )
    without = simulate(layout, population.jobs, window, extra_gpus=population.extra_gpus)
    periods = billing_periods(window)
    fixed = levers.limit_watts is not None or bool(levers.cuts)
    edges = [window.begin_seconds + first * window.step_seconds for first, _ in periods]
    settings = replace(levers.settings, caps="cap" in levers.names, holds="hold" in levers.names)
    keeper = None
    if not fixed:
        keeper = level_keeper(
            layout,
            population.jobs,
            [*edges, window.end_seconds],
            None if battery is None else battery.usable,
            settings,
            policy,
        )
    if keeper is None or settings.planner:
        name = "ess" if own is None else own.name
        stored = own or Ess(name=name, circuit=site.root.name, reserve_soc_ratio=0.0, target_soc_ratio=1.0)
        control: LevelControl | PlannerControl = PlannerControl(
            layout,
            policy,
            limit_watts=levers.limit_watts,
            cuts=levers.cuts,
            levers=levers.names,
            most_hold_seconds=levers.settings.most_hold_seconds,
            step_seconds=window.step_seconds,
            ess=stored if battery is not None else None,
            keeper=keeper,
        )
    else:
        control = LevelControl(keeper, layout, margin_ratio=policy.margin_ratio)
    controlled = simulate(layout, population.jobs, window, control, battery, extra_gpus=population.extra_gpus)
    relaxation = Relaxation(
        capped_ratio=0.5 if "cap" in levers.names else 0.0, defer_hours=4 if "hold" in levers.names else 0
    )
    found = []
    for first, end in periods:
        part = Window(
            begin_seconds=window.begin_seconds + first * window.step_seconds,
            step_seconds=window.step_seconds,
            steps=end - first,
        )
        best = _bound(population, part, battery, relaxation) if bound else None
        found.append(Period(begin_seconds=part.begin_seconds, first=first, end=end, bound=best))
    return Outcome(
        without=without,
        controlled=controlled,
        periods=tuple(found),
        battery=battery,
        aim="limit" if fixed else "peak",
        limit_watts=levers.limit_watts,
        cuts=tuple(control.event_limits) if isinstance(control, PlannerControl) else (),
        notes=population.notes,
    )


def _bound(
    population: Population, window: Window, battery: Battery | None, relaxation: Relaxation
) -> Bound | None:
    """None for less than an hour."""
    if window.end_seconds - window.begin_seconds < 3600.0:
        return None
    inside = [
        (job, may)
        for job, may in zip(population.jobs, population.deferrable, strict=True)
        if job.eligible_seconds < window.end_seconds
        and job.eligible_seconds + job.work_seconds > window.begin_seconds
    ]
    return combined_bound(
        population.layout,
        [job for job, _ in inside],
        window,
        deferrable=[may for _, may in inside],
        battery=battery,
        relaxation=relaxation,
    )


def billing_periods(window: Window) -> list[tuple[int, int]]:
    """First and end step of each period."""
    if window.end_seconds - window.begin_seconds <= 31.0 * DAY_SECONDS:
        return [(0, window.steps)]
    months = []
    for step in range(window.steps):
        at = datetime.fromtimestamp(window.begin_seconds + step * window.step_seconds, tz=UTC)
        months.append((at.year, at.month))
    edges = [0, *(step for step in range(1, window.steps) if months[step] != months[step - 1]), window.steps]
    return list(itertools.pairwise(edges))
