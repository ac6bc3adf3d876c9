"""Which events powerctld has from a signal already, as after a restart of powerbridge."""

import contextlib
from datetime import datetime

from slurm_power.bridge.event_book import Ask

# What has ended by itself recovers, and is nobody's to cancel any more.
_GONE = ("recovering", "over", "cancelled")


async def told_before(ask: Ask, signal: str) -> dict[str, datetime]:
    """The external ids of a signal's events that powerctld follows, with their ends; raises LineError."""
    answer = await ask({"op": "events"})
    rows = answer.get("events")
    found: dict[str, datetime] = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("state") not in _GONE:
            name = row.get("external_id")
            if isinstance(name, str) and name.startswith(f"{signal}/"):
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    found[name] = datetime.fromisoformat(row["ends_at"])
    return found
