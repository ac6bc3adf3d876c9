"""What jobs can do for a billing period's level: what caps may take, and what starts may use of that.

The level is no limit: nothing is in danger above it, it costs money. So only caps that cost less than the
peak they spare are taken, within the promises and no deeper than economic caps go, and starts may use a part
of what those caps can shed before a job has to wait.
"""

from dataclasses import dataclass

import numpy as np

from slurm_power.model.jobs_level import JobsLevel
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.cap_columns import CapColumns, Floats
from slurm_power.plan.caps import Demand
from slurm_power.plan.loads import LoadTable
from slurm_power.plan.policy import Policy


def jobs_level_of(snapshot: Snapshot) -> JobsLevel | None:
    """The level that jobs serve now; None where there is none or it is stale."""
    level = snapshot.jobs_level
    return level if level is not None and level.counts_at(snapshot.at) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapRoom:
    """What caps for a level could shed of the uncapped load, in watts at the grid connection.

    It would cost ``lost_gpus`` (slowdown times GPUs), worth ``lost_money`` an hour. ``used_gpus``: at work.
    """

    room_watts: float = 0.0
    lost_gpus: float = 0.0
    lost_money: float = 0.0
    used_gpus: float = 0.0


def cap_room(
    snapshot: Snapshot,
    table: LoadTable,
    policy: Policy,
    *,
    cap_floor_ratio: float,
    most_price_per_kwh: float | None = None,
) -> CapRoom:
    """What all flexible jobs together offer, down to their floors or to where they become too dear."""
    if not table.placed.jobs:
        return CapRoom()
    columns = CapColumns(snapshot, table, policy)
    rows, weights = columns.members(columns.root)
    uncapped = columns.uncapped_watts[rows]
    floors = level_floors_watts(columns, cap_floor_ratio)[rows]
    tops = np.minimum(uncapped[:, None], columns.high_watts[rows])
    widths = np.maximum(tops - np.maximum(columns.low_watts[rows], floors[:, None]), 0.0)
    if most_price_per_kwh is not None:
        widths *= level_prices_per_kwh(columns, rows, weights) <= most_price_per_kwh
    given = widths.sum(axis=1) * (columns.reachable & ~columns.yielded & ~columns.flex0)[rows]
    lost = columns.slowdowns(rows, uncapped - given, columns.locked[rows]) * columns.gpus[rows]
    return CapRoom(
        room_watts=float(given @ weights),
        lost_gpus=float(lost.sum()),
        lost_money=float(lost @ columns.worth[rows]),
        used_gpus=float(columns.gpus[rows].sum()),
    )


def level_floors_watts(columns: CapColumns, cap_floor_ratio: float) -> Floats:
    """The deepest cap of each job for a level, per GPU; infinite for flex0."""
    return np.maximum(columns.floor_watts, cap_floor_ratio * columns.uncapped_watts)


def level_prices_per_kwh(columns: CapColumns, rows: np.ndarray, weights: Floats) -> Floats:
    """What each stretch of each job's curve costs per kWh at the grid connection; rows by stretches."""
    prices: Floats = columns.money[rows] * (columns.gpus[rows] / weights)[:, None]
    return prices


def level_demand(snapshot: Snapshot, load_watts: float | None, policy: Policy) -> Demand | None:
    """What caps must shed of the grid connection's load for the level (> 0), or may give back (< 0).

    ``load_watts`` is what the site draws now without its batteries, None where nobody knows. Caps carry an
    excess before the battery does: a battery empties, a cap does not (decision 41). What is given back comes
    with the hosts' share, and a step that passed the level would have to be taken again.
    """
    level = jobs_level_of(snapshot)
    if level is None:
        return None
    root = snapshot.site.root.name
    if load_watts is None:
        return Demand(circuit=root, watts=0.0, kind=LimitKind.ECONOMIC, level=level)
    watts = load_watts - level.level_watts
    if watts < 0.0:
        span_watts = max(policy.training_gpu_watts - policy.idle_gpu_watts, 1.0)
        share = span_watts / (span_watts + policy.host_watts_per_gpu)
        watts = -max(0.0, -watts - policy.event_margin_ratio * level.level_watts) * share
    return Demand(circuit=root, watts=watts, kind=LimitKind.ECONOMIC, level=level)


def level_start_room_watts(
    snapshot: Snapshot, table: LoadTable, full_watts: float | None, policy: Policy
) -> float:
    """Room for new starts below the level, with what caps may take of them; infinite without a level.

    ``full_watts``: what the grid connection draws with all that is starting and nothing capped. Where waiting
    costs more than the peak it would spare, the level keeps nobody waiting.
    """
    level = jobs_level_of(snapshot)
    if level is None or full_watts is None:
        return float("inf")
    most = level.most_price_per_kwh
    if most is not None and 1000.0 * policy.delay_price_per_gpu_hour > most * _start_watts(policy):
        return float("inf")
    room = cap_room(snapshot, table, policy, cap_floor_ratio=level.cap_floor_ratio, most_price_per_kwh=most)
    return level.level_watts + level.hold_room_ratio * room.room_watts - full_watts


def _start_watts(policy: Policy) -> float:
    """What one GPU of a usual job adds."""
    return max(1.0, policy.training_gpu_watts - policy.idle_gpu_watts + policy.host_watts_per_gpu)
