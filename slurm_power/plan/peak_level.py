"""The level that a battery holds a circuit's import to, for what the peak of a billing period costs.

A peak that is paid is paid for the whole period, so the level only ever rises: when the battery cannot hold
it, or when what has followed moments like this one says that it will not, and the energy is worth more later.
Forecasts alone never raise it: only a load that is above the level now does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.power_table import PowerTable

Values = NDArray[np.float64]

# How many levels are tried at once, and how often the best interval is cut into as many again: on one known
# load to a twelve-thousandth of the battery's power, on many possible ones to a hundredth.
_TRIED, _ROUNDS = 24, 3
_TRIED_ON_PATHS, _ROUNDS_ON_PATHS = 12, 2
_ROUNDING_WATTS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """What a dispatch may use of a battery: at its terminals ``charge_watts`` in and ``discharge_watts`` out.

    ``energy_kwh`` is what it can hold between its lowest and highest permitted charge, health counted in, and
    all stored energy is counted from that lowest charge. The losses are split: ``charge_ratio`` of what goes
    in is stored, ``discharge_ratio`` of what is taken from the store comes out. ``wear_per_kwh``: money per
    kWh that comes out. ``*_power_by_soc``: which share of the power may be used at a charge, 1 is full; steps
    keep to it, while levels and courses that are planned ahead take the whole power for granted.
    """

    charge_watts: float
    discharge_watts: float
    energy_kwh: float
    charge_ratio: float
    discharge_ratio: float
    wear_per_kwh: float = 0.0
    charge_power_by_soc: PowerTable | None = None
    discharge_power_by_soc: PowerTable | None = None

    @property
    def is_none(self) -> bool:
        """Whether there is nothing to dispatch."""
        return self.energy_kwh <= 0.0 or self.discharge_watts <= 0.0 or self.charge_watts <= 0.0

    def discharge_bound_watts(self, stored_kwh: float, hours: float) -> float:
        """The most it can give for ``hours``."""
        most_watts = self.discharge_watts * self._share(self.discharge_power_by_soc, stored_kwh)
        return max(0.0, min(most_watts, 1000.0 * stored_kwh * self.discharge_ratio / hours))

    def charge_bound_watts(self, stored_kwh: float, hours: float) -> float:
        """The most it can take for ``hours``."""
        room_kwh = self.energy_kwh - stored_kwh
        most_watts = self.charge_watts * self._share(self.charge_power_by_soc, stored_kwh)
        return max(0.0, min(most_watts, 1000.0 * room_kwh / (self.charge_ratio * hours)))

    def _share(self, table: PowerTable | None, stored_kwh: float) -> float:
        return 1.0 if table is None or self.energy_kwh <= 0.0 else table.ratio(stored_kwh / self.energy_kwh)

    def after(self, stored_kwh: float, discharge_watts: float, hours: float) -> float:
        """What is stored after ``hours`` at a power; negative ``discharge_watts`` charges."""
        if discharge_watts >= 0.0:
            return max(0.0, stored_kwh - discharge_watts * hours / (1000.0 * self.discharge_ratio))
        stored = stored_kwh - discharge_watts * hours * self.charge_ratio / 1000.0
        return min(self.energy_kwh, stored)


def held_levels(
    paths: Values, battery: Battery, *, stored_kwh: float, step_hours: float, least_watts: float
) -> Values:
    """The least level that could have been held on each path with all of it known beforehand.

    ``paths``: loads in watts, shape (steps, paths), NaN where the level does not count (outside the hours of
    a demand charge, after the billing period): there the battery only charges. ``least_watts``: no level
    below it. Returns watts, shape (paths,). Greedy is exact: for a given level, taking all that may be taken
    before an excess and giving no more than the excess is never worse.
    """
    highest = np.nanmax(np.where(np.isnan(paths), -np.inf, paths), axis=0)
    high = np.maximum(highest, least_watts)
    low = np.maximum(high - battery.discharge_watts, least_watts)
    shares = np.linspace(0.0, 1.0, _TRIED_ON_PATHS)[:, None]
    for _ in range(_ROUNDS_ON_PATHS):
        tried = low + (high - low) * shares
        held = _held(paths, tried, battery, stored_kwh, step_hours)
        held[-1] = True
        first = held.argmax(axis=0)
        columns = np.arange(paths.shape[1])
        high, low = tried[first, columns], tried[np.maximum(first - 1, 0), columns]
    levels: Values = high
    return levels


def _held(
    paths: Values, levels: Values, battery: Battery, stored_kwh: float, step_hours: float
) -> NDArray[np.bool_]:
    """Whether each level, shape (tried, paths), holds on its path."""
    out_kwh = step_hours / (1000.0 * battery.discharge_ratio)
    in_kwh = step_hours * battery.charge_ratio / 1000.0
    stored = np.full(levels.shape, stored_kwh)
    held = np.ones(levels.shape, dtype=bool)
    for loads in paths:
        over = loads - levels
        free = np.isnan(over)
        if free.any():
            over = np.where(free, -battery.charge_watts, over)
        wanted = np.maximum(over, 0.0)
        held &= (wanted <= battery.discharge_watts + _ROUNDING_WATTS) & (wanted * out_kwh <= stored + 1e-9)
        stored -= np.minimum(wanted * out_kwh, stored)
        stored += np.minimum(
            np.minimum(np.maximum(-over, 0.0), battery.charge_watts) * in_kwh, battery.energy_kwh - stored
        )
    return held


def least_level(
    load_watts: Values,
    battery: Battery,
    *,
    stored_kwh: float,
    end_stored_kwh: float,
    step_hours: float,
) -> float:
    """The least level of one known load, at whose end at least ``end_stored_kwh`` is stored.

    NaN where the level does not count. Watts. This is the bound of perfect foresight on the peak.
    """
    counting = load_watts[~np.isnan(load_watts)]
    if not len(counting):
        return 0.0
    high = float(counting.max())
    low = high - battery.discharge_watts
    for _ in range(_ROUNDS):
        tried = np.linspace(low, high, _TRIED)
        held, left_kwh = _held_to_end(load_watts, tried, battery, stored_kwh, step_hours)
        held &= left_kwh >= end_stored_kwh - 1e-9
        held[-1] = True
        first = int(held.argmax())
        high, low = float(tried[first]), float(tried[max(first - 1, 0)])
    return high


def _held_to_end(
    load_watts: Values,
    levels: Values,
    battery: Battery,
    stored_kwh: float,
    step_hours: float,
) -> tuple[NDArray[np.bool_], Values]:
    """Whether each level, shape (tried,), holds on the load, and what is stored after it."""
    out_kwh = step_hours / (1000.0 * battery.discharge_ratio)
    in_kwh = step_hours * battery.charge_ratio / 1000.0
    stored = np.full(levels.shape, stored_kwh)
    held = np.ones(levels.shape, dtype=bool)
    most_kwh = battery.energy_kwh
    for load in load_watts:
        over = np.full(levels.shape, -battery.charge_watts) if np.isnan(load) else load - levels
        wanted = np.maximum(over, 0.0)
        held &= (wanted <= battery.discharge_watts + _ROUNDING_WATTS) & (wanted * out_kwh <= stored + 1e-9)
        stored -= np.minimum(wanted * out_kwh, stored)
        stored += np.minimum(
            np.minimum(np.maximum(-over, 0.0), battery.charge_watts) * in_kwh, most_kwh - stored
        )
    return held, stored


def raised_level(
    level_watts: float,
    load_watts: float,
    paths: Values | None,
    battery: Battery,
    *,
    stored_kwh: float,
    step_hours: float,
    quantile: float = 0.5,
    rest_watts: Values | None = None,
) -> float:
    """The level to hold in this step, at least ``level_watts``, for a load that is above it.

    ``rest_watts``: levels that the time after the paths may need in any case; none of them known means that
    nothing is said about that time. The level
    is what the battery cannot hold now, or a level that could have been held on the ``quantile`` of the
    ``paths`` (shape (steps, paths), the first row is the load now), known beforehand, whichever is more.
    Without paths only the first: the plain ratchet.
    """
    physical = max(level_watts, load_watts - battery.discharge_bound_watts(stored_kwh, step_hours))
    if paths is None or not paths.size or load_watts <= physical:
        return physical
    levels = held_levels(paths, battery, stored_kwh=stored_kwh, step_hours=step_hours, least_watts=physical)
    if rest_watts is not None and len(rest_watts):
        levels = np.maximum.outer(levels, rest_watts).ravel()
    return max(physical, min(load_watts, float(np.quantile(levels, quantile))))


def reserve_kwh(
    paths: Values, level_watts: Values | float, battery: Battery, *, step_hours: float, quantile: float = 0.9
) -> Values:
    """What has to be stored at the start of each step so that the level holds on from there; shape (steps,).

    The ``quantile`` over the paths, shape (steps, paths), of the energy that their excesses still need at the
    worst, less what can be recharged between them; never more than the battery holds. ``level_watts``: one
    for all steps, or shape (steps,), infinite where none counts. Computed backwards from the end.
    """
    over = paths - (level_watts[:, None] if isinstance(level_watts, np.ndarray) else level_watts)
    out_kwh = np.clip(over, 0.0, battery.discharge_watts) * (step_hours / (1000.0 * battery.discharge_ratio))
    in_kwh = np.clip(-over, 0.0, battery.charge_watts) * (step_hours * battery.charge_ratio / 1000.0)
    needed = np.zeros(paths.shape[1])
    result = np.empty(len(paths))
    for step in range(len(paths) - 1, -1, -1):
        needed = np.minimum(np.maximum(needed - in_kwh[step], 0.0) + out_kwh[step], battery.energy_kwh)
        result[step] = np.quantile(needed, quantile)
    return result
