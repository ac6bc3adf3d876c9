"""From errors to weights: exponential, on discounted errors (Cesa-Bianchi and Lugosi, Prediction, Learning,
and Games, 2006, ch. 2), over their ratio to the best, so that the unit of the series does not matter.
"""

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.experts import Values


def lately(errors: NDArray[np.float32], since: Values, discount: float) -> Values:
    """Discounted mean error of each expert in each stretch; inf where it cannot be compared.

    ``errors``: shape (issues, stretches, experts), NaN where not known. ``since``: how many issues ago each
    became known, shape (issues, stretches).
    """
    known = np.isfinite(errors) & (since >= 0.0)[:, :, None]
    weight = (discount ** np.maximum(since, 0.0))[:, :, None] * known
    total = weight.sum(axis=0)
    sums = (np.where(known, errors, 0.0) * weight).sum(axis=0)
    # An expert that has spoken seldom is compared on less: it has to have spoken half of the time.
    enough = (total > 0.0) & (total >= 0.5 * total.max(axis=1, initial=0.0)[:, None])
    means = np.full(total.shape, np.inf)
    means[enough] = sums[enough] / total[enough]
    return means


def shares(errors: Values, speaking: NDArray[np.bool_], sharpness: float) -> Values:
    """The weight of each expert in each stretch; where none has been judged all that speak are equal."""
    weights = np.zeros_like(errors)
    for row, mean in enumerate(errors):
        judged = np.isfinite(mean)
        if judged.any():
            best = max(float(mean[judged].min()), 1e-12)
            weights[row, judged] = np.exp(-sharpness * (mean[judged] / best - 1.0))
        else:
            weights[row, speaking] = 1.0
        weights[row] /= weights[row].sum()
    return weights
