"""The levels that the rest of a billing period may need, drawn from the weeks that have been."""

import numpy as np

from slurm_power.plan.peak_level import Battery, Values, held_levels

# A rest of the period is made of pairs of days of one week; weeks lose half their weight in so many days.
WEEK_DAYS = 7
PAIR_DAYS = 2
HALF_WEIGHT_DAYS = 14.0
DRAWN = 40
SEARCHED_DAYS = 90
LONGEST_DAYS = 28
# How full the battery is taken to be when the first of these days comes.
STORED_RATIO = 0.9


def rest_levels(
    history: Values, days_left: float, battery: Battery, *, day_steps: int, step_hours: float
) -> Values | None:
    """The level that could be held on each of `DRAWN` drawn rests of ``days_left`` days; watts.

    ``history``: load on the planning grid, no gaps, the newest last. Nothing is random: the draw depends on
    how much history there is. None while there are not two weeks.
    """
    days = min(len(history) // day_steps, SEARCHED_DAYS)
    if days < 2 * WEEK_DAYS:
        return None
    by_day = history[-days * day_steps :].reshape(days, day_steps)
    chance = np.random.default_rng(len(history))
    ends = np.arange(WEEK_DAYS, days + 1)
    weights = 0.5 ** ((days - ends) / HALF_WEIGHT_DAYS)
    whole = max(1, min(LONGEST_DAYS, round(days_left)))
    pairs = -(-whole // PAIR_DAYS)
    week_ends = chance.choice(ends, size=DRAWN, p=weights / weights.sum())
    firsts = week_ends[:, None] - WEEK_DAYS + chance.integers(0, WEEK_DAYS - 1, size=(DRAWN, pairs))
    chosen = (firsts[:, :, None] + np.arange(PAIR_DAYS)).reshape(DRAWN, -1)[:, :whole]
    rests = by_day[chosen].reshape(DRAWN, -1).T
    return held_levels(
        rests,
        battery,
        stored_kwh=STORED_RATIO * battery.energy_kwh,
        step_hours=step_hours,
        least_watts=0.0,
    )
