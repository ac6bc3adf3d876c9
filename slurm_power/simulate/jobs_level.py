"""The billing period's level in the virtual machine: the past it is found in, and when it is looked at anew.

The same rule as in the controller (`slurm_power.plan.site_level`); whoever holds the level asks here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from slurm_power.model.job import Flex
from slurm_power.model.jobs_level import JobsLevel
from slurm_power.plan.curves import CAP_CURVES, capped_performance_ratio, read_backwards
from slurm_power.plan.peak_level import Battery
from slurm_power.plan.policy import Policy
from slurm_power.plan.site_level import (
    LevelRule,
    Offer,
    Past,
    PeakPrice,
    Watts,
    most_price_per_kwh,
    start_level,
)
from slurm_power.simulate.cluster import Cluster, Layout, PlantJob, natural_watts

HOUR_SECONDS = 3600.0
SOON_SECONDS = 1e-3
# The limit of a GPU that nobody has capped, at least; a log does not say it.
DEFAULT_CAP_WATTS = 700.0
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSettings(LevelRule):
    """Which levers may be used, and how far.

    ``planner``: the planner itself decides, on snapshots, as in the controller; False: the rule by itself,
    ten times as fast. ``most_hold_seconds`` bounds a hold beside the job's promise.
    ``demand_price_per_kw``: what a kW of a period's peak costs; None: nobody knows, then only the rule's own
    bounds count.
    """

    planner: bool = True
    caps: bool = True
    holds: bool = True
    most_hold_seconds: float = 4.0 * HOUR_SECONDS
    demand_price_per_kw: float | None = None


def past_of(  # where, who, how far, what work is worth, and when
    layout: Layout, jobs: Sequence[PlantJob], settings: LevelSettings, policy: Policy, end_seconds: float
) -> Past:
    """The last days before ``end_seconds``, by the hour, as the site's history would tell them."""
    hours = round(24.0 * max(settings.days))
    begin = end_seconds - hours * HOUR_SECONDS
    gpu_jobs, lost, money = [], [], []
    for job in jobs:
        if job.eligible_seconds >= end_seconds or job.eligible_seconds + job.work_seconds <= begin:
            continue
        gpu_jobs.append(job)
        floor = floor_ratio(job, settings, policy) if settings.caps else 1.0
        slowdown = 1.0 - capped_performance_ratio(job.workload, floor)
        lost.append((job.dynamic_watts - job.watts_at(floor), slowdown))
        money.append(slowdown * worth_of(job, policy))
    room = natural_watts(layout, gpu_jobs, begin, HOUR_SECONDS, hours, [watts for watts, _ in lost])
    slow = natural_watts(layout, gpu_jobs, begin, HOUR_SECONDS, hours, [ratio for _, ratio in lost])
    used = natural_watts(layout, gpu_jobs, begin, HOUR_SECONDS, hours, [1.0] * len(lost))
    dear = natural_watts(layout, gpu_jobs, begin, HOUR_SECONDS, hours, money)
    idle = layout.idle_watts[0]
    return Past(
        load_watts=natural_watts(layout, gpu_jobs, begin, HOUR_SECONDS, hours),
        cap_room_watts=room - idle,
        lost_gpus=(slow - idle) / layout.mean_root_weight,
        used_gpus=(used - idle) / layout.mean_root_weight,
        lost_money=(dear - idle) / layout.mean_root_weight * policy.value_per_gpu_hour,
        step_hours=1.0,
    )


def floor_ratio(job: PlantJob, settings: LevelSettings, policy: Policy) -> float:
    """The deepest cap of a job: its promise, the cliff, and no deeper than economic caps go."""
    if job.flex is Flex.FLEX0:
        return 1.0
    promise = read_backwards(CAP_CURVES[job.workload], 1.0 - job.flex.max_slowdown_ratio)
    cliff = policy.cap_floor_ratio * max(DEFAULT_CAP_WATTS, job.board_watts) / job.board_watts
    return min(1.0, max(promise, cliff, settings.cap_floor_ratio))


def worth_of(job: PlantJob, policy: Policy) -> float:
    """What an hour of a job's work counts against one of flex2, by class and account."""
    weight: float = getattr(policy, f"{job.flex.value}_weight")
    return weight * policy.weights_of_accounts().get(job.account, 1.0)


