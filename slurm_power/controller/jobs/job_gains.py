"""What our levers cost a job and what they gained the site by it, summed up in the job's record."""

from datetime import datetime
from typing import Any

from slurm_power.controller.levers.levers import CapRecord, HoldRecord
from slurm_power.controller.levers.pause_book import PauseRecord
from slurm_power.model.job import Job

# Expected slowdowns are compared with promises: they may meet exactly.
_EXACT = 1e-6


def note_cap(record: dict[str, Any], job: Job, cap: CapRecord, at: datetime, seconds: float) -> None:
    """Add to a job's record the last ``seconds``, up to ``at``, in which a cap stood.

    ``saved_watt_seconds`` is what its GPUs would have drawn more, by what they drew before the first cap;
    ``breached_seconds`` how long a cap went beyond its promise. A gate at its start is a delay, bounded as
    one, and breaches none. A cap that the job's user asked for is no doing of ours.
    """
    if cap.own:
        return
    lowest = record.get("lowest_cap_watts")
    record["lowest_cap_watts"] = min(cap.cap_watts, lowest or cap.cap_watts)
    if cap.lock_hertz is not None:
        record["lowest_lock_hertz"] = min(cap.lock_hertz, record.get("lowest_lock_hertz") or cap.lock_hertz)
    _add(record, "slowdown_seconds", cap.slowdown_ratio * seconds)
    _add(record, "capped_seconds", seconds)
    record.setdefault("capped_since", cap.changed_at.isoformat())
    record["capped_until"] = at.isoformat()
    saved_watts = max(0.0, cap.uncapped_watts - cap.cap_watts) * job.gpu_count
    _add(record, "saved_watt_seconds", saved_watts * seconds)
    record["peak_saved_watts"] = max(number(record.get("peak_saved_watts")), saved_watts)
    if not cap.gate and cap.slowdown_ratio > job.flex.max_slowdown_ratio + _EXACT:
        _add(record, "breached_seconds", seconds)


def note_hold(record: dict[str, Any], hold: HoldRecord, seconds: float) -> None:
    """Add to a job's record the last ``seconds`` in which a hold stood.

    ``delayed_watt_seconds`` is what the job would have drawn meanwhile.
    """
    _add(record, "delayed_watt_seconds", hold.saved_watts * seconds)
    record["peak_delayed_watts"] = max(number(record.get("peak_delayed_watts")), hold.saved_watts)


def note_pause(record: dict[str, Any], pause: PauseRecord, seconds: float) -> None:
    """Add to a job's record the last ``seconds`` in which we kept it stopped."""
    _add(record, "paused_seconds", seconds)
    record.setdefault("paused_since", pause.since.isoformat())
    _add(record, "saved_watt_seconds", pause.saved_watts * seconds)
    record["peak_saved_watts"] = max(number(record.get("peak_saved_watts")), pause.saved_watts)


def _add(record: dict[str, Any], key: str, value: float) -> None:
    record[key] = number(record.get(key)) + value


def number(value: object) -> float:
    """A figure of a record; 0.0 where it has none."""
    return float(value) if isinstance(value, int | float) else 0.0
