"""What is expected of a circuit's load: nouns shared by who forecasts, who plans and who shows.

Load is what the loads below a circuit want: its import, plus what batteries behind it feed in, plus what our
caps withhold. So what we do ourselves never teaches the forecast.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Reach(StrEnum):
    """How far a forecast looks: the next hour in minutes, or the next days in quarters of an hour."""

    NEAR = "near"
    FAR = "far"


class LoadLabel(StrEnum):
    """What kind of load a circuit has now."""

    STANDARD = "standard load"
    TRAINING_SWING = "training swing"
    MASSIVE_START = "massive start"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentScore:
    """How the last forecasts did whose outcome is known.

    ``forecasts`` were judged, at all steps; errors in watts. ``best_naive`` is the best of the naive
    forecasts over the same time ("" before one was judged). ``bias_watts``: outcome less forecast, mean.
    ``coverage_ratio``: how many outcomes lay inside the 80 % band.
    """

    forecasts: int
    mae_watts: float
    best_naive: str
    best_naive_mae_watts: float
    coverage_ratio: float
    bias_watts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitForecast:
    """Expected load of one circuit: step ``i`` is the mean over [issued + i * step, issued + (i + 1) * step).

    ``issued_seconds`` is Unix time, the end of the last known value. ``source``: who speaks ("blend", or the
    name of an expert); ``reason`` says why it is not the blend, or why it is to be taken with care; "" if
    all is well. ``drivers``: the share of each expert at the first and the last step.
    """

    circuit: str
    reach: Reach
    issued_seconds: float
    step_seconds: float
    p10_watts: tuple[float, ...]
    p50_watts: tuple[float, ...]
    p90_watts: tuple[float, ...]
    source: str
    reason: str = ""
    history_days: float = 0.0
    drivers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    score: RecentScore | None = None

    @property
    def horizon_seconds(self) -> float:
        """How far it looks from ``issued_seconds``."""
        return self.step_seconds * len(self.p50_watts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComingStart:
    """A pending or starting job and what its start adds, in watts, to each circuit of the tree.

    ``earliest`` is when it can start at the soonest, None if nobody knows; ``lead_seconds`` the time until
    then; ``known_from`` who says so. Where nobody knows yet on which nodes it will run, every circuit that
    could get it has the whole step (``placed`` is False). ``massive``: it moves the site by more than the
    policy's share of what the site may draw.
    """

    job_id: str
    user: str
    name: str
    gpu_count: int
    step_watts: Mapping[str, float]
    earliest: datetime | None
    lead_seconds: float | None
    known_from: str
    placed: bool
    massive: bool