class LevelKeeper:
    """Looks at the level of each billing period anew each day; in between it only rises.

    ``past``: the days before now; ``first_seconds``: when the site's history begins; ``edges_seconds``: when
    billing periods begin, the first of them now, and when the last one ends. ``most_watts``: no level above
    it is of use.
    """

    def __init__(
        self,
        settings: LevelSettings,
        policy: Policy,
        past: Past,
        battery: Battery | None,
        *,
        first_seconds: float,
        edges_seconds: Sequence[float],
        most_watts: float,
    ) -> None:
        self.settings, self._policy = settings, policy
        self.level_watts = 0.0
        # Caps dearer than this do not pay for the level; None: nobody knows what a peak costs.
        self.most_price_per_kwh: float | None = None
        self.with_jobs = False
        # The highest import of the period so far: nothing is gained below it.
        self._reached_watts = 0.0
        self._battery, self._past, self._first_seconds = battery, past, first_seconds
        self._edges = list(edges_seconds)
        self._next_look_seconds = edges_seconds[0]
        self._most_watts = most_watts
        self._offers: dict[str, Offer] = {}
        # Of the hour that runs: seconds, and seconds times what a row of the past has.
        self._hour = np.zeros(6)
        self._seen: list[Watts] = []
        self._known_seconds = edges_seconds[0]

    @property
    def charge_ceiling_watts(self) -> float:
        """The most that came without us lately: a recharge must not make a peak of its own."""
        return max(self._reached_watts, float(np.max(self._past.last(24).load_watts)))

    def imported(self, watts: float, level_watts: float) -> None:
        """So much was drawn from the grid; the level is at least ``level_watts`` from now on."""
        self.level_watts = max(self.level_watts, level_watts)
        self._reached_watts = max(self._reached_watts, watts)

    def jobs_level(self, at: datetime, period: str) -> JobsLevel:
        """The level as the planner takes it."""
        return JobsLevel(
            made_at=at,
            valid_seconds=60.0,
            period=period,
            level_watts=self.level_watts,
            most_price_per_kwh=self.most_price_per_kwh,
            cap_floor_ratio=self.settings.cap_floor_ratio,
            hold_room_ratio=self.settings.hold_room_ratio,
        )

    def look(self, now_seconds: float) -> None:
        """Begin a billing period when it is time, and once a day choose the level by what is known."""
        if now_seconds < self._next_look_seconds - SOON_SECONDS:
            return
        self._next_look_seconds = now_seconds + _DAY_SECONDS
        if self._seen:
            self._past = self._past.followed_by(np.array(self._seen))
            self._seen = []
        if len(self._edges) > 1 and now_seconds >= self._edges[0] - SOON_SECONDS:
            self._edges.pop(0)
            self._reached_watts = 0.0
        if len(self._edges) > 1:
            self._next_look_seconds = min(self._next_look_seconds, self._edges[0])
        known_days = (now_seconds - self._first_seconds) / _DAY_SECONDS
        self.with_jobs = known_days >= self.settings.least_days
        price = None
        if self.settings.demand_price_per_kw is not None:
            hours = max(0.0, self._edges[0] - now_seconds) / HOUR_SECONDS
            price = PeakPrice(per_kw=self.settings.demand_price_per_kw, hours_left=hours)
        level = start_level(self._past, self._battery, self.settings, price)
        # Without history the battery alone holds a level that begins with the load and only rises.
        level = min(level, self._most_watts) if self.with_jobs else 0.0
        self.level_watts = max(self._reached_watts, level)
        if price is not None:
            self.most_price_per_kwh = most_price_per_kwh(self._past, self.level_watts, price)

    def end_step(self, cluster: Cluster) -> None:
        """Remember, by the hour, what the load was without levers and what caps could have taken."""
        seconds = cluster.now_seconds - self._known_seconds
        offers = self.offered(cluster, always=True)
        lost = [self._floor_loss(offer) * offer.gpus for offer in offers]
        seen = [
            1.0,
            cluster.uncapped_root_watts,
            sum(offer.room_watts for offer in offers),
            sum(lost),
            float(cluster.used_gpus),
            self._policy.value_per_gpu_hour
            * sum(gpus * offer.worth for gpus, offer in zip(lost, offers, strict=True)),
        ]
        self._hour += seconds * np.array(seen)
        self._known_seconds = cluster.now_seconds
        if self._hour[0] >= HOUR_SECONDS - SOON_SECONDS:
            self._seen.append(self._hour[1:] / self._hour[0])
            self._hour = np.zeros(6)

    def _floor_loss(self, offer: Offer) -> float:
        return 1.0 - capped_performance_ratio(offer.workload, offer.floor_ratio)

    def offered(self, cluster: Cluster, *, always: bool = False) -> list[Offer]:
        """Of the flexible jobs that run; they stay the same for as long as a job runs."""
        if not self.settings.caps or not (self.with_jobs or always):
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
                    floor_ratio=floor_ratio(job, self.settings, self._policy),
                    worth=worth_of(job, self._policy),
                )
            found.append(offer)
        return found


def level_keeper(  # noqa: PLR0917  # where, who, when, and with what
    layout: Layout,
    jobs: Sequence[PlantJob],
    edges_seconds: Sequence[float],
    battery: Battery | None,
    settings: LevelSettings,
    policy: Policy,
) -> LevelKeeper:
    """A keeper for the billing periods between these moments, the first of them now."""
    return LevelKeeper(
        settings,
        policy,
        past_of(layout, jobs, settings, policy, edges_seconds[0]),
        battery,
        first_seconds=min((job.eligible_seconds for job in jobs), default=0.0),
        edges_seconds=edges_seconds,
        most_watts=(1.0 - policy.margin_ratio) * layout.site.root.ceiling_watts,
    )
