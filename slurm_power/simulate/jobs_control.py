"""Keep the billing period's level in the virtual machine with the rule of `slurm_power.plan.site_level`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from slurm_power.model.job import Flex
from slurm_power.plan.curves import capped_performance_ratio, power_ratio_for
from slurm_power.plan.site_level import (
    Offer,
    Past,
    Storage,
    Watts,
    cheapest_caps,
    split_excess,
    start_level,
)
from slurm_power.simulate.cluster import Cluster, Layout, PlantJob, natural_watts
from slurm_power.simulate.jobs_run import Battery

HOUR_SECONDS = 3600.0
# A job without a time limit promised a share of an unknown time: count on one hour, as the planner does.
_ASSUMED_LIMIT_SECONDS = 3600.0
_SOON_SECONDS = 1e-3
_DAY_SECONDS = 86_400.0
_LEAST_HISTORY_DAYS = 14.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSettings:
    """Which levers may be used, and how far.

    ``most_hold_seconds`` bounds a hold beside the job's promise. ``cap_floor_ratio`` is the deepest economic
    cap as a share of the board. ``most_lost_ratio`` is what caps may take of all GPU-hours: the level is
    no lower than where the past would have lost so much. A job is held while its start would take more than
    ``hold_room_ratio`` of what caps can shed. The battery gives no more than it can keep up for
    ``bridge_hours``. ``days``: the level starts at the lowest that would have been held over the last so many
    days, the least of them.
    """

    caps: bool = True
    holds: bool = True
    most_hold_seconds: float = 4.0 * HOUR_SECONDS
    cap_floor_ratio: float = 0.6
    most_lost_ratio: float = 0.02
    hold_room_ratio: float = 1.5
    bridge_hours: float = 1.5
    days: tuple[float, ...] = (28.0, 7.0)


def past_of(layout: Layout, jobs: Sequence[PlantJob], settings: LevelSettings, end_seconds: float) -> Past:
    """The last days before ``end_seconds``, by the hour, as the site's history would tell them."""
    hours = round(24.0 * max(settings.days))
    begin = end_seconds - hours * HOUR_SECONDS
    gpu_jobs, lost = [], []
    for job in jobs:
        if job.eligible_seconds >= end_seconds or job.eligible_seconds + job.work_seconds <= begin:
            continue
        gpu_jobs.append(job)
        floor = floor_ratio(job, settings) if settings.caps else 1.0
        lost.append(
            (job.dynamic_watts - job.watts_at(floor), 1.0 - capped_performance_ratio(job.workload, floor))
        )
    room = natural_watts(layout, gpu_jobs, begin, HOUR_SECONDS, hours, [watts for watts, _ in lost])
    slow = natural_watts(layout, gpu_jobs, begin, HOUR_SECONDS, hours, [ratio for _, ratio in lost])
    used = natural_watts(layout, gpu_jobs, begin, HOUR_SECONDS, hours, [1.0] * len(lost))
    idle = layout.idle_watts[0]
    return Past(
        load_watts=natural_watts(layout, gpu_jobs, begin, HOUR_SECONDS, hours),
        cap_room_watts=room - idle,
        lost_gpus=(slow - idle) / layout.mean_root_weight,
        used_gpus=(used - idle) / layout.mean_root_weight,
        step_hours=1.0,
    )


def floor_ratio(job: PlantJob, settings: LevelSettings) -> float:
    """The deepest cap of a job: its promise, and no deeper than economic caps go."""
    if job.flex is Flex.FLEX0:
        return 1.0
    return max(power_ratio_for(job.workload, 1.0 - job.flex.max_slowdown_ratio), settings.cap_floor_ratio)


