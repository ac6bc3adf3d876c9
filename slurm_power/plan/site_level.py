"""The level to hold at the grid connection for a billing period, by battery, caps and holds together.

The peak of a period is paid once: the level only rises when the levers cannot physically hold it. Caps cost
work but have no end; the battery costs nothing but empties. So caps carry what they can within the promises,
the battery what is above that, holds keep new load away while both are busy. Where the level starts is found
by trying the same rule on the recent past: the lowest level that would have been held.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.job import Workload
from slurm_power.plan.curves import CAP_CURVES, capped_performance_ratio

Watts = NDArray[np.float64]
_BISECTIONS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What a battery can do: watts at its terminals, losses split evenly over charge and discharge."""

    power_watts: float
    energy_kwh: float
    round_trip_ratio: float = 0.88

    @property
    def efficiency_ratio(self) -> float:
        """One way."""
        return float(np.sqrt(self.round_trip_ratio))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one running job offers to caps.

    ``board_watts`` is the uncapped draw of one GPU board; ``weight`` the watts at the grid connection for one
    watt on each of its GPUs (all GPUs together); ``gpus`` counts what a slowdown costs. ``floor_ratio`` is
    the deepest cap of its promise as a share of the board.
    """

    job_id: str
    workload: Workload
    board_watts: float
    weight: float
    gpus: int
    floor_ratio: float

    @property
    def room_watts(self) -> float:
        """The most it can give at the grid connection."""
        return (1.0 - self.floor_ratio) * self.board_watts * self.weight


def segments(workload: Workload, floor_ratio: float) -> list[tuple[float, float]]:
    """The cheapest way down a curve to the floor: (share of the board reached, slowdown per share given).

    The lower convex hull of slowdown against the share given, so prices rise from one to the next. Training
    is dear at first: a cap to 75 % costs less per watt than one to 90 %.
    """
    points = [(1.0, 0.0)]
    corners = [ratio for ratio, _ in CAP_CURVES[workload] if floor_ratio < ratio < 1.0]
    reached = [*corners, *([floor_ratio] if floor_ratio < 1.0 else [])]
    points += [(ratio, 1.0 - capped_performance_ratio(workload, ratio)) for ratio in reached]
    found = []
    at = 0
    while at < len(points) - 1:
        ratio, slowdown = points[at]
        prices = [(loss - slowdown) / (ratio - lower) for lower, loss in points[at + 1 :]]
        best = min(range(len(prices)), key=lambda number: (prices[number], -number))
        at += best + 1
        found.append((points[at][0], prices[best]))
    return found


def cheapest_caps(shed_watts: float, offers: Iterable[Offer]) -> dict[str, float]:
    """Caps (share of the board, by job) that shed so many watts for the least work; all if not enough.

    Greedy over all segments by slowdown times GPUs per watt: exact but for the last segment, which is taken
    in part.
    """
    steps = []
    for offer in offers:
        before = 1.0
        for ratio, price in segments(offer.workload, offer.floor_ratio):
            watts = (before - ratio) * offer.board_watts * offer.weight
            if watts > 0.0:
                dear = price * offer.gpus / (offer.board_watts * offer.weight)
                steps.append((dear, offer.job_id, before, ratio, watts))
            before = ratio
    caps: dict[str, float] = {}
    left = shed_watts
    # Within a job prices rise, so a later segment never comes before an earlier one.
    for _, job_id, before, ratio, watts in sorted(steps):
        if left <= 0.0:
            break
        share = min(1.0, left / watts)
        caps[job_id] = before - share * (before - ratio)
        left -= watts
    return caps


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Who carries an excess: watts from the battery (negative charges) and from caps, at the level kept."""

    level_watts: float
    discharge_watts: float
    shed_watts: float


