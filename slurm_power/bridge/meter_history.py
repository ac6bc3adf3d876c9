"""What the site's meter has shown between two moments, from the series that powerctld writes."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from slurm_power.model.series import Resolution
from slurm_power.ports import StoreError
from slurm_power.store.places import open_series_reader

# Ticks are a second apart; finer is not asked for, and longer spans are read by minutes.
_RAW_SPAN = timedelta(hours=2)
_TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Mean import in watts over a time, None where nothing is known; ``coverage_ratio`` of it is measured."""

    watts: float | None
    coverage_ratio: float


NOTHING = Measured(watts=None, coverage_ratio=0.0)


class MeterHistory:
    """The series of one circuit's meter, opened anew for each question: powerctld may replace the file."""

    def __init__(self, state_directory: Path, circuit: str) -> None:
        self._directory = state_directory
        self._name = f"circuit.{circuit}.watts"

    async def mean(self, since: datetime, until: datetime) -> Measured:
        """The mean between two moments; nothing where the series cannot be read."""
        try:
            return await asyncio.to_thread(self._mean, since, until)
        except (StoreError, OSError):
            return NOTHING

    def _mean(self, since: datetime, until: datetime) -> Measured:
        seconds = (until - since).total_seconds()
        if seconds <= 0.0:
            return NOTHING
        raw = until - since <= _RAW_SPAN
        resolution = Resolution.RAW if raw else Resolution.MINUTE
        reader = open_series_reader(self._directory)
        try:
            points = reader.read([self._name], since, until, resolution)[self._name]
        finally:
            reader.close()
        step = _TICK_SECONDS if raw else float(resolution)
        weights = [(point.mean, step * point.coverage_ratio) for point in points if point.mean is not None]
        covered = sum(weight for _, weight in weights)
        if covered <= 0.0:
            return NOTHING
        mean = sum(watts * weight for watts, weight in weights) / covered
        return Measured(watts=mean, coverage_ratio=min(1.0, covered / seconds))
