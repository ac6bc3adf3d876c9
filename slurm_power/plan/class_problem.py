"""The numbers of the day's linear program, from a snapshot: classes, what runs on, room, battery, prices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.model.day_plan import JobClass
from slurm_power.model.job import Flex
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.holds import added_watts, flex_weights
from slurm_power.plan.job_classes import classes_of
from slurm_power.plan.job_table import ASSUMED_TIME_LIMIT_SECONDS, FLEXES, Flags, pending_jobs
from slurm_power.plan.loads import consumer_watts, load_table, reported_gpus, worst_factor
from slurm_power.plan.policy import Policy
from slurm_power.plan.site_table import Watts, summed

HOURS = 24
# The relaxation of a cap on a running job: so much of its dynamic power for so much of its work.
_CAP_SAVES_RATIO, _CAP_COSTS_RATIO = 0.30, 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPrices:
    """What changes with the hours; all else that the day's plan weighs is in the policy.

    ``energy_per_kwh``: by hour from now, the last for those missing; none where the policy's counts all day.
    ``demand_per_kw`` is for the day's highest hour as far as it is above ``peak_watts``, the level that is
    paid for in any case; only hours of ``demand_counts`` count, all where it is empty.
    """

    energy_per_kwh: Sequence[float] = ()
    demand_per_kw: float = 0.0
    peak_watts: float = 0.0
    demand_counts: Sequence[bool] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassProblem:
    """See ``lp_classes`` for the rows these make: ``counts`` to ``patience_hours`` by class, more by hour.

    ``class_gpus`` and ``class_watts`` are of one job, at the grid connection. ``base_watts`` is what is drawn
    beside jobs, ``capable_watts`` what caps could take from running ones, ``capped_gpus`` the weighted GPUs
    whose work that would cost. ``ess_kwh`` and ``soc_kwh`` count from the outage reserve.
    """

    classes: tuple[JobClass, ...]
    counts: Watts
    class_gpus: Watts
    class_watts: Watts
    class_hours: Watts
    class_weights: Watts
    patience_hours: Watts
    gpus: float
    running_gpus: Watts
    running_watts: Watts
    base_watts: Watts
    capable_watts: Watts
    capped_gpus: Watts
    limit_watts: Watts
    energy_price_per_kwh: Watts
    delay_price_per_gpu_hour: float
    value_per_gpu_hour: float
    demand_price_per_kw: float
    peak_watts: float
    demand_counts: Flags
    ess_watts: float
    ess_kwh: float
    soc_kwh: float
    round_trip_ratio: float
    wear_per_kwh: float


def class_problem(
    snapshot: Snapshot, policy: Policy, prices: DayPrices, base_watts: Sequence[float] = ()
) -> ClassProblem | None:
    """The problem of the next day, None while the grid connection's draw or the site's GPUs are unknown.

    ``base_watts``: what is forecast to be drawn beside jobs, by hour; as much as now where it says nothing.
    """
    root = snapshot.site.root.name
    load_watts, gpus = consumer_watts(snapshot)[root], reported_gpus(snapshot)
    if load_watts is None or not gpus:
        return None
    waiting = pending_jobs(snapshot)
    classes = classes_of(waiting)
    count = len(classes.keys)
    counts = summed(classes.number, np.ones(len(waiting.jobs)), count)
    job_gpus = np.minimum(waiting.gpus * waiting.tasks, float(gpus))
    job_watts = job_gpus * added_watts(snapshot, waiting, policy) * worst_factor(snapshot.site)
    whole = np.maximum(counts, 1.0)
    running_gpus, running_watts, capable_watts, capped_gpus = _running(snapshot, policy)
    base = np.full(HOURS, max(0.0, load_watts - _drawn_watts(snapshot, policy)))
    base[: len(base_watts)] = base_watts[:HOURS]
    power_watts, room_kwh, soc_kwh = _storage(snapshot)
    energy = list(prices.energy_per_kwh)[:HOURS] or [policy.energy_price_per_kwh]
    weights = dict(zip(FLEXES, flex_weights(policy).tolist(), strict=True))
    return ClassProblem(
        classes=classes.keys,
        counts=counts,
        class_gpus=summed(classes.number, job_gpus, count) / whole,
        class_watts=summed(classes.number, job_watts, count) / whole,
        class_hours=np.array([float(key.hours) for key in classes.keys]),
        class_weights=np.array([weights[key.flex] for key in classes.keys]),
        patience_hours=np.array([key.flex.max_slowdown_ratio * key.hours for key in classes.keys]),
        gpus=float(gpus),
        running_gpus=running_gpus,
        running_watts=running_watts,
        base_watts=base,
        capable_watts=capable_watts,
        capped_gpus=capped_gpus,
        limit_watts=_limits(snapshot, policy),
        energy_price_per_kwh=np.array(energy + [energy[-1]] * (HOURS - len(energy))),
        delay_price_per_gpu_hour=policy.delay_price_per_gpu_hour,
        value_per_gpu_hour=policy.value_per_gpu_hour,
        demand_price_per_kw=prices.demand_per_kw,
        peak_watts=prices.peak_watts,
        demand_counts=np.array(
            [*prices.demand_counts, *[not prices.demand_counts] * HOURS][:HOURS], dtype=bool
        ),
        ess_watts=power_watts,
        ess_kwh=room_kwh,
        soc_kwh=soc_kwh,
        round_trip_ratio=policy.ess_round_trip_ratio,
        wear_per_kwh=policy.ess_wear_per_kwh,
    )


def base_load_watts(snapshot: Snapshot, policy: Policy) -> float | None:
    """What the grid connection draws now beside jobs, in watts; None where nobody knows."""
    load_watts = consumer_watts(snapshot)[snapshot.site.root.name]
    return None if load_watts is None else max(0.0, load_watts - _drawn_watts(snapshot, policy))


def _drawn_watts(snapshot: Snapshot, policy: Policy) -> float:
    """What jobs draw now beyond their idle GPUs, with their share of the hosts."""
    table = load_table(snapshot, policy)
    gpus = np.array([max(job.gpu_count, len(job.gpu_uuids)) for job in table.placed.jobs], dtype=float)
    each = np.maximum(0.0, table.gpu_watts - policy.idle_gpu_watts) + policy.host_watts_per_gpu
    return float((gpus * each).sum()) * worst_factor(snapshot.site)


def _running(snapshot: Snapshot, policy: Policy) -> tuple[Watts, Watts, Watts, Watts]:
    """By hour the GPUs and watts of running jobs until their time limits, and what caps could take."""
    table = load_table(snapshot, policy)
    jobs = table.placed.jobs
    gpus = np.array([max(job.gpu_count, len(job.gpu_uuids)) for job in jobs], dtype=float)
    each = np.maximum(0.0, table.uncapped_watts + table.coming_watts - policy.idle_gpu_watts)
    watts = gpus * (each + policy.host_watts_per_gpu) * worst_factor(snapshot.site)
    limits = np.array(
        [
            ASSUMED_TIME_LIMIT_SECONDS if job.time_limit_seconds is None else job.time_limit_seconds
            for job in jobs
        ],
        dtype=float,
    )
    started = table.placed.started_at
    ran = np.where(np.isfinite(started), snapshot.at.timestamp() - started, 0.0)
    left_hours = np.maximum(0.0, limits - ran) / 3600.0
    alive = np.clip(left_hours[None, :] - np.arange(HOURS)[:, None], 0.0, 1.0)
    flexible = np.array([job.flex is not Flex.FLEX0 for job in jobs], dtype=float)
    weights = dict(zip(FLEXES, flex_weights(policy).tolist(), strict=True))
    weight = np.array([weights[job.flex] for job in jobs], dtype=float)
    return (
        alive @ gpus,
        alive @ watts,
        _CAP_SAVES_RATIO * (alive @ (watts * flexible)),
        _CAP_COSTS_RATIO * (alive @ (gpus * flexible * weight)),
    )


def _limits(snapshot: Snapshot, policy: Policy) -> Watts:
    """What the grid connection is steered to in each hour: its limit, and that of events within the hour."""
    root = snapshot.site.root
    limits = np.full(HOURS, root.ceiling_watts)
    hours = 3600.0 * np.arange(HOURS)
    for event in snapshot.events:
        if event.circuit == root.name:
            inside = (event.starts_in_seconds < hours + 3600.0) & (event.ends_in_seconds > hours)
            limits = np.where(inside, np.minimum(limits, event.limit_watts), limits)
    return limits * (1.0 - policy.margin_ratio)


def _storage(snapshot: Snapshot) -> tuple[float, float, float]:
    """All usable batteries together: watts, and the kWh above their reserves, at the most and now."""
    watts = room_kwh = soc_kwh = 0.0
    for name in snapshot.site.ess_behind(snapshot.site.root.name):
        reading, ess = snapshot.ess.get(name), snapshot.site.ess[name]
        if reading is not None and reading.usable():
            capacity_kwh = reading.energy_rating_kwh * reading.soh_ratio
            watts += min(reading.max_discharge_watts, reading.max_charge_watts)
            room_kwh += max(0.0, 1.0 - ess.reserve_soc_ratio) * capacity_kwh
            soc_kwh += max(0.0, reading.soc_ratio - ess.reserve_soc_ratio) * capacity_kwh
    return watts, room_kwh, min(soc_kwh, room_kwh)