def split_excess(
    *,
    load_watts: float,
    level_watts: float,
    cap_room_watts: float,
    discharge_limit_watts: float,
    charge_limit_watts: float,
    charge_ceiling_watts: float,
) -> Split:
    """Share an excess of the uncapped load over the level: caps, then the battery, else the level rises.

    ``discharge_limit_watts`` and ``charge_limit_watts`` are what the battery can keep up until the next
    decision. Room below the level charges it, never above ``charge_ceiling_watts``, the highest load that
    came without us: a recharge must not make a peak of its own.
    """
    excess_watts = load_watts - level_watts
    if excess_watts <= 0.0:
        room_watts = max(0.0, min(level_watts, charge_ceiling_watts) - load_watts)
        return Split(
            level_watts=level_watts,
            discharge_watts=-min(charge_limit_watts, room_watts),
            shed_watts=0.0,
        )
    shed_watts = min(excess_watts, cap_room_watts)
    discharge_watts = min(excess_watts - shed_watts, discharge_limit_watts)
    unmet_watts = excess_watts - shed_watts - discharge_watts
    return Split(
        level_watts=level_watts + max(0.0, unmet_watts),
        discharge_watts=discharge_watts,
        shed_watts=shed_watts,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """History on a coarse grid, one value a step.

    ``load_watts``: the grid connection without levers. ``cap_room_watts``: what caps within the promises
    could have shed, at the cost of ``lost_gpus`` (slowdown times GPUs). ``used_gpus``: GPUs at work.
    """

    load_watts: Watts
    cap_room_watts: Watts
    lost_gpus: Watts
    used_gpus: Watts
    step_hours: float

    def followed_by(self, rows: Watts) -> "Past":
        """With more steps after it, as long as it was; ``rows``: one a step, four columns in this order."""
        steps = max(len(self.load_watts), len(rows))
        load, room, lost, used = (
            np.concatenate([old, new])[-steps:]
            for old, new in zip(
                (self.load_watts, self.cap_room_watts, self.lost_gpus, self.used_gpus), rows.T, strict=True
            )
        )
        return Past(
            load_watts=load, cap_room_watts=room, lost_gpus=lost, used_gpus=used, step_hours=self.step_hours
        )

    def last(self, steps: int) -> "Past":
        """Only the last so many steps."""
        return Past(
            load_watts=self.load_watts[-steps:],
            cap_room_watts=self.cap_room_watts[-steps:],
            lost_gpus=self.lost_gpus[-steps:],
            used_gpus=self.used_gpus[-steps:],
            step_hours=self.step_hours,
        )


def held_level(load_watts: Watts, cap_room_watts: Watts, step_hours: float, storage: Storage | None) -> float:
    """The lowest level that the rule would have held over a past, in watts; the battery starts half full.

    ``load_watts`` is the load without levers, ``cap_room_watts`` what caps could have shed; one value a step.
    """
    if storage is None or storage.power_watts <= 0.0 or storage.energy_kwh <= 0.0:
        return float(np.max(load_watts - cap_room_watts))
    high = float(np.max(load_watts))
    low = max(float(np.max(load_watts - cap_room_watts)) - storage.power_watts, float(np.min(load_watts)))
    low = min(low, high)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if _holds(middle, load_watts, cap_room_watts, step_hours, storage):
            high = middle
        else:
            low = middle
    return high


def _holds(
    level: float, load_watts: Watts, cap_room_watts: Watts, step_hours: float, storage: Storage
) -> bool:
    over = load_watts - level
    # Above the level what caps leave over, below it (negative) the room to charge.
    wanted = np.where(over > 0.0, np.maximum(0.0, over - cap_room_watts), over)
    if float(np.max(wanted)) > storage.power_watts:
        return False
    out = np.maximum(wanted, 0.0) * step_hours / 1000.0 / storage.efficiency_ratio
    into = np.minimum(-np.minimum(wanted, 0.0), storage.power_watts)
    into = into * step_hours / 1000.0 * storage.efficiency_ratio
    stored = 0.5 * storage.energy_kwh
    for change in (into - out).tolist():
        stored = min(storage.energy_kwh, stored + change)
        if stored < 0.0:
            return False
    return True


def start_level(
    past: Past, storage: Storage | None, *, days: Sequence[float], most_lost_ratio: float
) -> float:
    """Where a period starts: the least over the last so many ``days`` of what they would have borne.

    That is the lowest level that would have been held in them, or a higher one at which caps would have
    taken no more than ``most_lost_ratio`` of their GPU-hours. Raises ValueError without history.
    """
    if not len(past.load_watts):
        raise ValueError("no history")
    levels = []
    for length in days:
        part = past.last(max(1, round(24.0 * length / past.step_hours)))
        held = held_level(part.load_watts, part.cap_room_watts, part.step_hours, storage)
        levels.append(max(held, relaxed_level(part, most_lost_ratio)))
    return min(levels)


def relaxed_level(past: Past, most_lost_ratio: float) -> float:
    """The lowest level at which caps would have taken no more than this share of the past's GPU-hours."""
    low, high = float(np.min(past.load_watts)), float(np.max(past.load_watts))
    budget = most_lost_ratio * float(np.sum(past.used_gpus))
    room = np.maximum(past.cap_room_watts, 1e-9)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        share = np.clip((past.load_watts - middle) / room, 0.0, 1.0)
        if float(np.sum(share * past.lost_gpus)) <= budget:
            high = middle
        else:
            low = middle
    return high