class LevelControl:
    """Holds the level of each billing period, looking at it anew each day.

    ``past``: the days before now; ``first_seconds``: when the site's history begins; ``edges_seconds``: when
    billing periods begin, the first of them now, and when the last one ends. ``margin_ratio``: what is
    kept free below the limit of each circuit.
    """

    def __init__(
        self,
        settings: LevelSettings,
        layout: Layout,
        past: Past,
        storage: Storage | None,
        *,
        first_seconds: float,
        edges_seconds: Sequence[float],
        margin_ratio: float,
    ) -> None:
        self.settings = settings
        ceilings = [layout.site.circuits[name].ceiling_watts for name in layout.names]
        self._targets_watts = (1.0 - margin_ratio) * np.array(ceilings)
        self.level_watts = float(layout.idle_watts[0])
        self._storage, self._past, self._first_seconds = storage, past, first_seconds
        self._edges = list(edges_seconds)
        self._next_look_seconds = edges_seconds[0]
        self._with_jobs = False
        # The highest import of the period so far: nothing is gained below it.
        self._reached_watts = 0.0
        self._offers: dict[str, Offer] = {}
        self._capped: set[str] = set()
        self._wake_seconds: list[float] = []
        # Of the hour that runs: seconds, and seconds times load, cap room, GPUs lost at the floor, GPUs used.
        self._hour = np.zeros(5)
        self._seen: list[Watts] = []
        self._known_seconds = edges_seconds[0]

    def next_seconds(self, now_seconds: float) -> float:
        """When the first hold has to end."""
        self._wake_seconds = [at for at in self._wake_seconds if at > now_seconds + _SOON_SECONDS]
        return min(self._wake_seconds, default=math.inf)

    def may_start(self, cluster: Cluster, job: PlantJob) -> bool:
        """Hold a flexible job while its start would take what the caps keep in hand, within its promise."""
        if not self.settings.holds or not self._with_jobs or job.flex is Flex.FLEX0:
            return True
        left_seconds = longest_hold_seconds(job, self.settings) - cluster.held_seconds(job)
        if left_seconds <= _SOON_SECONDS:
            return True
        added_watts = job.dynamic_watts * job.gpus * cluster.layout.mean_root_weight
        room_watts = sum(offer.room_watts for offer in self._offered(cluster))
        spare_watts = self.level_watts + self.settings.hold_room_ratio * room_watts
        if cluster.uncapped_root_watts + added_watts <= spare_watts:
            return True
        self._wake_seconds.append(cluster.now_seconds + left_seconds)
        return False

    def act(self, cluster: Cluster, battery: Battery | None, seconds: float) -> float:
        """Split what is above the level, cap the cheapest jobs, and return the battery's discharge."""
        if cluster.now_seconds >= self._next_look_seconds - _SOON_SECONDS:
            self._look(cluster.now_seconds)
        offers: list[Offer] = []
        if cluster.uncapped_root_watts > self.level_watts:
            offers = self._offered(cluster)
        split = split_excess(
            load_watts=cluster.uncapped_root_watts,
            level_watts=self.level_watts,
            cap_room_watts=sum(offer.room_watts for offer in offers),
            discharge_limit_watts=self._discharge_limit_watts(battery, seconds),
            charge_limit_watts=-battery.possible_watts(-math.inf, seconds) if battery else 0.0,
            charge_ceiling_watts=max(self._reached_watts, float(np.max(self._past.last(24).load_watts))),
        )
        self.level_watts = split.level_watts
        caps = cheapest_caps(split.shed_watts, offers) if split.shed_watts > 0.0 else {}
        self._hold_circuits(cluster, caps)
        for job_id in self._capped - caps.keys():
            if job_id in cluster.running:
                cluster.set_power_ratio(cluster.running[job_id], 1.0)
        for job_id, ratio in caps.items():
            cluster.set_power_ratio(cluster.running[job_id], ratio)
        self._capped = set(caps)
        self._reached_watts = max(self._reached_watts, float(cluster.watts[0]) - split.discharge_watts)
        return split.discharge_watts

    def _discharge_limit_watts(self, battery: Battery | None, seconds: float) -> float:
        """What the battery can keep up for the hours it has to bridge, so that it never ends with a jump."""
        if battery is None:
            return 0.0
        return battery.possible_watts(math.inf, max(seconds, HOUR_SECONDS * self.settings.bridge_hours))

    def _hold_circuits(self, cluster: Cluster, caps: dict[str, float]) -> None:
        """Cap deeper where a circuit below the grid connection would come too near its limit."""
        if not self._capped and not caps and not np.any(cluster.watts[1:] > self._targets_watts[1:]):
            return
        uncapped = cluster.watts.copy()
        for job in cluster.running.values():
            if job.saved_watts > 0.0:
                uncapped += job.saved_watts * job.weights
        for number in np.flatnonzero(uncapped[1:] > self._targets_watts[1:]) + 1:
            offers = [
                replace(offer, weight=float(cluster.running[offer.job_id].weights[number]))
                for offer in self._offered(cluster, always=True)
                if cluster.running[offer.job_id].weights[number] > 0.0
            ]
            over_watts = float(uncapped[number] - self._targets_watts[number])
            for job_id, ratio in cheapest_caps(over_watts, offers).items():
                caps[job_id] = min(ratio, caps.get(job_id, 1.0))

    def end_step(self, cluster: Cluster, load_watts: float) -> None:  # noqa: ARG002
        """Remember, by the hour, what the load was without levers and what caps could have taken."""
        seconds = cluster.now_seconds - self._known_seconds
        offers = self._offered(cluster, always=True)
        seen = [
            1.0,
            cluster.uncapped_root_watts,
            sum(offer.room_watts for offer in offers),
            sum(self._floor_loss(offer) * offer.gpus for offer in offers),
            float(cluster.used_gpus),
        ]
        self._hour += seconds * np.array(seen)
        self._known_seconds = cluster.now_seconds
        if self._hour[0] >= HOUR_SECONDS - _SOON_SECONDS:
            self._seen.append(self._hour[1:] / self._hour[0])
            self._hour = np.zeros(5)

    def _look(self, now_seconds: float) -> None:
        """Begin a billing period when it is time, and choose the level by what is known now."""
        self._next_look_seconds = now_seconds + _DAY_SECONDS
        if self._seen:
            self._past = self._past.followed_by(np.array(self._seen))
            self._seen = []
        if len(self._edges) > 1 and now_seconds >= self._edges[0] - _SOON_SECONDS:
            self._edges.pop(0)
            self._reached_watts = 0.0
        if len(self._edges) > 1:
            self._next_look_seconds = min(self._next_look_seconds, self._edges[0])
        known_days = (now_seconds - self._first_seconds) / _DAY_SECONDS
        self._with_jobs = known_days >= _LEAST_HISTORY_DAYS
        level = start_level(
            self._past,
            self._storage,
            days=self.settings.days,
            most_lost_ratio=self.settings.most_lost_ratio,
        )
        # Without history the battery alone holds a level that begins with the load and only rises.
        level = min(level, float(self._targets_watts[0])) if self._with_jobs else 0.0
        self.level_watts = max(self._reached_watts, level)

    def _floor_loss(self, offer: Offer) -> float:
        return 1.0 - capped_performance_ratio(offer.workload, offer.floor_ratio)

    def _offered(self, cluster: Cluster, *, always: bool = False) -> list[Offer]:
        """Of the flexible jobs that run; they stay the same for as long as a job runs."""
        if not self.settings.caps or not (self._with_jobs or always):
            return []
        found = []
        for job_id, job in cluster.running.items():
            if job.flex is Flex.FLEX0:
                continue
            offer = self._offers.get(job_id)
            if offer is None:
                offer = self._offers[job_id] = Offer(
                    job_id=job_id,
                    workload=job.workload,
                    board_watts=job.board_watts,
                    weight=job.root_weight,
                    gpus=job.gpus,
                    floor_ratio=floor_ratio(job, self.settings),
                )
            found.append(offer)
        return found


