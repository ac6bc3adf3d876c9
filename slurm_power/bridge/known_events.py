"""Which events powerctld has from a signal already, as after a restart of powerbridge."""

from slurm_power.bridge.event_book import Ask

_GONE = ("over", "cancelled")


async def told_before(ask: Ask, signal: str) -> set[str]:
    """The external ids of a signal's events that powerctld still follows; raises LineError."""
    answer = await ask({"op": "events"})
    rows = answer.get("events")
    found = set()
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("state") not in _GONE:
            name = row.get("external_id")
            if isinstance(name, str) and name.startswith(f"{signal}/"):
                found.add(name)
    return found
