"""What a fan chart shows: what was drawn, what is expected with its band, the limit, and starts to come."""

from collections.abc import Iterator
from dataclasses import dataclass

from slurm_power.report.data import Column

# A limit far above everything would press the rest flat; it is then told in words only.
_LIMIT_IN_SIGHT_RATIO = 1.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Sentences under a heading."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartMark:
    """A massive start to come, in Unix seconds, and what to write at it."""

    at_seconds: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FanChart:
    """One circuit's recent past and forecast; all times are Unix seconds.

    Value ``i`` of the past speaks for ``past_step_seconds`` from ``past_start_seconds`` plus ``i`` steps on,
    likewise the forecast from ``issued_seconds`` on. ``limit_watts`` holds in the forecast's steps; it is
    empty where no limit is known. Without a forecast its three columns are empty.
    """

    title: str
    circuit: str
    past_start_seconds: float
    past_step_seconds: float
    past_watts: Column
    issued_seconds: float
    step_seconds: float
    p10_watts: tuple[float, ...] = ()
    p50_watts: tuple[float, ...] = ()
    p90_watts: tuple[float, ...] = ()
    limit_watts: tuple[float, ...] = ()
    starts: tuple[StartMark, ...] = ()

    @property
    def start_seconds(self) -> float:
        """Where the picture begins."""
        return self.past_start_seconds if self.past_watts else self.issued_seconds

    @property
    def end_seconds(self) -> float:
        """Where the picture ends."""
        past_end = self.past_start_seconds + len(self.past_watts) * self.past_step_seconds
        ahead_end = self.issued_seconds + len(self.p50_watts) * self.step_seconds
        return max(past_end, ahead_end) if self.past_watts else ahead_end

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw at all."""
        return not self.p50_watts and all(watts is None for watts in self.past_watts)

    @property
    def limit_in_sight(self) -> bool:
        """Whether the limit is near enough to what is drawn to be in the picture."""
        highest = max(self._drawn(), default=0.0)
        return bool(self.limit_watts) and min(self.limit_watts) <= _LIMIT_IN_SIGHT_RATIO * highest

    def range_watts(self) -> tuple[float, float]:
        """The lowest and the highest of what is drawn, the limit included where it is in sight."""
        values = list(self._drawn())
        if self.limit_in_sight:
            highest = _LIMIT_IN_SIGHT_RATIO * max(values)
            values += [watts for watts in self.limit_watts if watts <= highest]
        return min(values, default=0.0), max(values, default=0.0)

    def past_spans(self) -> Iterator[tuple[float, float, float | None]]:
        """From, to and watts of each step of the past."""
        for index, watts in enumerate(self.past_watts):
            start = self.past_start_seconds + index * self.past_step_seconds
            yield start, start + self.past_step_seconds, watts

    def ahead_spans(self, column: tuple[float, ...]) -> Iterator[tuple[float, float, float | None]]:
        """From, to and watts of each step of a column of the forecast."""
        for index, watts in enumerate(column):
            start = self.issued_seconds + index * self.step_seconds
            yield start, start + self.step_seconds, watts

    def _drawn(self) -> Iterator[float]:
        yield from (watts for watts in self.past_watts if watts is not None)
        yield from self.p10_watts
        yield from self.p50_watts
        yield from self.p90_watts
