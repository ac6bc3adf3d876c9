"""What a power cap costs a job: performance against power, by workload class.

Points are (share of the uncapped power, share of the uncapped performance). Training is the pre-training
workload, the most sensitive of three, of the A100 sweep published with the Emerald Phoenix demonstration
(2025, Apache-2.0); inference is its inference workload. Below the last measured point throughput falls off
a cliff (cap at 25 % of TDP: 0.19 of the performance), which is why no cap goes below ``cap_floor_ratio``.
"""

from dataclasses import dataclass
from itertools import pairwise

from slurm_power.model.job import Job, Workload
from slurm_power.plan.allocation import upper_hull
from slurm_power.plan.clocks import LOCK_CURVE
from slurm_power.plan.policy import Policy

Curve = tuple[tuple[float, float], ...]

_TRAINING: Curve = (
    (1.0, 1.0),
    (0.90, 0.927),
    (0.80, 0.881),
    (0.75, 0.858),
    (0.70, 0.822),
    (0.60, 0.731),
    (0.28, 0.19),
)
_INFERENCE: Curve = (
    (1.0, 1.0),
    (0.90, 0.975),
    (0.80, 0.937),
    (0.75, 0.915),
    (0.70, 0.891),
    (0.60, 0.831),
    (0.28, 0.19),
)
# Decoding is slowed by a clock lock, not by a cap (``clocks.py``).
CURVES: dict[Workload, Curve] = {
    Workload.TRAINING: _TRAINING,
    Workload.INFERENCE: _INFERENCE,
    Workload.GENERATION: LOCK_CURVE,
}
# What a power cap does to each. It bites decoding no earlier than inference: this errs on the user's side.
CAP_CURVES: dict[Workload, Curve] = {**CURVES, Workload.GENERATION: _INFERENCE}


def performance_ratio(workload: Workload, power_ratio: float) -> float:
    """Performance left at ``power_ratio`` of the uncapped power, linear between the points."""
    return _interpolated(CURVES[workload], power_ratio)


def capped_performance_ratio(workload: Workload, power_ratio: float) -> float:
    """The same for a power cap: decoding loses more by a cap than by the clock lock it would be given."""
    return _interpolated(CAP_CURVES[workload], power_ratio)


def power_ratio_for(workload: Workload, performance: float) -> float:
    """The smallest share of the uncapped power that leaves ``performance``; the curve read backwards."""
    return read_backwards(CURVES[workload], performance)


def read_backwards(curve: Curve, performance: float) -> float:
    """The smallest share of the uncapped power that leaves ``performance`` by a curve."""
    return _interpolated(tuple((y, x) for x, y in curve), performance)


def _interpolated(points: Curve, at: float) -> float:
    """Read a falling list of points at ``at``, flat beyond both ends."""
    (x_high, y_high), *rest = points
    if at >= x_high:
        return y_high
    for x_low, y_low in rest:
        if at >= x_low:
            return y_low + (y_high - y_low) * (at - x_low) / (x_high - x_low)
        x_high, y_high = x_low, y_low
    return y_high


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a curve, from ``high`` down to ``low`` (shares of the uncapped power) at one ``slope``.

    ``slope`` is the share of the performance lost for each share of the power taken.
    """

    high: float
    low: float
    slope: float


def _segments(points: Curve) -> tuple[Segment, ...]:
    """The upper hull of a curve: each stretch loses more per watt than the one before it.

    Where a curve is dented (training loses more on its first tenth than on the next), the whole dent counts
    at its mean, so that the cheapest watts come first and stopping inside costs little more than that mean.
    """
    hull = reversed(upper_hull(points))
    found = [Segment(a[0], b[0], _slope(a, b)) for a, b in pairwise(hull)]
    # A GPU may draw more than what it drew before its cap, and no measured point is at 0.
    first, last = found[0], found[-1]
    found[-1] = Segment(last.high, 0.0, last.slope)
    found[0] = Segment(float("inf"), found[0].low, first.slope)
    return tuple(found)


def _slope(high: tuple[float, float], low: tuple[float, float]) -> float:
    return (high[1] - low[1]) / (high[0] - low[0])


SEGMENTS: dict[Workload, tuple[Segment, ...]] = {
    workload: _segments(curve) for workload, curve in CURVES.items()
}


def slope_at(workload: Workload, power_ratio: float, *, downwards: bool) -> float:
    """Performance lost per share of power at ``power_ratio``: of the next watt, or of the last one taken."""
    for segment in SEGMENTS[workload]:
        if (power_ratio > segment.low) if downwards else (power_ratio >= segment.low):
            return segment.slope
    return SEGMENTS[workload][-1].slope


def expected_gpu_watts(workload: Workload, policy: Policy) -> float:
    """Draw per GPU to expect of a job that has not been seen running."""
    match workload:
        case Workload.TRAINING:
            return policy.training_gpu_watts
        case Workload.INFERENCE:
            return policy.inference_gpu_watts
        case Workload.GENERATION:
            return policy.generation_gpu_watts


def promised_floor_watts(
    job: Job, *, uncapped_watts: float, default_cap_watts: float, min_cap_watts: float, policy: Policy
) -> float:
    """The lowest cap per GPU that keeps the job's promise and stays above the cliff.

    A flex0 job's floor is its own uncapped draw: an economic limit takes nothing from it. Decoding is locked,
    not capped: its floor is what the slowest clock known leaves of its draw.
    """
    share = power_ratio_for(job.workload, 1.0 - job.flex.max_slowdown_ratio)
    promise_watts = uncapped_watts * share
    if job.workload is Workload.GENERATION:
        return promise_watts
    return max(promise_watts, policy.cap_floor_ratio * default_cap_watts, min_cap_watts)


def slowdown_ratio(workload: Workload, cap_watts: float, uncapped_watts: float) -> float:
    """Share of performance a cap takes, 0 when it does not bite."""
    if uncapped_watts <= 0.0:
        return 0.0
    return 1.0 - performance_ratio(workload, cap_watts / uncapped_watts)
