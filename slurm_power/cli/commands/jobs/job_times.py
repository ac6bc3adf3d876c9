"""Times and states as users of sacct type them, for where there is no sacct to ask."""

import re
from datetime import datetime, timedelta

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_FORMATS = (
    *("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%m/%d/%y-%H:%M:%S", "%m/%d/%y-%H:%M"),
    *("%m/%d/%y", "%m%d%y"),
)
_OF_TODAY = ("%H:%M:%S", "%H:%M")
_WANTED = "write 2026-01-31, 2026-01-31T08:00, 08:00, today, now-2hours"
# Slurm's short and long words for what powerctld knows of a job.
_STATES = {
    "PENDING": ("PENDING", "PD"),
    "RUNNING": ("RUNNING", "R"),
    "SUSPENDED": ("SUSPENDED", "S"),
    "ENDING": ("COMPLETING", "CG", "ENDING"),
    "ENDED": ("ENDED",),
}
_ENDS = {
    *("BOOT_FAIL", "BF", "CANCELLED", "CA", "COMPLETED", "CD", "DEADLINE", "DL", "FAILED", "F"),
    *("NODE_FAIL", "NF", "OUT_OF_MEMORY", "OOM", "PREEMPTED", "PR", "TIMEOUT", "TO"),
}


def moment(text: str, now: datetime) -> datetime:
    """The time that ``text`` means at ``now``, in its zone; raises ValueError with a sentence."""
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"today": midnight, "midnight": midnight, "noon": midnight + timedelta(hours=12), "now": now}
    if word in named:
        return named[word]
    if match := re.fullmatch(r"now([+-]\d+)\s*([a-z]*)", word):
        unit = _UNITS.get(match[2][:1] or "s")
        if unit is not None:
            return now + timedelta(seconds=int(match[1]) * unit)
    for form in _FORMATS:
        try:
            return datetime.strptime(text.strip().upper(), form).replace(tzinfo=now.tzinfo)
        except ValueError:
            continue
    for form in _OF_TODAY:
        try:
            clock = datetime.strptime(word, form)  # noqa: DTZ007  # only its hour and minute are taken
            return midnight.replace(hour=clock.hour, minute=clock.minute, second=clock.second)
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no time; {_WANTED}")


def wanted_state(text: str) -> str | None:
    """powerctld's word for a state of Slurm's, None where it has none."""
    return next((ours for ours, words in _STATES.items() if text.upper() in words), None)


def states_problem(text: str) -> str:
    """What is wrong with a state that is asked for, "" if nothing."""
    if wanted_state(text) is not None:
        return ""
    if text.upper() in _ENDS:
        return (
            f"--state: {text}: without Slurm's accounting it is not known how a job has ended; ask for ENDED"
        )
    return f"--state: {text!r} is no state of jobs; there are {', '.join(_STATES)}"
