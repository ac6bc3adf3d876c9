"""One run of the virtual machine: jobs, battery and a controller, from one moment to another.

The controller is asked at every step and whenever a job starts or ends, since a guard that looks each second
would have acted by then. Steps only say how finely the result is written.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from slurm_power.model.site import Site
from slurm_power.plan import peak_level
from slurm_power.simulate.cluster import Cluster, Layout, PlantJob, Watts


@dataclass(slots=True, kw_only=True)
class Battery:
    """An ESS on a circuit with what is stored in it. Power in watts at its terminals, discharge positive.

    ``soc_kwh`` counts from empty; ``reserve_kwh`` of it is kept for outages. Losses are split evenly both
    ways. ``usable`` is what plans know of it: what lies above the outage reserve.
    """

    circuit: str
    power_watts: float
    energy_kwh: float
    round_trip_ratio: float = 0.88
    soc_kwh: float = 0.0
    reserve_kwh: float = 0.0
    usable: peak_level.Battery = field(init=False)

    def __post_init__(self) -> None:
        """Work out what is usable."""
        self.usable = peak_level.Battery(
            charge_watts=self.power_watts,
            discharge_watts=self.power_watts,
            energy_kwh=self.energy_kwh - self.reserve_kwh,
            charge_ratio=self.efficiency_ratio,
            discharge_ratio=self.efficiency_ratio,
        )

    @property
    def efficiency_ratio(self) -> float:
        """One way."""
        return math.sqrt(self.round_trip_ratio)

    @property
    def stored_kwh(self) -> float:
        """What is stored above the outage reserve."""
        return self.soc_kwh - self.reserve_kwh

    def possible_watts(self, wanted_watts: float, seconds: float) -> float:
        """The nearest to what is wanted that can be kept up for ``seconds`` (negative charges)."""
        hours = max(seconds, 1e-9) / 3600.0
        if wanted_watts >= 0.0:
            return min(wanted_watts, self.usable.discharge_bound_watts(self.stored_kwh, hours))
        return -min(-wanted_watts, self.usable.charge_bound_watts(self.stored_kwh, hours))

    def run(self, watts: float, seconds: float) -> None:
        """Let it discharge (or charge) for so long."""
        if watts == 0.0:
            # What is there stays, also where it is less than the reserve.
            return
        self.soc_kwh = self.reserve_kwh + self.usable.after(self.stored_kwh, watts, seconds / 3600.0)


class Control(Protocol):
    """Who decides. All are asked at the same moments, ``act`` last."""

    def next_seconds(self, now_seconds: float) -> float:
        """A moment beside steps, starts and ends when it wants to be asked; inf for none."""
        ...

    def may_start(self, cluster: Cluster, job: PlantJob) -> bool:
        """Whether a job that has GPUs may start now; False holds it."""
        ...

    def act(self, cluster: Cluster, battery: Battery | None, seconds: float) -> float:
        """Set caps, and return the battery's discharge until asked again, at most ``seconds`` from now."""
        ...

    def end_step(self, cluster: Cluster, load_watts: float) -> None:
        """A step is over: the mean load of the grid connection in it, without the battery."""
        ...


class NoControl:
    """Everything starts when it can and draws what it wants."""

    def next_seconds(self, now_seconds: float) -> float:  # noqa: ARG002
        """Never."""
        return math.inf

    def may_start(self, cluster: Cluster, job: PlantJob) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def act(self, cluster: Cluster, battery: Battery | None, seconds: float) -> float:  # noqa: ARG002
        """Nothing."""
        return 0.0

    def end_step(self, cluster: Cluster, load_watts: float) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is simulated: ``steps`` steps of ``step_seconds`` from ``begin_seconds`` (epoch)."""

    begin_seconds: float
    step_seconds: float
    steps: int

    @property
    def end_seconds(self) -> float:
        """Where it ends."""
        return self.begin_seconds + self.step_seconds * self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What happened. Arrays have one row per step, means over it; watts of circuits include the battery.

    ``load_watts`` is the grid connection without the battery; ``soc_kwh`` is at the end of each step.
    ``jobs`` are all that ran in the window or became ready in it.
    """

    window: Window
    circuit_names: tuple[str, ...]
    circuit_watts: Watts
    load_watts: Watts
    discharge_watts: Watts
    soc_kwh: Watts
    jobs: tuple[PlantJob, ...]


