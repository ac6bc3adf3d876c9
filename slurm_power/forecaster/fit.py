"""``python -m slurm_power.forecaster.fit``: fit one series and end, and all the memory that takes with it.

Reads one JSON object from stdin, writes one to stdout.
"""

import json
import sys
from typing import Any

import numpy as np

from slurm_power.forecast.experts import Seasons
from slurm_power.forecast.fit_state_space import fit
from slurm_power.forecast.state_space import Parameters


def request(values: Any, day_steps: int, before: Parameters | None) -> dict[str, Any]:
    """What to ask: values (NaN for gaps), steps of a day, and the parameters so far."""
    return {
        "values": [None if value != value else float(value) for value in values],  # noqa: PLR0124  # NaN
        "day_steps": day_steps,
        "before": None if before is None else {key: each.tolist() for key, each in before.arrays().items()},
    }


def parameters_of(arrays: Any) -> Parameters | None:
    """Parameters out of JSON values; raises ValueError for what is none."""
    if arrays is None:
        return None
    return Parameters.from_arrays({key: np.array(each) for key, each in arrays.items()})


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Fit; never raises for what a series may be."""
    values = np.array([np.nan if value is None else value for value in asked["values"]], dtype=np.float64)
    found = fit(values, Seasons(asked["day_steps"], 1), parameters_of(asked["before"]))
    fitted = found.parameters
    return {
        "parameters": None if fitted is None else {k: each.tolist() for k, each in fitted.arrays().items()},
        "converged": found.converged,
        "reason": found.reason,
    }


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
