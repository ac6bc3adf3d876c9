"""Power shapes of the workload classes: demand of one GPU as a function of the time since the job's start.

Everything follows from the seed, so all GPUs of a job swing together, as collective operations make them do.
"""

import math
import random
from dataclasses import dataclass
from enum import StrEnum

from slurm_power.simulate.constants import WorkloadConstants


class Workload(StrEnum):
    """Classes with a power shape of their own."""

    TRAINING = "training"
    INFERENCE = "inference"
    GENERATION = "generation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a job asks of one GPU now. ``working`` is False while it starts up or writes a checkpoint."""

    demand_watts: float
    static_watts: float
    compute_bound_ratio: float
    utilization_ratio: float
    working: bool


class Shape:
    """The course of one job's demand on GPUs with the given highest limit."""

    def __init__(
        self,
        workload: Workload,
        constants: WorkloadConstants,
        limit_max_watts: float,
        seed: int,
        batch_count: int | None = None,
    ) -> None:
        self.workload = workload
        self.constants = constants
        self.limit_max_watts = limit_max_watts
        self.batch_ratio = (batch_count or constants.batch_reference_count) / constants.batch_reference_count
        # Not for secrets: a job's shape must be the same on each of its nodes.
        chance = random.Random(seed)  # noqa: S311  # a repeatable sequence is wanted
        low, high = math.log(constants.swing_min_hertz), math.log(constants.swing_max_hertz)
        self.swing_hertz = math.exp(chance.uniform(low, high))
        self.swing_phase = chance.random()
        self.noise_seed = chance.getrandbits(32)

    @property
    def throughput_ratio(self) -> float:
        """Throughput of this batch size relative to the reference batch, uncapped."""
        return float(self.batch_ratio**self.constants.batch_throughput_exponent)

    def demand(self, since_start_seconds: float) -> Demand:
        """Return the demand at a time; raises nothing, and a time before the start counts as the start."""
        constants = self.constants
        seconds = max(0.0, since_start_seconds)
        if seconds < constants.startup_seconds:
            return self._resting(constants.startup_demand_ratio)
        running = seconds - constants.startup_seconds
        begin = constants.pause_period_seconds - constants.pause_seconds
        if constants.pause_seconds > 0.0 and running % constants.pause_period_seconds >= begin:
            return self._resting(constants.pause_demand_ratio)
        level = self._level(running)
        ratio = constants.low_demand_ratio + level * (
            constants.high_demand_ratio - constants.low_demand_ratio
        )
        watts = min(1.0, ratio * self.batch_ratio**constants.batch_power_exponent) * self.limit_max_watts
        return Demand(
            demand_watts=watts,
            static_watts=constants.static_ratio * watts,
            compute_bound_ratio=constants.compute_bound_ratio,
            utilization_ratio=min(1.0, 0.6 + 0.4 * level),
            working=True,
        )

    def _resting(self, demand_ratio: float) -> Demand:
        """Demand without progress, such as loading weights: none of it scales with the clock."""
        watts = demand_ratio * self.limit_max_watts
        return Demand(
            demand_watts=watts,
            static_watts=0.9 * watts,
            compute_bound_ratio=0.0,
            utilization_ratio=0.1,
            working=False,
        )

    def _level(self, running_seconds: float) -> float:
        """Return where between low and high demand the job is, 0 to 1."""
        cycle = (running_seconds * self.swing_hertz + self.swing_phase) % 1.0
        low_share = self.constants.swing_low_share_ratio
        if self.workload is Workload.TRAINING:
            return 0.0 if cycle < low_share else 1.0
        wave = 0.5 - 0.5 * math.cos(2.0 * math.pi * cycle)
        if self.workload is Workload.GENERATION:
            return 0.15 + 0.7 * wave + 0.15 * self._noise(running_seconds, 1.0)
        # Prefill comes in bursts on top of decode; the wave is the demand of users.
        users = 1.0 - low_share * (1.0 - wave)
        return min(1.0, users * (0.35 + 0.65 * self._noise(running_seconds, 0.5)))

    def _noise(self, seconds: float, slot_seconds: float) -> float:
        """Return a number in 0..1 that stays for one slot and is the same whenever it is asked."""
        slot = int(seconds / slot_seconds)
        return random.Random(self.noise_seed * 1_000_003 + slot).random()  # noqa: S311  # repeatable by intent
