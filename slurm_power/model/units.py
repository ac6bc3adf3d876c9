"""Conversions between the units devices speak and the units used inside (watts, joules, hertz, ratios)."""

JOULES_PER_KWH = 3_600_000.0
MILLIWATTS_PER_WATT = 1000.0
MILLIJOULES_PER_JOULE = 1000.0
HERTZ_PER_MEGAHERTZ = 1_000_000.0


def kwh_from_joules(joules: float) -> float:
    """Convert joules to kilowatt-hours, the unit energy is paid in."""
    return joules / JOULES_PER_KWH


def joules_from_kwh(kwh: float) -> float:
    """Convert kilowatt-hours to joules."""
    return kwh * JOULES_PER_KWH


def kilowatts_text(watts: float) -> str:
    """Format watts for people: ``23.4 kW``."""
    return f"{watts / 1000:.1f} kW"
