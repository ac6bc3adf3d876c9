"""A battery holds the grid connection inside its ramp: what it gives fades, and what falls away it takes up.

Rises are a limit like others (`slurm_power.plan.event_target.ramp_limit_watts`), which batteries and caps
hold together. For a fall there is no other lever: nothing of ours makes jobs draw more.
"""

from slurm_power.model.reading import EssReading
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.ess import Dispatch, dead_band_watts

# A battery this full takes up nothing more.
_FULL_SOC_RATIO = 0.999


def no_steeper(
    reading: EssReading,
    asked: Dispatch,
    *,
    load_watts: float | None,
    floor_watts: float | None,
    least_watts: float,
) -> Dispatch:
    """``asked``, so that the import falls no faster than the ramp (``floor_watts``) and nothing is fed out.

    ``load_watts`` is what the site draws now without its batteries, less what others of them take over; None
    where nobody knows, which changes nothing. ``least_watts`` is the discharge that limits need (> 0), which
    come before any ramp, or the charging that they leave room for (< 0). Without a floor a battery is not
    made to charge. It charges above its usual target if it must: what it takes up for a ramp lasts for
    minutes. The import it makes lies below what it was, so no peak comes of it.
    """
    if load_watts is None:
        return asked
    if floor_watts is None:
        given_watts = min(asked.discharge_watts, max(0.0, load_watts, least_watts))
        if asked.discharge_watts <= 0.0 or given_watts == asked.discharge_watts:
            return asked
        return Dispatch(discharge_watts=given_watts, reason=f"{asked.reason}; nothing is fed into the grid")
    most_charge_watts = 0.0 if reading.soc_ratio >= _FULL_SOC_RATIO else reading.max_charge_watts
    watts = max(load_watts - floor_watts, least_watts, -most_charge_watts)
    if asked.discharge_watts <= watts or (
        asked.discharge_watts == 0.0 and -watts <= dead_band_watts(reading)
    ):
        return asked
    return Dispatch(
        discharge_watts=watts,
        reason=f"the site draws {kilowatts_text(max(0.0, load_watts))} and may come down to"
        f" {kilowatts_text(floor_watts)} by now: the battery keeps the fall inside the ramp",
    )
