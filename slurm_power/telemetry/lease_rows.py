"""Lease rows of a node's telemetry, checked: users are shown them, and they are compared with our own."""

import math

_TEXTS = ("lease_id", "uuid", "state", "kind")
_MAYBE_TEXTS = ("job_id", "lever")
_MAYBE_NUMBERS = ("cap_watts", "lock_hertz", "remaining_seconds")


def lease_of(row: dict[str, object]) -> dict[str, object]:
    """One lease with the fields we know; raises KeyError or ValueError for a wrong one."""
    found: dict[str, object] = {}
    for key in _TEXTS:
        if not isinstance(row[key], str):
            raise ValueError(f"{key} of a lease is no text: {row[key]!r}")
        found[key] = row[key]
    for key in _MAYBE_TEXTS:
        value = row.get(key)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{key} of a lease is no text: {value!r}")
        found[key] = value
    for key in _MAYBE_NUMBERS:
        value = row.get(key)
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):  # type: ignore[arg-type]  # a number, as just seen
            raise ValueError(f"{key} of a lease is no number: {value!r}")
        if key in row:
            found[key] = value
    return found
