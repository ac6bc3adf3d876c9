"""A temporary limit on a circuit: how it comes, holds, and goes again. Times are seconds from now."""

import math
from dataclasses import dataclass
from enum import StrEnum


class Commitment(StrEnum):
    """How firmly a temporary limit was promised, and to whom."""

    LIMIT = "limit"
    """Nobody's event: what the supply allows, or a rule of the site."""
    MUST = "must"
    """Promised to the utility: steered with a margin; what will be missing is announced ahead."""
    BEST_EFFORT = "best-effort"
    """As far as it goes: without a margin, and nothing is announced as missing."""


class BaselineMethod(StrEnum):
    """Before which moment the mean load was measured that an event is held against."""

    NOTICE = "notice"
    START = "start"


class Phase(StrEnum):
    """Where an event stands."""

    COMING = "coming"
    RAMP = "ramp"
    RUNNING = "running"
    RECOVERING = "recovering"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitEvent:
    """A temporary lower limit on a circuit (a grid event). It always has an end.

    The level ``limit_watts`` holds from start to end. In the ``ramp_seconds`` before the start the limit
    slides down to it from the load before the event (``baseline_watts``); in the ``recover_seconds`` after
    the end it rises back to that load, and stays there for as long again, so that neither held jobs nor
    recharging make a new peak. Where the baseline is unknown, or not between the level and the circuit's own
    limit, it slides from and rises to the circuit's own limit, and is gone when it has reached that.
    """

    event_id: str
    circuit: str
    limit_watts: float
    starts_in_seconds: float
    ends_in_seconds: float
    reason: str
    commitment: Commitment = Commitment.LIMIT
    baseline_watts: float | None = None
    ramp_seconds: float = 0.0
    recover_seconds: float = 0.0

    def limit_at(self, in_seconds: float, ceiling_watts: float) -> float:
        """The limit in ``in_seconds``, for a circuit whose own limit is ``ceiling_watts``; inf: none."""
        to_start = self.starts_in_seconds - in_seconds
        past_end = in_seconds - self.ends_in_seconds
        level_watts = self.limit_watts
        outside_watts = self._outside_watts(ceiling_watts)
        if to_start > 0.0:
            if to_start >= self.ramp_seconds:
                return math.inf
            return level_watts + (outside_watts - level_watts) * to_start / self.ramp_seconds
        if past_end < 0.0:
            return level_watts
        if past_end < self.recover_seconds:
            return level_watts + (outside_watts - level_watts) * past_end / self.recover_seconds
        if past_end < self.recover_seconds + self._settle_seconds(ceiling_watts):
            return outside_watts
        return math.inf

    def lowest_between(self, from_seconds: float, to_seconds: float, ceiling_watts: float) -> float:
        """The lowest limit between two moments, both included; inf where there is none."""
        start = min(max(self.starts_in_seconds, from_seconds), to_seconds)
        return min(self.limit_at(at, ceiling_watts) for at in (from_seconds, start, to_seconds))

    def lowest_within(self, lead_seconds: float, ceiling_watts: float) -> float:
        """The lowest limit from now until ``lead_seconds`` from now; inf where there is none."""
        return self.lowest_between(0.0, lead_seconds, ceiling_watts)

    def over_in_seconds(self, ceiling_watts: float) -> float:
        """When it has no effect any more."""
        return self.ends_in_seconds + self.recover_seconds + self._settle_seconds(ceiling_watts)

    def phase(self, ceiling_watts: float) -> Phase:
        """Where it stands now."""
        if self.starts_in_seconds >= self.ramp_seconds and self.starts_in_seconds > 0.0:
            return Phase.COMING
        if self.starts_in_seconds > 0.0:
            return Phase.RAMP
        if self.ends_in_seconds > 0.0:
            return Phase.RUNNING
        return Phase.RECOVERING if self.over_in_seconds(ceiling_watts) > 0.0 else Phase.OVER

    def _known_before(self, ceiling_watts: float) -> bool:
        return self.baseline_watts is not None and self.limit_watts < self.baseline_watts < ceiling_watts

    def _outside_watts(self, ceiling_watts: float) -> float:
        """What it slides from and rises to; never below its own level."""
        if self.baseline_watts is not None and self._known_before(ceiling_watts):
            return self.baseline_watts
        return max(ceiling_watts, self.limit_watts)

    def _settle_seconds(self, ceiling_watts: float) -> float:
        return self.recover_seconds if self._known_before(ceiling_watts) else 0.0