def longest_hold_seconds(job: PlantJob, settings: LevelSettings) -> float:
    """The longest hold: the promised slowdown of the time limit, and no longer than the site's own bound."""
    limit = _ASSUMED_LIMIT_SECONDS if job.limit_seconds is None else job.limit_seconds
    return min(settings.most_hold_seconds, job.flex.max_slowdown_ratio * limit)


def level_control(  # noqa: PLR0917  # where, who, when, and with what
    layout: Layout,
    jobs: Sequence[PlantJob],
    edges_seconds: Sequence[float],
    battery: Battery | None,
    settings: LevelSettings,
    margin_ratio: float,
) -> LevelControl:
    """A control for the billing periods between these moments, the first of them now.

    With less than 14 days of history the battery alone is used.
    """
    first = min((job.eligible_seconds for job in jobs), default=0.0)
    storage = None
    if battery is not None:
        storage = Storage(
            power_watts=battery.power_watts,
            energy_kwh=battery.energy_kwh - battery.reserve_kwh,
            round_trip_ratio=battery.round_trip_ratio,
        )
    return LevelControl(
        settings,
        layout,
        past_of(layout, jobs, settings, edges_seconds[0]),
        storage,
        first_seconds=first,
        edges_seconds=edges_seconds,
        margin_ratio=margin_ratio,
    )
