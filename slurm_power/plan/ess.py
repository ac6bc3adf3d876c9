"""How much the battery gives or takes this second: follow an excess, recharge when there is room."""

from dataclasses import dataclass

from slurm_power.model.reading import EssReading
from slurm_power.model.site import Ess
from slurm_power.model.units import joules_from_kwh, kilowatts_text
from slurm_power.plan.policy import Policy

_DEAD_BAND_RATIO = 0.01
_FULL_TAPER_RATIO = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """A setpoint (positive discharges) and why."""

    discharge_watts: float
    reason: str


def sustainable_watts(ess: Ess, reading: EssReading | None) -> float:
    """Discharge the battery can hold for ``bridge_seconds`` without touching its reserve.

    As the battery empties this falls, which is what hands the excess over to the job levers in time.
    """
    if reading is None or not reading.usable():
        return 0.0
    usable_ratio = max(0.0, reading.soc_ratio - ess.reserve_soc_ratio)
    energy_joules = joules_from_kwh(usable_ratio * reading.energy_rating_kwh * reading.soh_ratio)
    return min(reading.max_discharge_watts, energy_joules / ess.bridge_seconds)


def burst_watts(ess: Ess, reading: EssReading | None) -> float:
    """Discharge the battery can give now, for however short a time, without touching its reserve."""
    if reading is None or not reading.usable() or reading.soc_ratio <= ess.reserve_soc_ratio:
        return 0.0
    return reading.max_discharge_watts


def dead_band_watts(reading: EssReading) -> float:
    """Setpoints below this are not worth moving the battery for."""
    return _DEAD_BAND_RATIO * max(reading.max_discharge_watts, reading.max_charge_watts)


def charge_taper(ess: Ess, reading: EssReading) -> float:
    """Share of its power that it charges with: fades out towards the target instead of switching off."""
    return min(1.0, max(0.0, ess.target_soc_ratio - reading.soc_ratio) / _FULL_TAPER_RATIO)


def dispatch(
    ess: Ess,
    reading: EssReading,
    *,
    excess_watts: float,
    room_watts: float,
    may_charge: bool,
    policy: Policy,
) -> Dispatch:
    """Answer an excess above the target, or use the room below it.

    ``excess_watts`` and ``room_watts`` are both >= 0 and count without what the battery does now;
    at most one of them is positive. Everything but the reserve may be spent on an excess: job levers
    are already closing in on it by then.
    """
    band_watts = dead_band_watts(reading)
    if excess_watts > band_watts and reading.soc_ratio > ess.reserve_soc_ratio:
        watts = min(excess_watts, reading.max_discharge_watts)
        return Dispatch(
            discharge_watts=watts,
            reason=f"the load, with what is starting, is {kilowatts_text(excess_watts)} above the target;"
            f" the battery stands at {reading.soc_ratio:.0%}",
        )
    if may_charge and room_watts > 0.0 and reading.soc_ratio < ess.target_soc_ratio:
        watts = min(policy.recharge_share_ratio * room_watts, reading.max_charge_watts)
        watts *= charge_taper(ess, reading)
        if watts > band_watts:
            return Dispatch(
                discharge_watts=-watts,
                reason=f"{kilowatts_text(room_watts)} of room; recharging to {ess.target_soc_ratio:.0%}",
            )
    return Dispatch(discharge_watts=0.0, reason="the limit holds without the battery")
