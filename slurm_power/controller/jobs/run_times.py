"""How long jobs run, for who asks before submitting: from jobs that end, and what was stored."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slurm_power.forecast.run_times import JobKind, RunTimes

log = logging.getLogger(__name__)

# The forecast worker writes it, under the controller's state directory.
FILE = Path("forecast") / "run_times.json"
_MOST_BYTES = 8 << 20
_DRAWS = 401
_LEAST_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRun:
    """How long a job should run: median, and what 80 % lie between; ``own_jobs``: known ones of the user."""

    seconds: float
    p10_seconds: float
    p90_seconds: float
    own_jobs: int


def stored_run_times(state_directory: Path) -> RunTimes:
    """What the forecast worker wrote down when it last did; empty where there is nothing of use."""
    found = RunTimes()
    file = state_directory / FILE
    try:
        if file.stat().st_size <= _MOST_BYTES:
            found.restore(json.loads(file.read_bytes()))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RecursionError) as error:
        log.warning("run times are learned anew: %s: %s", file, error)
    return found


def expected_run(run_times: RunTimes, kind: JobKind) -> ExpectedRun | None:
    """How long a job of a kind should run; None where too few jobs have ended to tell."""
    runs, own_jobs = run_times.known(kind.user)
    if runs < _LEAST_RUNS:
        return None
    # The same question gets the same answer.
    drawn = run_times.remaining(kind, 0.0, np.random.default_rng(0), _DRAWS)
    low, middle, high = (float(value) for value in np.quantile(drawn, [0.1, 0.5, 0.9]))
    return ExpectedRun(seconds=middle, p10_seconds=low, p90_seconds=high, own_jobs=own_jobs)
