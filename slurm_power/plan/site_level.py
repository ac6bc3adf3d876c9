"""The level to hold at the grid connection for a billing period, by battery, caps and holds together.

The peak of a period is paid once: the level only rises when the levers cannot physically hold it. Caps cost
work but have no end; the battery costs nothing but empties. So caps carry what they can within the promises,
the battery what is above that, holds keep new load away while both are busy. Where the level starts is found
by trying the same rule on the recent past: the lowest level that would have been held, and no lower than
where the work that caps take costs more than what it saves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.job import Workload
from slurm_power.plan.curves import CAP_SEGMENTS
from slurm_power.plan.peak_level import Battery
from slurm_power.plan.prices import cap_work_per_kwh

Watts = NDArray[np.float64]
_BISECTIONS = 14
# Levels that are tried where the cost of caps against the charge may have more than one valley.
_TRIED = 65


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRule:
    """The rule's few numbers, the same in the simulator and in the controller (decision 41).

    ``cap_floor_ratio`` is the deepest economic cap as a share of the board. ``most_lost_ratio`` is what caps
    may take of all GPU-hours: the level is no lower than where the past would have lost so much. A job is
    held while its start would take more than ``hold_room_ratio`` of what caps can shed. The battery gives no
    more than it can keep up for ``bridge_hours``. ``days``: the level starts at the lowest that would have
    been held over the last so many days, the least of them. With less than ``least_days`` of history jobs are
    left alone.
    """

    cap_floor_ratio: float = 0.6
    most_lost_ratio: float = 0.02
    hold_room_ratio: float = 1.5
    bridge_hours: float = 1.5
    days: tuple[float, ...] = (28.0, 7.0)
    least_days: float = 14.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakPrice:
    """What a kW more costs for the rest of a billing period, and how many hours that rest has."""

    per_kw: float
    hours_left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one running job offers to caps.

    ``board_watts`` is the uncapped draw of one GPU board; ``weight`` the watts at the grid connection for one
    watt on each of its GPUs (all GPUs together); ``gpus`` counts what a slowdown costs, each ``worth`` so
    much against one of flex2. ``floor_ratio`` is the deepest cap of its promise as a share of the board.
    """

    job_id: str
    workload: Workload
    board_watts: float
    weight: float
    gpus: int
    floor_ratio: float
    worth: float = 1.0

    @property
    def room_watts(self) -> float:
        """The most it can give at the grid connection."""
        return (1.0 - self.floor_ratio) * self.board_watts * self.weight


def segments(workload: Workload, floor_ratio: float) -> list[tuple[float, float]]:
    """The cheapest way down a curve to the floor: (share of the board reached, slowdown per share given).

    The hull of `slurm_power.plan.curves`, cut off at the floor, so prices rise from one to the next. Training
    is dear at first: a cap to 75 % costs less per watt than one to 90 %.
    """
    return [
        (max(segment.low, floor_ratio), segment.slope)
        for segment in CAP_SEGMENTS[workload]
        if min(segment.high, 1.0) > floor_ratio
    ]