@dataclass(slots=True)
class _Meter:
    """Integrates between events into the steps of the window."""

    window: Window
    circuits: Watts
    discharge: Watts
    soc: Watts
    fed: Watts = field(default_factory=lambda: np.empty(0))

    def add(self, step: int, seconds: float, watts: Watts, discharge_watts: float) -> None:
        share = seconds / self.window.step_seconds
        self.circuits[step] += share * watts
        self.discharge[step] += share * discharge_watts


def simulate(  # noqa: PLR0917  # what there is, then who acts on it
    layout: Layout,
    jobs: Sequence[PlantJob],
    window: Window,
    control: Control | None = None,
    battery: Battery | None = None,
    extra_gpus: int = 0,
) -> RunRecord:
    """Run the jobs (fresh copies are made) through the window.

    A job that started before the window without control and was not done is running when it begins, with what
    is left of its work; what is ready only after the window is ignored. Raises ValueError when the
    machine is too small for those; ``extra_gpus`` as in `Cluster`.
    """
    control = control or NoControl()
    battery = None if battery is None else replace(battery)
    mine = [_fresh(job) for job in jobs if _touches(job, window)]
    cluster = Cluster(layout, window.begin_seconds, extra_gpus)
    _carry_in(cluster, [job for job in mine if job.eligible_seconds < window.begin_seconds])
    coming = sorted(
        (job for job in mine if job.eligible_seconds >= window.begin_seconds),
        key=lambda job: (job.ready_seconds, job.submit_seconds, job.job_id),
    )
    feeds = _feeds(layout, battery)
    circuits = np.zeros((window.steps, len(layout.names)))
    meter = _Meter(window, circuits, np.zeros(window.steps), np.zeros(window.steps))
    arrived = 0
    for step in range(window.steps):
        ends = window.begin_seconds + (step + 1) * window.step_seconds
        while True:
            cluster.finish_due()
            while arrived < len(coming) and coming[arrived].ready_seconds <= cluster.now_seconds:
                cluster.submit(coming[arrived])
                arrived += 1
            if cluster.queue:
                cluster.start_waiting(lambda job: control.may_start(cluster, job))
            left = ends - cluster.now_seconds
            discharge_watts = control.act(cluster, battery, left)
            until = min(ends, cluster.next_end_seconds, control.next_seconds(cluster.now_seconds))
            if arrived < len(coming):
                until = min(until, coming[arrived].ready_seconds)
            seconds = max(0.0, until - cluster.now_seconds)
            if battery is not None:
                battery.run(discharge_watts, seconds)
            meter.add(step, seconds, cluster.watts - discharge_watts * feeds, discharge_watts)
            cluster.advance(max(until, cluster.now_seconds))
            if until >= ends:
                break
        meter.soc[step] = 0.0 if battery is None else battery.soc_kwh
        control.end_step(cluster, circuits[step, 0] + meter.discharge[step] * feeds[0])
    cluster.finish_due()
    cluster.settle_all()
    for job in cluster.queue:
        job.held_seconds, job.held_since_seconds = cluster.held_seconds(job), None
    return RunRecord(
        window=window,
        circuit_names=layout.names,
        circuit_watts=circuits,
        load_watts=circuits[:, 0] + meter.discharge * feeds[0],
        discharge_watts=meter.discharge,
        soc_kwh=meter.soc,
        jobs=tuple(mine),
    )


def _touches(job: PlantJob, window: Window) -> bool:
    after = job.eligible_seconds + job.work_seconds > window.begin_seconds
    return after and job.ready_seconds < window.end_seconds


def _fresh(job: PlantJob) -> PlantJob:
    return replace(
        job, started_seconds=None, ended_seconds=None, lost_seconds=0.0, done_seconds=0.0, held_seconds=0.0
    )


def _carry_in(cluster: Cluster, jobs: Sequence[PlantJob]) -> None:
    for job in sorted(jobs, key=lambda job: (job.eligible_seconds, job.job_id)):
        job.started_seconds = job.eligible_seconds
        job.work_seconds -= cluster.now_seconds - job.eligible_seconds
        if job.gpus <= cluster.free_gpus + cluster.extra_gpus:
            cluster.start(job)
        else:
            raise ValueError(
                f"the jobs that run at the begin need more than the site's {cluster.layout.gpus} GPUs"
            )


def _feeds(layout: Layout, battery: Battery | None) -> Watts:
    """What one watt of the battery takes from each circuit between it and the grid, losses included."""
    found = np.zeros(len(layout.names))
    if battery is None:
        return found
    site: Site = layout.site
    factor = 1.0
    for name in site.path(battery.circuit):
        found[layout.names.index(name)] = factor
        parent = site.circuits[name].parent
        factor *= 1.0 if parent is None else site.circuits[parent].overhead_ratio
    return found
