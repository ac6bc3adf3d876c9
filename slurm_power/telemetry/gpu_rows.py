"""GPU rows of a node's telemetry into readings, checked: done for every GPU of the site, so done fast."""

import math
from operator import itemgetter

from slurm_power.model.reading import GpuReading

_NUMBERS = (
    "power_watts",
    "utilization_ratio",
    "sm_clock_hertz",
    "temperature_celsius",
    "requested_cap_watts",
    "enforced_cap_watts",
    "default_cap_watts",
    "min_cap_watts",
    "max_cap_watts",
    "slot",
)
_values = itemgetter(*_NUMBERS)
_KINDS = frozenset({int, float})


def gpu_of(row: dict[str, object]) -> GpuReading:
    """One GPU of a telemetry message; raises KeyError, TypeError or ValueError for a wrong field."""
    values = _values(row)
    # One look at all of them: which one is wrong is worth the time only when one is.
    if not _KINDS.issuperset(map(type, values)) or not math.isfinite(sum(values)):
        _complain(row)
    power, utilization, clock, celsius, requested, enforced, default, low, high, slot = values
    energy = row["energy_joules"]
    if energy is not None and (type(energy) not in _KINDS or not math.isfinite(energy)):  # type: ignore[arg-type]  # a number, as just seen
        raise ValueError(f"energy_joules is no number: {energy!r}")
    return GpuReading(
        uuid=str(row["uuid"]),
        slot=int(slot),
        name=str(row["name"]),
        power_watts=power,
        energy_joules=energy,  # type: ignore[arg-type]  # a number or None, as just seen
        utilization_ratio=utilization,
        sm_clock_hertz=clock,
        temperature_celsius=celsius,
        requested_cap_watts=requested,
        enforced_cap_watts=enforced,
        default_cap_watts=default,
        min_cap_watts=low,
        max_cap_watts=high,
        mig_enabled=row.get("mig_enabled") is True,
        error=str(row.get("error", "")),
    )


def _complain(row: dict[str, object]) -> None:
    for key in _NUMBERS:
        value = row[key]
        if type(value) not in _KINDS or not math.isfinite(value):  # type: ignore[arg-type]  # a number, as just seen
            raise ValueError(f"{key} is no number: {value!r}")
    raise ValueError("numbers too large to be readings")
