"""How to spread a battery's energy over a power cut: water-filling.

What jobs lose grows faster the deeper they are cut, so a given energy saves most where it holds the load up
to one level in all minutes, and does nothing where the target is above that level anyway.
"""

import numpy as np

from slurm_power.plan.allocation import Floats

_HALVINGS = 60


def water_level(
    targets_watts: Floats, hours: Floats, ess_watts: float, ess_watt_hours: float, most_watts: float
) -> float:
    """The highest level, up to ``most_watts``, that the battery can hold the load at.

    ``hours`` is how long each target holds. The discharge is then the level less the target, between nothing
    and ``ess_watts``.
    """
    low, high = min(float(targets_watts.min()), most_watts), most_watts
    if _needed(high, targets_watts, hours, ess_watts) <= ess_watt_hours:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if _needed(middle, targets_watts, hours, ess_watts) <= ess_watt_hours:
            low = middle
        else:
            high = middle
    return low


def _needed(level_watts: float, targets_watts: Floats, hours: Floats, ess_watts: float) -> float:
    return float((np.clip(level_watts - targets_watts, 0.0, ess_watts) * hours).sum())
