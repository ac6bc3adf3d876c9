"""What a battery does for money this second, below what limits ask of it: hold a level, recharge, trade."""

from slurm_power.model.grid_event import Commitment
from slurm_power.model.outlook import EssOutlook
from slurm_power.model.reading import EssReading
from slurm_power.model.site import Ess
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import joules_from_kwh, kilowatts_text
from slurm_power.plan.ess import Dispatch, charge_taper, dead_band_watts
from slurm_power.plan.policy import Policy

# Demand is metered in quarters of an hour: a battery that runs low gives what it can keep up for one.
_DEMAND_SECONDS = 900.0


def outlook_of(snapshot: Snapshot) -> EssOutlook | None:
    """The outlook that counts now; None where there is none or it is stale."""
    outlook = snapshot.outlook
    return outlook if outlook is not None and outlook.counts_at(snapshot.at) else None


def traded_watts(snapshot: Snapshot, outlook: EssOutlook | None) -> float | None:
    """What trading may want of the batteries; None where nothing is traded.

    Not while a grid event is announced: then they fill up, as what is stored will be needed.
    """
    if outlook is None or any(event.commitment is not Commitment.LIMIT for event in snapshot.events):
        return None
    return outlook.trade_watts


def economic_dispatch(
    ess: Ess,
    reading: EssReading,
    outlook: EssOutlook,
    asked: Dispatch,
    *,
    load_watts: float | None,
    expected_watts: float | None,
    room_watts: float,
    trade_watts: float | None,
    may_trade: bool,
    policy: Policy,
) -> Dispatch:
    """``asked`` is what limits want, which comes first; the rest goes to the level, recharging and trading.

    ``load_watts`` is what the site draws without its batteries, less what others of them take over already;
    ``expected_watts`` the same with what is starting; None where nobody knows: then limits decide alone.
    ``room_watts``: what is free below all limits. ``may_trade``: the meters are well, and no cap or hold of
    ours stands.
    """
    if load_watts is None or expected_watts is None:
        return asked
    level = outlook.level_watts
    if level is not None and load_watts > level:
        return _held(ess, reading, asked, load_watts=load_watts, level_watts=level, period=outlook.period)
    if asked.discharge_watts > 0.0 or not may_trade:
        return asked
    if trade_watts is not None and trade_watts >= 0.0:
        return _sold(ess, reading, outlook, asked, min(trade_watts, load_watts))
    top_watts = outlook.charge_top_watts
    watts = min(
        policy.recharge_share_ratio * room_watts, top_watts - expected_watts, reading.max_charge_watts
    )
    if trade_watts is not None:
        watts = min(watts, -trade_watts)
    watts *= charge_taper(ess, reading)
    if watts <= dead_band_watts(reading):
        return asked
    why = f"recharging to {ess.target_soc_ratio:.0%}" if trade_watts is None else outlook.trade_reason
    return Dispatch(
        discharge_watts=-watts,
        reason=f"{why}; the site draws {kilowatts_text(load_watts)} and no more than"
        f" {kilowatts_text(top_watts)} with it",
    )


def _held(
    ess: Ess, reading: EssReading, asked: Dispatch, *, load_watts: float, level_watts: float, period: str
) -> Dispatch:
    """Keep the import at the level; near its end what can be kept up for a demand interval."""
    band_watts = dead_band_watts(reading)
    watts = min(load_watts - level_watts, _sustained_watts(ess, reading, ess.reserve_soc_ratio))
    if watts <= asked.discharge_watts or load_watts - level_watts <= band_watts:
        return asked
    if watts <= band_watts:
        return Dispatch(
            discharge_watts=0.0,
            reason=f"the battery is down to {reading.soc_ratio:.0%} and cannot keep the site at"
            f" {kilowatts_text(level_watts)} any longer",
        )
    return Dispatch(
        discharge_watts=watts,
        reason=f"the site draws {kilowatts_text(load_watts)}; the highest quarter of an hour of"
        f" {period} is paid for, so the battery keeps it at {kilowatts_text(level_watts)}",
    )


def _sold(
    ess: Ess, reading: EssReading, outlook: EssOutlook, asked: Dispatch, wanted_watts: float
) -> Dispatch:
    """Give what is stored above the level's reserve and in the budget of cycles; never more than is drawn."""
    kept_ratio = ess.reserve_soc_ratio + outlook.reserve_ratio * max(
        0.0, ess.target_soc_ratio - ess.reserve_soc_ratio
    )
    watts = min(wanted_watts, _sustained_watts(ess, reading, kept_ratio))
    saleable_kwh = outlook.saleable_kwh.get(reading.name)
    if saleable_kwh is not None:
        watts = min(watts, joules_from_kwh(saleable_kwh) / _DEMAND_SECONDS)
    if watts <= dead_band_watts(reading):
        return asked
    return Dispatch(
        discharge_watts=watts,
        reason=f"{outlook.trade_reason}; the battery stands at {reading.soc_ratio:.0%}"
        f" and keeps {kept_ratio:.0%}",
    )


def _sustained_watts(ess: Ess, reading: EssReading, least_soc_ratio: float) -> float:
    """The discharge that lasts for a demand interval without going below a charge."""
    usable_ratio = max(0.0, reading.soc_ratio - max(least_soc_ratio, ess.reserve_soc_ratio))
    joules = joules_from_kwh(usable_ratio * reading.energy_rating_kwh * reading.soh_ratio)
    return min(reading.max_discharge_watts, joules / _DEMAND_SECONDS)
