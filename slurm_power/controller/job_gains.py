"""What our levers cost a job and what they gained the site by it, summed up in the job's record."""

from datetime import datetime
from typing import Any

from slurm_power.controller.levers import LeverState
from slurm_power.model.job import Job

# Expected slowdowns are compared with promises: they may meet exactly.
_EXACT = 1e-6


def note_gains(record: dict[str, Any], job: Job, levers: LeverState, at: datetime, seconds: float) -> None:
    """Add the last ``seconds`` to a job's record; a job that no lever touches is left as it is.

    ``saved_watt_seconds`` is what its GPUs would have drawn more, by what they drew before the first cap;
    ``delayed_watt_seconds`` what it would have drawn while we held it; ``breached_seconds`` how long a cap
    went beyond its promise. A gate at its start is a delay, bounded as one, and breaches none.
    """
    cap = levers.caps.get(job.job_id)
    if cap is not None:
        lowest = record.get("lowest_cap_watts")
        record["lowest_cap_watts"] = min(cap.cap_watts, lowest or cap.cap_watts)
        if cap.lock_hertz is not None:
            record["lowest_lock_hertz"] = min(
                cap.lock_hertz, record.get("lowest_lock_hertz") or cap.lock_hertz
            )
        _add(record, "slowdown_seconds", cap.slowdown_ratio * seconds)
        _add(record, "capped_seconds", seconds)
        record.setdefault("capped_since", cap.changed_at.isoformat())
        record["capped_until"] = at.isoformat()
        saved_watts = max(0.0, cap.uncapped_watts - cap.cap_watts) * job.gpu_count
        _add(record, "saved_watt_seconds", saved_watts * seconds)
        record["peak_saved_watts"] = max(_number(record.get("peak_saved_watts")), saved_watts)
        if not cap.gate and cap.slowdown_ratio > job.flex.max_slowdown_ratio + _EXACT:
            _add(record, "breached_seconds", seconds)
    hold = levers.holds.get(job.job_id)
    if hold is not None:
        _add(record, "delayed_watt_seconds", hold.saved_watts * seconds)
        record["peak_delayed_watts"] = max(_number(record.get("peak_delayed_watts")), hold.saved_watts)


def _add(record: dict[str, Any], key: str, value: float) -> None:
    record[key] = _number(record.get(key)) + value


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
