"""Keep the billing period's level in the virtual machine with the rule of `slurm_power.plan.site_level`."""

import math
from dataclasses import replace

import numpy as np

from slurm_power.model.job import Flex
from slurm_power.plan.site_level import Offer, cheapest_caps, split_excess
from slurm_power.simulate.cluster import Cluster, Layout, PlantJob
from slurm_power.simulate.jobs_level import HOUR_SECONDS, SOON_SECONDS, LevelKeeper, LevelSettings
from slurm_power.simulate.jobs_run import Battery

# A job without a time limit promised a share of an unknown time: count on one hour, as the planner does.
_ASSUMED_LIMIT_SECONDS = 3600.0


class LevelControl:
    """Holds the level of each billing period. ``margin_ratio``: what is kept free below circuits' limits."""

    def __init__(self, keeper: LevelKeeper, layout: Layout, *, margin_ratio: float) -> None:
        self.keeper, self.settings = keeper, keeper.settings
        ceilings = [layout.site.circuits[name].ceiling_watts for name in layout.names]
        self._targets_watts = (1.0 - margin_ratio) * np.array(ceilings)
        self._capped: set[str] = set()
        self._wake_seconds: list[float] = []

    def next_seconds(self, now_seconds: float) -> float:
        """When the first hold has to end."""
        self._wake_seconds = [at for at in self._wake_seconds if at > now_seconds + SOON_SECONDS]
        return min(self._wake_seconds, default=math.inf)

    def may_start(self, cluster: Cluster, job: PlantJob) -> bool:
        """Hold a flexible job while its start would take what the caps keep in hand, within its promise."""
        if not self.settings.holds or not self.keeper.with_jobs or job.flex is Flex.FLEX0:
            return True
        left_seconds = longest_hold_seconds(job, self.settings) - cluster.held_seconds(job)
        if left_seconds <= SOON_SECONDS:
            return True
        added_watts = job.dynamic_watts * job.gpus * cluster.layout.mean_root_weight
        room_watts = sum(offer.room_watts for offer in self.keeper.offered(cluster))
        spare_watts = self.keeper.level_watts + self.settings.hold_room_ratio * room_watts
        if cluster.uncapped_root_watts + added_watts <= spare_watts:
            return True
        self._wake_seconds.append(cluster.now_seconds + left_seconds)
        return False

    def act(self, cluster: Cluster, battery: Battery | None, seconds: float) -> float:
        """Split what is above the level, cap the cheapest jobs, and return the battery's discharge."""
        keeper = self.keeper
        keeper.look(cluster.now_seconds)
        offers: list[Offer] = []
        if cluster.uncapped_root_watts > keeper.level_watts:
            offers = keeper.offered(cluster)
        split = split_excess(
            load_watts=cluster.uncapped_root_watts,
            level_watts=keeper.level_watts,
            cap_room_watts=sum(offer.room_watts for offer in offers),
            discharge_limit_watts=self._discharge_limit_watts(battery, seconds),
            charge_limit_watts=-battery.possible_watts(-math.inf, seconds) if battery else 0.0,
            charge_ceiling_watts=keeper.charge_ceiling_watts,
        )
        caps = cheapest_caps(split.shed_watts, offers) if split.shed_watts > 0.0 else {}
        self._hold_circuits(cluster, caps)
        for job_id in self._capped - caps.keys():
            if job_id in cluster.running:
                cluster.set_power_ratio(cluster.running[job_id], 1.0)
        for job_id, ratio in caps.items():
            cluster.set_power_ratio(cluster.running[job_id], ratio)
        self._capped = set(caps)
        keeper.imported(float(cluster.watts[0]) - split.discharge_watts, split.level_watts)
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
                for offer in self.keeper.offered(cluster, always=True)
                if cluster.running[offer.job_id].weights[number] > 0.0
            ]
            over_watts = float(uncapped[number] - self._targets_watts[number])
            for job_id, ratio in cheapest_caps(over_watts, offers).items():
                caps[job_id] = min(ratio, caps.get(job_id, 1.0))

    def end_step(self, cluster: Cluster, load_watts: float) -> None:  # noqa: ARG002
        """Remember what the hour was like."""
        self.keeper.end_step(cluster)


def longest_hold_seconds(job: PlantJob, settings: LevelSettings) -> float:
    """The longest hold: the promised slowdown of the time limit, and no longer than the site's own bound."""
    limit = _ASSUMED_LIMIT_SECONDS if job.limit_seconds is None else job.limit_seconds
    return min(settings.most_hold_seconds, job.flex.max_slowdown_ratio * limit)
