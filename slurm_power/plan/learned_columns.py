"""The learned curves of single jobs as columns: rows of points, read forwards and backwards all at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from slurm_power.model.job import Workload
from slurm_power.model.job_curve import JobCurve
from slurm_power.plan.allocation import upper_hull
from slurm_power.plan.curves import Curve
from slurm_power.plan.job_table import PlacedJobs
from slurm_power.plan.learned_curve import own_curve
from slurm_power.plan.memo import LastFew

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# What costs nothing would be taken first, and never be given back.
_LEAST_SLOPE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCurves:
    """The placed jobs whose own curve is known, with its points in rising order, filled up with the highest.

    ``place`` is the number of each placed job among them, -1 where it has none. Shares of the uncapped power
    and performance. ``high``, ``low`` and ``slope`` are the stretches of its hull, as a class has them.
    """

    rows: Ints
    place: Ints
    power: Floats
    performance: Floats
    high: Floats
    low: Floats
    slope: Floats

    def performance_at(self, places: Ints, power: Floats) -> Floats:
        """Performance left at shares of the power, flat beyond both ends."""
        return _read(self.power[places], self.performance[places], power)

    def power_for(self, places: Ints, performance: Floats) -> Floats:
        """The share of the power that leaves ``performance``; where a curve is flat the highest."""
        return _read(self.performance[places], self.power[places], performance)


def _read(xs: Floats, ys: Floats, at: Floats) -> Floats:
    upper = np.clip((xs <= at[:, None]).sum(axis=1), 1, xs.shape[1] - 1)
    rows = np.arange(len(at))
    x_low, x_high = xs[rows, upper - 1], xs[rows, upper]
    width = x_high - x_low
    share = np.where(width > 0.0, (at - x_low) / np.where(width > 0.0, width, 1.0), 1.0)
    low, high = ys[rows, upper - 1], ys[rows, upper]
    found: Floats = low + np.clip(share, 0.0, 1.0) * (high - low)
    return found


_known: LastFew[OwnCurves | None] = LastFew(3)


def own_curves(learned: Mapping[str, JobCurve], placed: PlacedJobs, segments: int) -> OwnCurves | None:
    """The curves that jobs have of their own; None where none has. Decoding keeps that of its class."""
    if not learned:
        return None
    return _known.of(lambda: _own_curves(learned, placed, segments), learned, placed)


def _own_curves(learned: Mapping[str, JobCurve], placed: PlacedJobs, segments: int) -> OwnCurves | None:
    curves: dict[int, Curve] = {}
    for job_id, known in learned.items():
        row = placed.row.get(job_id)
        # A cap and a clock lock do not do the same to it.
        if row is None or placed.jobs[row].workload is Workload.GENERATION:
            continue
        curve = own_curve(known, placed.jobs[row].workload)
        if curve is not None:
            curves[row] = curve
    if not curves:
        return None
    rows = np.array(sorted(curves), dtype=np.int64)
    place = np.full(len(placed.jobs), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    points = max(len(curve) for curve in curves.values())
    power, performance = np.ones((len(rows), points)), np.ones((len(rows), points))
    stretches = np.zeros((3, len(rows), segments))
    for number, row in enumerate(rows.tolist()):
        rising = tuple(reversed(curves[row]))
        power[number, : len(rising)] = [point[0] for point in rising]
        performance[number, : len(rising)] = [point[1] for point in rising]
        stretches[:, number, :] = _stretches(curves[row], segments)
    return OwnCurves(
        rows=rows,
        place=place,
        power=power,
        performance=performance,
        high=stretches[0],
        low=stretches[1],
        slope=stretches[2],
    )


def _stretches(curve: Curve, most: int) -> Floats:
    """High, low and slope of the stretches of a curve's hull, the dearest last; at most so many."""
    hull = list(reversed(upper_hull(list(curve))))
    if len(hull) > most + 1:
        kept = np.unique(np.linspace(0, len(hull) - 1, most + 1).round().astype(int)).tolist()
        hull = [hull[place] for place in kept]
    found = np.zeros((3, most))
    found[:, 0] = np.inf, 0.0, _LEAST_SLOPE
    if len(hull) < 2:
        return found
    for number, (high, low) in enumerate(pairwise(hull)):
        slope = max(_LEAST_SLOPE, (high[1] - low[1]) / max(high[0] - low[0], 1e-9))
        found[:, number] = high[0], low[0], slope
    # A GPU may draw more than it did before, and nothing was seen at 0.
    found[0, 0], found[1, len(hull) - 2] = np.inf, 0.0
    return found
