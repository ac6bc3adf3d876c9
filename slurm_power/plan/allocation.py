"""Share a budget of watts among jobs by what the last watt is worth: the least loss for a given cut.

Each job offers concave stretches of (watts, gain), gain being its performance times its weight. Of the
upper hulls of all jobs the steepest stretches are bought first until the budget is spent: the exact optimum
of the linear relaxation (Dantzig's rule for the knapsack), O(n log n). At most one job is left on the way
between two points of its hull. Where that way is none a job can go, because its curve is not concave there,
the choice is branched on that job, with the hull as the bound.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# One stretch: watts and gain, both rising, at least one point.
Stretch = tuple[tuple[float, float], ...]
_TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Watts of each job in the order given, and what they gain together.

    ``price_per_watt`` is the gain of one more watt of budget: 0 when nothing is short. ``shortfall_watts``
    is by how much the least that all jobs may draw passes the budget: 0 when it can be kept. ``bound_gain``
    is the gain that no choice can pass; ``marginal`` is the job that the last watt went to in part, None if
    there is none.
    """

    watts: Floats
    gain: float
    bound_gain: float
    price_per_watt: float
    shortfall_watts: float
    marginal: int | None


def upper_hull(points: Sequence[tuple[float, float]]) -> Stretch:
    """The concave, rising upper edge of points (watts, gain), from the lowest watts to the highest gain."""
    edge: list[tuple[float, float]] = []
    for watts, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if edge and gain <= edge[-1][1] + _TINY * max(1.0, abs(gain)):
            continue
        if edge and watts <= edge[-1][0] + _TINY:
            edge.pop()
        while len(edge) > 1 and _slope(edge[-2], edge[-1]) <= _slope(edge[-1], (watts, gain)):
            edge.pop()
        edge.append((watts, gain))
    return tuple(edge)


def allocate(hulls: Sequence[Stretch], budget_watts: float) -> Allocation:
    """Share ``budget_watts`` among jobs that each offer one concave stretch.

    Of stretches that are worth the same the first job's is bought first: who owes fairness orders the jobs
    by it.
    """
    least = np.array([hull[0][0] for hull in hulls], dtype=np.float64)
    gains = np.array([hull[0][1] for hull in hulls])
    owner = np.repeat(np.arange(len(hulls)), [len(hull) - 1 for hull in hulls])
    steps = [(high[0] - low[0], high[1] - low[1]) for hull in hulls for low, high in pairwise(hull)]
    widths, values = np.array(steps, dtype=np.float64).reshape(-1, 2).T
    order = np.argsort(-values / widths, kind="stable")
    room = budget_watts - float(least.sum())
    bought = np.zeros(len(order))
    filled = np.minimum(np.cumsum(widths[order]), max(0.0, room))
    bought[order] = np.diff(filled, prepend=0.0)
    share = np.divide(bought, widths, out=np.zeros_like(bought), where=widths > 0.0)
    partial = np.flatnonzero((share > _TINY) & (share < 1.0 - _TINY))
    unbought = order[share[order] < 1.0 - _TINY]
    watts: Floats = least + np.bincount(owner, weights=bought, minlength=len(hulls)).astype(np.float64)
    gain = float(gains.sum() + (share * values).sum())
    return Allocation(
        watts=watts,
        gain=gain,
        bound_gain=gain,
        price_per_watt=float(values[unbought[0]] / widths[unbought[0]]) if len(unbought) else 0.0,
        shortfall_watts=max(0.0, -room),
        marginal=int(owner[partial[0]]) if len(partial) else None,
    )


def allocate_steady(
    offers: Sequence[Sequence[Stretch]], budget_watts: float, *, tolerance_gain: float, most_nodes: int = 64
) -> Allocation:
    """Share a budget among jobs of which each point has to be on one of its stretches.

    Best first, until nobody can do better by more than ``tolerance_gain`` or ``most_nodes`` have been
    tried; what is found by then is returned, with the bound. Every answer keeps the budget unless none can.
    """
    number = count()
    hulls = [_hull(stretches) for stretches in offers]
    first = allocate(hulls, budget_watts)
    best = _on_stretches(offers, first)
    # What is still to be tried: its bound, and of which of the branched jobs' stretches.
    waiting: list[tuple[float, int, Allocation, dict[int, tuple[int, int]]]]
    waiting = [(-first.gain, next(number), first, {})]
    tried = 0
    while waiting and tried < most_nodes:
        bound, _, node, left = heapq.heappop(waiting)
        if -bound <= best.gain + tolerance_gain or node.marginal is None:
            break
        job = node.marginal
        low, high = left.get(job, (0, len(offers[job])))
        split = _split(offers[job][low:high], float(node.watts[job]))
        if split is None:
            continue
        for part in ((low, low + split), (low + split, high)):
            tried += 1
            chosen = {**left, job: part}
            allocation = allocate(
                [
                    _hull(offers[one][slice(*chosen[one])]) if one in chosen else hull
                    for one, hull in enumerate(hulls)
                ],
                budget_watts,
            )
            if allocation.shortfall_watts > first.shortfall_watts + _TINY:
                continue
            found = _on_stretches(offers, allocation)
            best = max(best, found, key=lambda one: one.gain)
            heapq.heappush(waiting, (-allocation.gain, next(number), allocation, chosen))
    return Allocation(
        watts=best.watts,
        gain=best.gain,
        bound_gain=first.gain,
        price_per_watt=first.price_per_watt,
        shortfall_watts=first.shortfall_watts,
        marginal=best.marginal,
    )


def _hull(stretches: Sequence[Stretch]) -> Stretch:
    return upper_hull([point for stretch in stretches for point in stretch])


def _slope(low: tuple[float, float], high: tuple[float, float]) -> float:
    return (high[1] - low[1]) / (high[0] - low[0])


def _split(stretches: Sequence[Stretch], watts: float) -> int | None:
    """Where to part the stretches so that the hull has no bridge at ``watts``; None if there is none."""
    hull = _hull(stretches)
    above = next((index for index, point in enumerate(hull) if point[0] > watts), None)
    if above is None or above == 0:
        return None
    ends = [
        [index for index, stretch in enumerate(stretches) if point in stretch]
        for point in (hull[above - 1], hull[above])
    ]
    if set(ends[0]) & set(ends[1]):
        return None
    return min(max(ends[0]), max(ends[1])) + 1


def _on_stretches(offers: Sequence[Sequence[Stretch]], allocation: Allocation) -> Allocation:
    """The same watts, at what the stretches really gain there."""
    gain = sum(
        gain_at(stretches, float(watts)) for stretches, watts in zip(offers, allocation.watts, strict=True)
    )
    return Allocation(
        watts=allocation.watts,
        gain=gain,
        bound_gain=allocation.gain,
        price_per_watt=allocation.price_per_watt,
        shortfall_watts=allocation.shortfall_watts,
        marginal=allocation.marginal,
    )


def gain_at(stretches: Sequence[Stretch], watts: float) -> float:
    """The most gain for at most ``watts``; that of the lowest draw if it is less than every stretch needs."""
    found = [_gain(stretch, watts) for stretch in stretches if stretch[0][0] <= watts + _TINY]
    return max(found) if found else min(stretch[0] for stretch in stretches)[1]


def _gain(stretch: Stretch, watts: float) -> float:
    for low, high in pairwise(stretch):
        if watts < high[0]:
            return low[1] + _slope(low, high) * max(0.0, watts - low[0])
    return stretch[-1][1]
