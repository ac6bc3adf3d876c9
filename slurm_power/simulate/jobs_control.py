"""Keep the billing period's level in the virtual machine with the rule of `slurm_power.plan.site_level`."""

import math
from dataclasses import dataclass, field

import numpy as np

from slurm_power.model.job import Flex
from slurm_power.plan.curves import power_ratio_for
from slurm_power.plan.holds import longest_hold_seconds
from slurm_power.plan.site_level import Offer, Storage, Watts, cheapest_caps, split_excess, start_level
from slurm_power.simulate.cluster import Cluster, PlantJob
from slurm_power.simulate.jobs_run import Battery


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSettings:
    """Bounds of the levers, and which of them may be used.

    ``most_hold_seconds`` bounds a hold beside the promise; ``most_capped_ratio`` is the share of the dynamic
    power that may be under caps at once; ``cap_floor_ratio`` the deepest cap as a share of the board.
    """

    caps: bool = True
    holds: bool = True
    most_hold_seconds: float = 4.0 * 3600.0
    hold_share: float = 1.0
    scale: float = 1.0
    cap_floor_ratio: float = 0.45
    days: tuple[float, ...] = (28.0, 7.0)


class LevelControl:
    def __init__(self, settings, *, level_watts, ceiling_watts):
        self.settings = settings
        self.level_watts = level_watts
        self.ceiling_watts = ceiling_watts
        self.levels = []

    def next_seconds(self, now_seconds):
        return math.inf

    def patience(self, cluster, job):
        most = min(self.settings.most_hold_seconds, job.flex.max_slowdown_ratio * (job.limit_seconds or 3600.0))
        return most - cluster.held_seconds(job)

    def may_start(self, cluster, job):
        s = self.settings
        if not s.holds or job.flex is Flex.FLEX0:
            return True
        if self.patience(cluster, job) <= 1.0:
            return True
        w = job.gpus * cluster.layout.mean_root_weight
        after = cluster.uncapped_root_watts + job.dynamic_watts * w
        room = self._room(cluster)
        return after - s.hold_share * room <= self.level_watts

    def _offers(self, cluster):
        found = []
        for job in cluster.running.values():
            if job.flex is Flex.FLEX0: continue
            floor = max(power_ratio_for(job.workload, 1 - job.flex.max_slowdown_ratio), self.settings.cap_floor_ratio)
            found.append(Offer(job_id=job.job_id, workload=job.workload, board_watts=job.board_watts, weight=job.root_weight, gpus=job.gpus, floor_ratio=floor))
        return found

    def _room(self, cluster):
        return sum(o.room_watts for o in self._offers(cluster)) if self.settings.caps else 0.0

    def act(self, cluster, battery, seconds):
        offers = self._offers(cluster) if self.settings.caps else []
        room = sum(o.room_watts for o in offers)
        split = split_excess(load_watts=cluster.uncapped_root_watts, level_watts=self.level_watts, cap_room_watts=room,
            discharge_limit_watts=battery.possible_watts(math.inf, seconds) if battery else 0.0,
            charge_limit_watts=-battery.possible_watts(-math.inf, seconds) if battery else 0.0,
            charge_ceiling_watts=self.ceiling_watts)
        self.level_watts = split.level_watts
        caps = cheapest_caps(split.shed_watts, offers) if split.shed_watts > 0 else {}
        for job in list(cluster.running.values()):
            cluster.set_power_ratio(job, caps.get(job.job_id, 1.0))
        return split.discharge_watts

    def end_step(self, cluster, load_watts):
        self.ceiling_watts = max(self.ceiling_watts, cluster.uncapped_root_watts)
        self.levels.append(self.level_watts)
