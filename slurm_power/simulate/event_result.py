"""What an event came to: delivered against target, what jobs lost, what the battery gave; and its rows."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from slurm_power.plan.allocation import Floats
from slurm_power.simulate.event import (
    FLOOR_RATIOS,
    MINUTE_SECONDS,
    Event,
    weights_of,
)

CSV_COLUMNS = ("second", "job", "power_watts", "cap_watts", "performance")
ESS_ROW = "ess"


def summary(event: Event) -> dict[str, Any]:
    """All figures, under the names that docs/simulate-event.md explains."""
    spec, uncapped = event.spec, event.uncapped_watts
    during = (event.seconds >= 0.0) & (event.seconds < spec.minutes * MINUTE_SECONDS)
    held = during & (event.seconds >= spec.ramp_seconds)
    grid_watts = event.grid_import_watts
    performance = event.performance_ratios[during]
    mean = performance.mean(axis=0)
    weights = weights_of(event.jobs)
    gpus = [job.gpus for job in event.jobs]
    above_watts = (grid_watts - event.target_watts)[held]
    return {
        "gpus": sum(gpus),
        "uncapped_watts": uncapped,
        "target_watts": (1.0 - spec.cut_ratio) * uncapped,
        "cut_ratio": spec.cut_ratio,
        "duration_seconds": spec.minutes * MINUTE_SECONDS,
        "ramp_seconds": spec.ramp_seconds,
        "feasible": event.shortfall_watts == 0.0,
        "shortfall_watts": event.shortfall_watts,
        "bound_shortfall_watts": event.bound.shortfall_watts,
        "weighted_performance": float(np.average(mean, weights=weights)),
        "bound_weighted_performance": event.bound.gain / sum(weights),
        "gpu_weighted_performance": float(np.average(mean, weights=gpus)),
        "mean_performance": float(mean.mean()),
        "over_curtailment_ratio": _mean(np.maximum(0.0, -above_watts)) / uncapped,
        "worst_above_target_ratio": max(
            0.0, float((above_watts / event.target_watts[held]).max(initial=0.0))
        ),
        "time_to_target_seconds": event.time_to_target_seconds,
        "caps_written_second": -event.lead_seconds,
        "recovery_seconds": _recovery_seconds(event),
        "largest_rise_ratio": float(np.diff(grid_watts).max(initial=0.0)) / uncapped,
        "highest_grid_watts": float(grid_watts.max()),
        "lost_gpu_hours": float(((1.0 - event.performance_ratios) * gpus).sum()) / 60.0,
        "performance_per_kilowatt": 1e3 * event.last.price_per_watt / sum(weights),
        "alternating_jobs": list(event.alternating),
        "ess": _ess(event),
        "jobs": [
            {
                "job": job.name,
                "workload": job.workload,
                "gpus": job.gpus,
                "flex": job.flex.value,
                "priority": job.priority,
                "performance_ratio": float(mean[index]),
                "least_performance_ratio": float(performance[:, index].min()),
                "floor_ratio": FLOOR_RATIOS[job.flex],
                "uncapped_watts": float(event.job_watts[0, index]),
                "power_watts": float(event.job_watts[during, index].mean()),
                "cap_watts": setting.cap_watts if setting.paused_gpus < job.gpus else None,
                "paused_gpus": setting.paused_gpus,
                "alternates": setting.alternates,
            }
            for index, (job, setting) in enumerate(zip(event.jobs, event.last.settings, strict=True))
        ],
    }


def csv_rows(event: Event) -> Iterator[tuple[str, ...]]:
    """One row a job and minute, and one for the battery where there is one: its watts are negative."""
    has_ess = event.spec.ess_watts > 0.0 and event.spec.ess_watt_hours > 0.0
    for index, second in enumerate(event.seconds):
        for column, job in enumerate(event.jobs):
            cap = float(event.cap_watts[index, column])
            yield (
                f"{second:.0f}",
                job.name,
                f"{event.job_watts[index, column]:.3f}",
                "" if math.isnan(cap) else f"{cap:.3f}",
                f"{event.performance_ratios[index, column]:.6f}",
            )
        if has_ess:
            # Adding nothing turns a negative zero into a plain one.
            yield f"{second:.0f}", ESS_ROW, f"{0.0 - event.ess_discharge_watts[index]:.3f}", "", ""


def _ess(event: Event) -> dict[str, float] | None:
    spec = event.spec
    if spec.ess_watts <= 0.0 or spec.ess_watt_hours <= 0.0:
        return None
    given_watt_hours = event.ess_discharge_watts.sum() / 60.0
    return {
        "power_watts": spec.ess_watts,
        "usable_kwh": spec.ess_watt_hours / 1e3,
        "discharged_kwh": float(given_watt_hours) / 1e3,
        "recharge_kwh": float(given_watt_hours) / 1e3 / spec.ess_round_trip_ratio,
        "highest_discharge_watts": float(event.ess_discharge_watts.max()),
        "lowest_soc_ratio": max(0.0, 1.0 - float(given_watt_hours) / spec.ess_watt_hours),
    }


def _recovery_seconds(event: Event) -> float:
    """From the end of the event until the first minute in which every job is as before."""
    end = event.spec.minutes * MINUTE_SECONDS
    free = event.job_watts[0]
    as_before = np.isclose(event.job_watts, free, rtol=1e-9).all(axis=1) & (event.seconds >= end)
    return float(event.seconds[as_before][0]) - end


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0
