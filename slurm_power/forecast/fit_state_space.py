"""Parameters of `state_space` from a series, by maximum likelihood with statsmodels.

statsmodels takes seconds to import and 190 MB of memory, so it is imported when it is needed, and what is
kept of a fit is seven numbers. Nothing else imports it.
"""

import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from slurm_power.forecast.experts import Seasons, Values
from slurm_power.forecast.state_space import Parameters

# The extra of this package that brings statsmodels.
EXTRA = "forecast"
FIT_DAYS = 28
# Below this there is no day to be learned.
LEAST_DAYS = 3
HARMONICS = 6
# Each takes up to 0.1 s at 2,688 values; most fits are done after 20.
MOST_ITERATIONS = 50
_START = 0.01, 1e-5, 0.01, 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """``parameters``, None where there are none; ``converged`` is False where the search was cut short.

    ``reason``: why there are none, "" otherwise.
    """

    parameters: Parameters | None
    converged: bool = False
    reason: str = ""


def is_installed() -> bool:
    """Whether statsmodels is there, without importing it."""
    return find_spec("statsmodels") is not None


def fit(
    values: Values, seasons: Seasons, before: Parameters | None = None, *, harmonics: int = HARMONICS
) -> Fit:
    """Fit to the last 28 days, NaN for gaps; from the parameters ``before`` on, which saves time.

    Never raises for what a series may be; raises ImportError without statsmodels.
    """
    day = seasons.day_steps
    recent = values[-FIT_DAYS * day :]
    known = np.isfinite(recent)
    harmonics = min(harmonics, day // 2 - 1)
    if harmonics < 1:
        return Fit(parameters=None, reason=f"{day} steps a day are too few for a wave")
    if known.sum() < LEAST_DAYS * day:
        return Fit(parameters=None, reason=f"{known.sum() / day:.1f} days of values are too few")
    scale = float(np.std(recent[known]))
    if not scale > 1e-9 * float(np.max(np.abs(recent[known]))):
        return Fit(parameters=None, reason="the series does not change")
    scaled = recent / scale
    scaled -= scaled[known].mean()
    start = Parameters(
        day_steps=day,
        harmonics=harmonics,
        scale=scale,
        level_variance=_START[0],
        season_variance=_START[1],
        rest_variance=_START[2],
        decay=_START[3],
    )
    if before is not None and (before.day_steps, before.harmonics) == (day, harmonics):
        start = replace(before, scale=scale)
    return _likeliest(scaled, start)


def _likeliest(scaled: Values, start: Parameters) -> Fit:
    from statsmodels.tsa.statespace.structural import UnobservedComponents  # noqa: PLC0415  # seconds

    with warnings.catch_warnings():
        # What did not converge is told in the result.
        warnings.simplefilter("ignore")
        try:
            model = UnobservedComponents(
                scaled,
                level="rwalk",
                freq_seasonal=[{"period": start.day_steps, "harmonics": start.harmonics}],
                autoregressive=1,
            )
            found = model.fit(
                start_params=[
                    max(start.level_variance, 1e-8),
                    max(start.season_variance, 1e-8),
                    max(start.rest_variance, 1e-8),
                    min(max(start.decay, -0.98), 0.98),
                ],
                method="lbfgs",
                maxiter=MOST_ITERATIONS,
                disp=False,
                low_memory=True,
                cov_type="none",
            )
        except (ValueError, FloatingPointError, ZeroDivisionError, np.linalg.LinAlgError) as error:
            return Fit(parameters=None, reason=f"the fit failed: {error}")
    level, season, rest, decay = (float(each) for each in found.params)
    try:
        parameters = replace(
            start, level_variance=level, season_variance=season, rest_variance=rest, decay=decay
        )
    except ValueError as error:
        return Fit(parameters=None, reason=f"the fit gave what cannot be: {error}")
    return Fit(parameters=parameters, converged=bool(found.mle_retvals.get("converged", False)))
