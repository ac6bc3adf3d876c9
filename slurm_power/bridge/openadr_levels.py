"""What both OpenADRs ask a site for in the same way: SIMPLE levels, and levels that cannot be meant."""

from datetime import datetime

from slurm_power.bridge.grid_events import Level, timing_problem
from slurm_power.config.signals import OpenAdrSignal
from slurm_power.model.site import Circuit


class EventError(ValueError):
    """An event that is not followed as a whole; the text says why."""


def simple_level(number: float, said: str, signal: OpenAdrSignal) -> Level | None:
    """What SIMPLE 0 to 3, ``said`` like this, means here; None for nothing. Raises EventError."""
    if number not in (0.0, 1.0, 2.0, 3.0):
        raise EventError(f"SIMPLE: {said} is no level from 0 to 3")
    cut = signal.cut_ratio(int(number)) if number else 0.0
    if cut is None:
        raise EventError(f"SIMPLE: level_{number:.0f}_cut_ratio is not set in site.toml")
    return Level(cut_ratio=cut) if cut else None


def check_meant(
    level: Level,
    starts_at: datetime,
    ends_at: datetime | None,
    *,
    signal: OpenAdrSignal,
    circuit: Circuit,
    now: datetime,
) -> None:
    """Raise EventError for a level, or a time, that cannot be meant; what is over may be of any time."""
    problem = level.problem(circuit)
    if not problem and (ends_at is None or ends_at > now):
        problem = timing_problem(starts_at, ends_at or starts_at, now, signal.longest_event_hours)
    if problem:
        raise EventError(problem)
