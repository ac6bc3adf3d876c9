"""What a run came to: peaks, violations, delays, work lost, fairness and the bill, as plain JSON values.

GPU-hours lost are slowdown times GPUs times time; the longer run that repays the work is not counted again.
A delay is the start against that of the same job without control.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, TextIO

import numpy as np

from slurm_power.model.billing_rules import BillingRules
from slurm_power.model.job import Flex
from slurm_power.model.site import Site
from slurm_power.plan.billing import monthly_bills
from slurm_power.plan.local_calendar import LocalCalendar
from slurm_power.simulate.cluster import PlantJob, Watts
from slurm_power.simulate.jobs_case import Outcome, Period
from slurm_power.simulate.jobs_run import RunRecord, Window

JsonObject = dict[str, Any]


def result(outcome: Outcome, site: Site, tariff: BillingRules | None, zone: tzinfo) -> JsonObject:
    """Everything that is told, as JSON values. Watts, hours, kWh; ratios from 0 to 1."""
    without, controlled = outcome.without, outcome.controlled
    limits = step_limits(outcome, site)
    starts = {job.job_id: job.started_seconds for job in without.jobs}
    found: JsonObject = {
        "aim": outcome.aim,
        "without": _run(without, limits, tariff, zone),
        "controlled": _run(controlled, limits, tariff, zone),
        "periods": [_period(period, without, controlled) for period in outcome.periods],
        "events": [_event(cut_limit, controlled) for cut_limit in outcome.cuts],
        "notes": list(outcome.notes),
    }
    window = without.window
    gpu_hours = sum(_gpu_seconds(job, window) for job in without.jobs) / 3600.0
    lost_hours = sum(job.lost_seconds * job.gpus for job in controlled.jobs) / 3600.0
    found["controlled"] |= {
        "gpu_hours_lost": lost_hours,
        "gpu_hours_lost_ratio": lost_hours / gpu_hours if gpu_hours else 0.0,
        "by_class": {
            flex.value: _delays([job for job in controlled.jobs if job.flex is flex], starts, window)
            for flex in Flex
        },
        "flexible": _delays([job for job in controlled.jobs if job.flex is not Flex.FLEX0], starts, window),
        "by_user": {
            user: _delays(jobs, starts, window) for user, jobs in sorted(_by_user(controlled.jobs).items())
        },
        "fairness": fairness(controlled.jobs),
        "jobs_unfinished": sum(job.ended_seconds is None for job in controlled.jobs),
    }
    found["without"]["gpu_hours"] = gpu_hours
    if outcome.battery is not None:
        soc = controlled.soc_kwh / outcome.battery.energy_kwh
        hours = window.step_seconds / 3600.0
        discharged = float(np.sum(np.maximum(controlled.discharge_watts, 0.0))) * hours / 1000.0
        found["controlled"]["ess"] = {
            "power_watts": outcome.battery.power_watts,
            "energy_kwh": outcome.battery.energy_kwh,
            "lowest_soc_ratio": float(np.min(soc)),
            "last_soc_ratio": float(soc[-1]),
            "discharged_kwh": discharged,
            "cycles": discharged / outcome.battery.energy_kwh,
        }
    shares = [period["peak_share"] for period in found["periods"] if period["peak_share"] is not None]
    found["peak_share"] = float(np.mean(shares)) if shares else None
    return found


def step_limits(outcome: Outcome, site: Site) -> dict[str, Watts]:
    """The limit of each circuit in each step: rating, standing limit, and at the grid the events."""
    window = outcome.without.window
    ends = window.begin_seconds + window.step_seconds * np.arange(1, window.steps + 1)
    found = {}
    for name in outcome.without.circuit_names:
        found[name] = np.full(window.steps, site.circuits[name].ceiling_watts)
    root = found[outcome.without.circuit_names[0]]
    if outcome.limit_watts is not None:
        np.minimum(root, outcome.limit_watts, out=root)
    for cut, limit in outcome.cuts:
        # Steps that lie wholly inside.
        inside = (ends - window.step_seconds >= cut.start_seconds - 1e-6) & (ends <= cut.end_seconds + 1e-6)
        root[inside] = np.minimum(root[inside], limit)
    return found


def _run(
    record: RunRecord, limits: Mapping[str, Watts], tariff: BillingRules | None, zone: tzinfo
) -> JsonObject:
    step = record.window.step_seconds
    violations = {}
    for number, name in enumerate(record.circuit_names):
        over = record.circuit_watts[:, number] - limits[name]
        above = over > 1e-6 * limits[name] + 1e-3
        if above.any():
            violations[name] = {
                "count": int(np.sum(np.diff(np.concatenate([[0], above.astype(np.int8)])) == 1)),
                "worst_watts": float(np.max(over)),
                "seconds": float(np.sum(above)) * step,
            }
    found: JsonObject = {
        "peak_watts": {
            name: float(np.max(record.circuit_watts[:, number]))
            for number, name in enumerate(record.circuit_names)
        },
        "energy_kwh": float(np.sum(record.circuit_watts[:, 0])) * step / 3.6e6,
        "violations": violations,
    }
    if tariff is not None:
        found["bill"] = bill(record.circuit_watts[:, 0], record.window, tariff, zone)
    return found


def bill(grid_watts: Watts, window: Window, rules: BillingRules, zone: tzinfo) -> float:
    """What the import costs over all months of the window; a part of a month pro rata.

    Raises ValueError where the tariff says no price for an hour.
    """
    times: Watts = window.begin_seconds + window.step_seconds * np.arange(window.steps, dtype=np.float64)
    calendar = LocalCalendar.from_epoch(times, zone)
    bills = monthly_bills(rules, calendar, grid_watts, window.step_seconds, pro_rata=True)
    return sum(one.energy + one.demand + one.fixed for one in bills.values())


def _period(period: Period, without: RunRecord, controlled: RunRecord) -> JsonObject:
    inside = slice(period.first, period.end)
    before = float(np.max(without.circuit_watts[inside, 0]))
    after = float(np.max(controlled.circuit_watts[inside, 0]))
    found: JsonObject = {
        "begin": _iso(period.begin_seconds),
        "steps": period.end - period.first,
        "peak_without_watts": before,
        "peak_controlled_watts": after,
        "peak_bound_watts": None,
        "peak_share": None,
    }
    if period.bound is not None:
        best = period.bound.peak_watts
        found["peak_bound_watts"] = best
        found["bound_delay_hours"] = period.bound.mean_delay_hours
        if before - best > 1.0:
            found["peak_share"] = (before - after) / (before - best)
    return found


def _event(cut_limit: tuple[Any, float], controlled: RunRecord) -> JsonObject:
    cut, limit = cut_limit
    window = controlled.window
    begins = window.begin_seconds + window.step_seconds * np.arange(window.steps)
    inside = (begins >= cut.start_seconds - 1e-6) & (begins + window.step_seconds <= cut.end_seconds + 1e-6)
    grid = controlled.circuit_watts[inside, 0]
    return {
        "start": _iso(cut.start_seconds),
        "end": _iso(cut.end_seconds),
        "limit_watts": limit,
        "highest_watts": float(np.max(grid)) if grid.size else None,
        "mean_watts": float(np.mean(grid)) if grid.size else None,
        "steps_above": int(np.sum(grid > limit * (1.0 + 1e-6))),
    }


def _gpu_seconds(job: PlantJob, window: Window) -> float:
    if job.started_seconds is None:
        return 0.0
    end = window.end_seconds if job.ended_seconds is None else job.ended_seconds
    return job.gpus * max(0.0, end - max(job.started_seconds, window.begin_seconds))


def delay_seconds(job: PlantJob, started_without: float | None, window: Window) -> float | None:
    """How much later it started (negative: sooner); one that never did counts to the window's end.

    None for one that would not have started in the window.
    """
    if started_without is None or started_without < window.begin_seconds:
        return None
    started = window.end_seconds if job.started_seconds is None else job.started_seconds
    return started - started_without


def _delays(jobs: Sequence[PlantJob], starts: Mapping[str, float | None], window: Window) -> JsonObject:
    delays = [delay_seconds(job, starts.get(job.job_id), window) for job in jobs]
    hours = np.array([delay for delay in delays if delay is not None]) / 3600.0
    held = np.array([job.held_seconds for job in jobs]) / 3600.0
    slow = np.array([1.0 - mean_performance(job, window) for job in jobs if job.started_seconds is not None])
    some = len(hours) > 0
    return {
        "jobs": len(jobs),
        "gpu_hours_lost": sum(job.lost_seconds * job.gpus for job in jobs) / 3600.0,
        "delay_mean_hours": float(np.mean(hours)) if some else 0.0,
        "delay_p95_hours": float(np.quantile(hours, 0.95)) if some else 0.0,
        "delay_most_hours": float(np.max(hours)) if some else 0.0,
        "delayed_jobs": int(np.sum(hours > 1.0 / 3600.0)),
        "hold_mean_hours": float(np.mean(held)) if len(held) else 0.0,
        "hold_most_hours": float(np.max(held)) if len(held) else 0.0,
        "slowdown_mean_ratio": float(np.mean(slow)) if len(slow) else 0.0,
        "slowdown_most_ratio": float(np.max(slow)) if len(slow) else 0.0,
    }


def mean_performance(job: PlantJob, window: Window) -> float:
    """Over its whole run so far; 1 before it starts."""
    if job.started_seconds is None:
        return 1.0
    end = window.end_seconds if job.ended_seconds is None else job.ended_seconds
    ran = end - job.started_seconds
    return 1.0 if ran <= 0.0 else 1.0 - job.lost_seconds / ran


def fairness(jobs: Iterable[PlantJob]) -> JsonObject:
    """Jain's index over the share of GPU-hours left to each user with flexible jobs, and the worst of them.

    Jain, Chiu, Hawe (1984): (sum x)^2 / (n sum x^2), 1 when all keep the same share.
    """
    kept = {}
    worst_user, worst_lost = None, 0.0
    for user, own in _by_user([job for job in jobs if job.flex is not Flex.FLEX0]).items():
        wanted = sum(job.gpus * (job.lost_seconds + job.done_seconds) for job in own)
        lost = sum(job.gpus * job.lost_seconds for job in own)
        if wanted <= 0.0:
            continue
        kept[user] = 1.0 - lost / wanted
        if lost / wanted > worst_lost:
            worst_user, worst_lost = user, lost / wanted
    values = np.array(list(kept.values()))
    jain = float(np.sum(values) ** 2 / (len(values) * np.sum(values**2))) if len(values) else 1.0
    return {
        "users": len(values),
        "jain_index": jain,
        "worst_user": worst_user,
        "worst_user_lost_ratio": worst_lost,
    }


def _by_user(jobs: Iterable[PlantJob]) -> dict[str, list[PlantJob]]:
    found: dict[str, list[PlantJob]] = {}
    for job in jobs:
        found.setdefault(job.user, []).append(job)
    return found


def write_power(record: RunRecord, file: TextIO) -> None:
    """``time,circuit,power_watts``: means over the step that begins at ``time`` (ISO 8601, UTC)."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["time", "circuit", "power_watts"])
    window = record.window
    for step in range(window.steps):
        time = _iso(window.begin_seconds + step * window.step_seconds)
        rows.writerows(
            [time, name, f"{watts:.3f}"]
            for name, watts in zip(record.circuit_names, record.circuit_watts[step].tolist(), strict=True)
        )


def write_jobs(record: RunRecord, file: TextIO) -> None:
    """One row a job: times in epoch seconds, empty for what has not happened by the end of the window.

    ``performance`` is the mean over its run, so GPUs times (1 - performance) times its run is what it lost.
    """
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["job", "user", "flex", "gpus", "submit", "start", "end", "performance", "hold_seconds"])
    for job in record.jobs:
        rows.writerow(
            [
                job.job_id,
                job.user,
                job.flex.value,
                job.gpus,
                f"{job.submit_seconds:.3f}",
                "" if job.started_seconds is None else f"{job.started_seconds:.3f}",
                "" if job.ended_seconds is None else f"{job.ended_seconds:.3f}",
                "" if job.started_seconds is None else f"{mean_performance(job, record.window):.9f}",
                f"{job.held_seconds:.3f}",
            ]
        )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat().replace("+00:00", "Z")
