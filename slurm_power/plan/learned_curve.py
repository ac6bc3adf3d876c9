"""Learn one job's own power and throughput: what a cap or a smaller micro-batch really cost it.

Samples are kept in narrow bins of draw, the latest of each; a bin's median is a point. Throughput that falls
where power rises is noise, so the points are made monotone by the pool-adjacent-violators algorithm (Barlow
et al., Statistical Inference under Order Restrictions, 1972), weighted by how many samples they rest on.
"""

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

from slurm_power.model.job import Workload
from slurm_power.model.job_curve import BatchPoint, CurvePoint, JobCurve
from slurm_power.plan.curves import CAP_CURVES, Curve

# Draws that differ by less are the same point of a curve.
_BIN_RATIO = 0.04
# So many of a bin's latest samples count, and so few say nothing yet.
_MOST_SAMPLES, _LEAST_SAMPLES = 32, 4
# Points nearer together than this say nothing about a slope.
_LEAST_SPAN_RATIO = 0.12
_MOST_BINS = 64


class LearnedCurve:
    """What one job was seen to do; whoever runs the cycle keeps one for each job that tells of itself."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        # (micro-batch, bin of draw) -> samples of (watts, samples per second); the latest bin comes last.
        self._caps: dict[tuple[int, int], deque[tuple[float, float]]] = {}
        self._batches: dict[int, deque[tuple[float, float]]] = {}

    def add(
        self,
        *,
        gpu_watts: float,
        samples_per_second: float,
        micro_batch: int | None = None,
        capped: bool = False,
    ) -> None:
        """Take one word of the job with its mean draw per GPU over the same time.

        ``capped``: a cap or a clock lock of ours stood meanwhile, and nothing changed. Words from the job's
        first minute, from a change of its cap or micro-batch, or out of a pause are not for here. What is no
        positive number is left out.
        """
        if not all(math.isfinite(value) and value > 0.0 for value in (gpu_watts, samples_per_second)):
            return
        batch = micro_batch or 0
        place = (batch, round(math.log(gpu_watts) / math.log1p(_BIN_RATIO)))
        sample = (gpu_watts, samples_per_second)
        kept = self._caps.pop(place, None) or deque(maxlen=_MOST_SAMPLES)
        kept.append(sample)
        self._caps[place] = kept
        while len(self._caps) > _MOST_BINS:
            self._caps.pop(next(iter(self._caps)))
        if batch and not capped:
            self._batches.setdefault(batch, deque(maxlen=_MOST_SAMPLES)).append(sample)
            while len(self._batches) > _MOST_BINS:
                self._batches.pop(next(iter(self._batches)))

    def curve(self) -> JobCurve:
        """What is known by now: as many points as can be told apart, none where that is less than two."""
        largest = max((batch for batch, _ in self._caps), default=0)
        points = monotone(
            CurvePoint(gpu_watts=watts, samples_per_second=rate, count=len(kept))
            for (batch, _), kept in self._caps.items()
            if batch == largest and len(kept) >= _LEAST_SAMPLES
            for watts, rate in (_middle(kept),)
        )
        if len(points) < 2 or points[0].gpu_watts > (1.0 - _LEAST_SPAN_RATIO) * points[-1].gpu_watts:
            points = ()
        batches = tuple(
            BatchPoint(micro_batch=batch, gpu_watts=watts, samples_per_second=rate, count=len(kept))
            for batch, kept in sorted(self._batches.items())
            if len(kept) >= _LEAST_SAMPLES
            for watts, rate in (_middle(kept),)
        )
        return JobCurve(points=points, batches=batches)


def _middle(samples: Iterable[tuple[float, float]]) -> tuple[float, float]:
    watts, rates = zip(*samples, strict=True)
    return median(watts), median(rates)


def monotone(points: Iterable[CurvePoint]) -> tuple[CurvePoint, ...]:
    """The points in the order of their draw, with throughputs that never fall, nearest to those seen."""
    ordered = sorted(points, key=lambda point: point.gpu_watts)
    blocks: list[tuple[float, int, list[CurvePoint]]] = []
    for point in ordered:
        rate, count, members = point.samples_per_second, point.count, [point]
        while blocks and blocks[-1][0] > rate:
            before, weight, earlier = blocks.pop()
            rate = (before * weight + rate * count) / (weight + count)
            count, members = weight + count, [*earlier, *members]
        blocks.append((rate, count, members))
    return tuple(
        CurvePoint(gpu_watts=point.gpu_watts, samples_per_second=rate, count=point.count)
        for rate, _, members in blocks
        for point in members
    )


def largest_batch(curve: JobCurve) -> BatchPoint | None:
    """The largest micro-batch that a job was seen with: what it takes where nothing is short."""
    return curve.batches[-1] if curve.batches else None


def batch_slowdown(curve: JobCurve, micro_batch: int) -> float:
    """The share of its speed that a job loses with a micro-batch; 0 where that was never seen."""
    point, full = curve.batch(micro_batch), largest_batch(curve)
    if point is None or full is None:
        return 0.0
    return max(0.0, 1.0 - point.samples_per_second / full.samples_per_second)


def own_curve(learned: JobCurve, workload: Workload) -> Curve | None:
    """A job's own curve as shares of its highest point, falling; None where it does not say enough.

    Below what was seen it goes on as its class does, from the last point on.
    """
    if not learned.known:
        return None
    top = learned.points[-1]
    seen = [
        (point.gpu_watts / top.gpu_watts, point.samples_per_second / top.samples_per_second)
        for point in reversed(learned.points)
    ]
    low, left = seen[-1]
    of_class = CAP_CURVES[workload]
    there = _at(of_class, low)
    below = [(power, left * performance / there) for power, performance in of_class if power < low - 0.01]
    return (*seen, *below)


def _at(curve: Curve, power: float) -> float:
    (x_high, y_high), *rest = curve
    if power >= x_high:
        return y_high
    for x_low, y_low in rest:
        if power >= x_low:
            return y_low + (y_high - y_low) * (power - x_low) / (x_high - x_low)
        x_high, y_high = x_low, y_low
    return y_high
