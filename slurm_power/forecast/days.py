"""The next days in quarters of an hour: all cheap experts, and a state-space model once it is fitted."""

from collections.abc import Mapping

from slurm_power.forecast.blend import DAYS_AHEAD, Blend
from slurm_power.forecast.experts import Expert, Seasons
from slurm_power.forecast.state_space import StateSpace

# What `Blend.adopt` has to be given parameters for; silent before.
STATE_SPACE = "state_space"


def days_ahead(seasons: Seasons, experts: Mapping[str, Expert] | None = None) -> Blend:
    """The blend for a horizon of days, of all or some experts, and of `state_space`."""
    return Blend(seasons, experts, DAYS_AHEAD, {STATE_SPACE: StateSpace})