def cheapest_caps(shed_watts: float, offers: Iterable[Offer]) -> dict[str, float]:
    """Caps (share of the board, by job) that shed so many watts for the least work; all if not enough.

    Greedy over all segments by the worth of the work per watt: exact but for the last segment, which is taken
    in part. The price is that of ``prices.cap_work_per_kwh``.
    """
    steps = []
    for offer in offers:
        before = 1.0
        for ratio, price in segments(offer.workload, offer.floor_ratio):
            watts = (before - ratio) * offer.board_watts * offer.weight
            if watts > 0.0:
                dear = cap_work_per_kwh(price, float(offer.gpus), offer.board_watts, offer.weight)
                dear *= offer.worth
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

    ``load_watts``: the grid connection without levers; NaN where its peak is not paid for.
    ``cap_room_watts``: what caps within the promises could have shed, at the cost of ``lost_gpus`` (slowdown
    times GPUs), worth ``lost_money`` an hour. ``used_gpus``: GPUs at work.
    """

    load_watts: Watts
    cap_room_watts: Watts
    lost_gpus: Watts
    used_gpus: Watts
    lost_money: Watts
    step_hours: float

    def followed_by(self, rows: Watts) -> "Past":
        """With more steps after it, as long as it was; ``rows``: one a step, five columns in this order."""
        steps = max(len(self.load_watts), len(rows))
        return self._of(
            np.concatenate([old, new])[-steps:] for old, new in zip(self._columns(), rows.T, strict=True)
        )

    def last(self, steps: int) -> "Past":
        """Only the last so many steps."""
        return self._of(column[-steps:] for column in self._columns())

    def counting(self, steps: NDArray[np.bool_]) -> "Past":
        """The same where only ``steps`` are paid for, shape of the load."""
        load, *others = self._columns()
        return self._of([np.where(steps, load, np.nan), *others])

    def _columns(self) -> list[Watts]:
        return [getattr(self, field.name) for field in fields(self)[:-1]]

    def _of(self, columns: Iterable[Watts]) -> "Past":
        load, room, lost, used, money = columns
        return Past(
            load_watts=load,
            cap_room_watts=room,
            lost_gpus=lost,
            used_gpus=used,
            lost_money=money,
            step_hours=self.step_hours,
        )


def held_level(load_watts: Watts, cap_room_watts: Watts, step_hours: float, battery: Battery | None) -> float:
    """The lowest level that the rule would have held over a past, in watts; the battery starts half full.

    ``load_watts`` is the load without levers, ``cap_room_watts`` what caps could have shed; one value a step.
    NaN where no peak is paid for: there the battery only charges.
    """
    over_watts = load_watts - cap_room_watts
    if battery is None or battery.is_none:
        return float(np.nanmax(over_watts))
    high = float(np.nanmax(load_watts))
    low = max(float(np.nanmax(over_watts)) - battery.discharge_watts, float(np.nanmin(load_watts)))
    low = min(low, high)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if _holds(middle, load_watts, cap_room_watts, step_hours, battery):
            high = middle
        else:
            low = middle
    return high


def _holds(
    level: float, load_watts: Watts, cap_room_watts: Watts, step_hours: float, battery: Battery
) -> bool:
    over = np.where(np.isnan(load_watts), -battery.charge_watts, load_watts - level)
    # Above the level what caps leave over, below it (negative) the room to charge.
    wanted = np.where(over > 0.0, np.maximum(0.0, over - cap_room_watts), over)
    if float(np.max(wanted)) > battery.discharge_watts:
        return False
    out = np.maximum(wanted, 0.0) * step_hours / (1000.0 * battery.discharge_ratio)
    into = np.minimum(-np.minimum(wanted, 0.0), battery.charge_watts)
    into = into * step_hours * battery.charge_ratio / 1000.0
    stored = 0.5 * battery.energy_kwh
    for change in (into - out).tolist():
        stored = min(battery.energy_kwh, stored + change)
        if stored < 0.0:
            return False
    return True


def start_level(
    past: Past, battery: Battery | None, rule: LevelRule, price: PeakPrice | None = None
) -> float:
    """Where a period starts: the least over the last so many days of what they would have borne.

    That is the lowest level that would have been held in them, or a higher one at which caps would have
    taken no more than ``most_lost_ratio`` of their GPU-hours, and where a ``price`` is known no work worth
    more than it saves: then the battery alone holds what it can. Raises ValueError without history.
    """
    if not np.isfinite(past.load_watts).any():
        raise ValueError("no history")
    levels = []
    for length in rule.days:
        part = past.last(max(1, round(24.0 * length / past.step_hours)))
        if not np.isfinite(part.load_watts).any():
            continue
        held = held_level(part.load_watts, part.cap_room_watts, part.step_hours, battery)
        least = max(held, relaxed_level(part, rule.most_lost_ratio))
        if price is not None:
            # Where work is too dear the battery still holds what it can by itself.
            alone = held_level(part.load_watts, np.zeros(len(part.load_watts)), part.step_hours, battery)
            least = max(least, min(alone, worth_level(part, price)))
        levels.append(least)
    return min(levels)


def relaxed_level(past: Past, most_lost_ratio: float) -> float:
    """The lowest level at which caps would have taken no more than this share of the past's GPU-hours."""
    low, high = float(np.nanmin(past.load_watts)), float(np.nanmax(past.load_watts))
    budget = most_lost_ratio * float(np.sum(past.used_gpus))
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if float(np.sum(_used_shares(past, middle) * past.lost_gpus)) <= budget:
            high = middle
        else:
            low = middle
    return high


def worth_level(past: Past, price: PeakPrice) -> float:
    """The level at which the demand charge and the work that caps take cost least together.

    The rest of the period is taken to be like the past. A level below it would cost more work than it saves.
    """
    low, high = float(np.nanmin(past.load_watts)), float(np.nanmax(past.load_watts))
    scale = price.hours_left / max(len(past.load_watts) * past.step_hours, 1e-9)
    best, cheapest = high, np.inf
    for level in np.linspace(high, low, _TRIED).tolist():
        work = float(np.sum(_used_shares(past, level) * past.lost_money)) * past.step_hours * scale
        cost = work + price.per_kw * level / 1000.0
        if cost < cheapest:
            best, cheapest = level, cost
    return best


def most_price_per_kwh(past: Past, level_watts: float, price: PeakPrice) -> float:
    """The most that a kWh taken off the grid connection may cost at a level, so that the level is worth it.

    A kW of the peak costs ``per_kw``; to spare it every hour above the level has to be shaved by as much. At
    least one hour is.
    """
    known = past.load_watts[np.isfinite(past.load_watts)]
    above = float(np.mean(known > level_watts)) if len(known) else 0.0
    return price.per_kw / max(1.0, above * price.hours_left)


def _used_shares(past: Past, level_watts: float) -> Watts:
    """Which share of their room caps use at a level, step by step."""
    over = np.where(np.isnan(past.load_watts), 0.0, past.load_watts - level_watts)
    shares: Watts = np.clip(over / np.maximum(past.cap_room_watts, 1e-9), 0.0, 1.0)
    return shares
