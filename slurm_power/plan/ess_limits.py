"""What a battery may do now by its own nature: C-rates, charge near its ends, temperature.

The inverter's own limits come first and are never widened. All that plans a battery sees only what is left,
so that a fading battery hands over to job levers as an emptying one does.
"""

from dataclasses import replace
from enum import StrEnum

from slurm_power.model.power_table import PowerTable
from slurm_power.model.reading import EssReading
from slurm_power.model.site import Ess


class Direction(StrEnum):
    """Which way energy flows, as seen from the site."""

    CHARGE = "charge"
    DISCHARGE = "discharge"


# Directions that a temperature has stopped, and that have not been let go yet.
Stops = frozenset[Direction]
NO_STOPS: Stops = frozenset()


def heat_stops(ess: Ess, reading: EssReading, before: Stops) -> Stops:
    """Which directions the temperature stops now, given those that it had stopped before.

    A stop is left only ``temperature_margin_celsius`` inside the table, and never while nobody knows the
    temperature.
    """
    celsius = reading.temperature_celsius
    found = set()
    for direction in Direction:
        table = _heat_table(ess, direction)
        if table is None:
            continue
        if celsius is None:
            is_stopped = direction in before
        elif direction in before:
            margin = ess.temperature_margin_celsius
            is_stopped = min(table.ratio(celsius + part) for part in (-margin, 0.0, margin)) <= 0.0
        else:
            is_stopped = table.ratio(celsius) <= 0.0
        if is_stopped:
            found.add(direction)
    return frozenset(found)


def heat_ratio(ess: Ess, reading: EssReading, direction: Direction) -> float:
    """Share of its power that the temperature leaves; the site's own word where nobody knows it."""
    table = _heat_table(ess, direction)
    if table is None:
        return 1.0
    if reading.temperature_celsius is None:
        return ess.unknown_temperature_ratio
    return table.ratio(reading.temperature_celsius)


def limited(ess: Ess, reading: EssReading, stops: Stops = NO_STOPS) -> EssReading:
    """The reading with the most that the battery may charge and discharge with now, in watts.

    Each table is a limit of its own, so the lowest share counts and not their product. A share is one of the
    C-rate's power where the site states one, else of what the inverter says.
    """
    return replace(
        reading,
        max_charge_watts=_watts(ess, reading, Direction.CHARGE, stops),
        max_discharge_watts=_watts(ess, reading, Direction.DISCHARGE, stops),
    )


def _watts(ess: Ess, reading: EssReading, direction: Direction, stops: Stops) -> float:
    if direction is Direction.CHARGE:
        told, c_rate, by_soc = reading.max_charge_watts, ess.max_charge_c_rate, ess.charge_power_by_soc
    else:
        told, c_rate, by_soc = (
            reading.max_discharge_watts,
            ess.max_discharge_c_rate,
            ess.discharge_power_by_soc,
        )
    if direction in stops:
        return 0.0
    full_watts = told
    if c_rate is not None:
        full_watts = 1000.0 * c_rate * reading.energy_rating_kwh * reading.soh_ratio
    ratio = heat_ratio(ess, reading, direction)
    if by_soc is not None:
        ratio = min(ratio, by_soc.ratio(reading.soc_ratio))
    return min(told, ratio * full_watts)


def _heat_table(ess: Ess, direction: Direction) -> PowerTable | None:
    if direction is Direction.CHARGE:
        return ess.charge_power_by_celsius
    return ess.discharge_power_by_celsius
