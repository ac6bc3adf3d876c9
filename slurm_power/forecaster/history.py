"""Loads that powerctld has stored before, on the grids the models learn on."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from slurm_power.forecast.experts import Values
from slurm_power.model.series import Point, Resolution
from slurm_power.ports import SeriesReader
from slurm_power.store.places import open_series_reader

Stored = tuple[float, Values]


def series_name(circuit: str) -> str:
    """Under which name a circuit's load is stored."""
    return f"circuit.{circuit}.load_watts"


class History:
    """Reads the embedded store; raises StoreError. Without one, nothing was stored here."""

    def __init__(self, state_directory: Path | None) -> None:
        self._reader: SeriesReader | None = (
            None if state_directory is None else open_series_reader(state_directory)
        )

    def close(self) -> None:
        """Let go of the store."""
        if self._reader is not None:
            self._reader.close()

    def quarters(self, circuit: str, since_seconds: float, until_seconds: float) -> Stored | None:
        """Whole quarters of an hour in [since, until): the end of the first, and means; None if none is."""
        return self._steps(circuit, since_seconds, until_seconds, Resolution.QUARTER_HOUR, 900.0)

    def fine(
        self, circuit: str, since_seconds: float, until_seconds: float, step_seconds: float
    ) -> Stored | None:
        """Steps of the near model in [since, until), like ``quarters``."""
        tier = Resolution.MINUTE if step_seconds >= Resolution.MINUTE else Resolution.RAW
        return self._steps(circuit, since_seconds, until_seconds, tier, step_seconds)

    def _steps(
        self, circuit: str, since: float, until: float, tier: Resolution, step_seconds: float
    ) -> Stored | None:
        first = np.ceil(since / step_seconds)
        count = int(np.floor(until / step_seconds) - first)
        if self._reader is None or count <= 0:
            return None
        name = series_name(circuit)
        points = self._reader.read([name], _moment(since), _moment(until), tier).get(name, ())
        means = _means(points, float(first), count, step_seconds)
        known = np.flatnonzero(np.isfinite(means))
        if not len(known):
            return None
        return float((first + known[0] + 1) * step_seconds), means[known[0] : known[-1] + 1]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _means(points: Iterable[Point], first: float, count: int, step: float) -> Values:
    known = [(point.at_seconds, point.mean) for point in points if point.mean is not None]
    if not known:
        return np.full(count, np.nan)
    times, values = (np.array(column, dtype=np.float64) for column in zip(*known, strict=True))
    cells = (np.floor(times / step) - first).astype(np.int64)
    inside = (cells >= 0) & (cells < count)
    totals = np.bincount(cells[inside], weights=values[inside], minlength=count)
    counts = np.bincount(cells[inside], minlength=count)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
