"""Windows to plain values and back, for what survives a restart."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from slurm_power.bridge.grid_events import Level, Window


def window_json(window: Window) -> dict[str, Any]:
    """A window as JSON takes it."""
    times = {"starts_at": window.starts_at.isoformat(), "ends_at": window.ends_at.isoformat()}
    return {**asdict(window), **times}


def window_from_json(row: dict[str, Any]) -> Window:
    """Take back what ``window_json`` gave; raises KeyError, TypeError, ValueError for anything else."""
    times = {key: datetime.fromisoformat(row[key]) for key in ("starts_at", "ends_at")}
    return Window(**{**row, **times, "level": Level(**row["level"])})
