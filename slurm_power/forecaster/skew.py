"""Training-serving skew: whether what is learned from is what is forecast.

Both come from one function, so they may only differ by how they are kept. If they do differ, a model that is
learned from the store after a restart is another one than before, and nobody would see it.
"""

from collections import deque

import numpy as np

from slurm_power.forecaster.history import History

# The store rounds, and has its own ticks; more than this is no rounding.
SKEW_RATIO = 0.01
_COMPARED_SECONDS = 3600.0
_LEAST_COMPARED = 30
# The newest minutes may not be rolled up yet.
_SETTLING_SECONDS = 180.0


class SkewCheck:
    """Remembers what was fed of each circuit in the last hour, and compares it with what was stored."""

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds
        self._most = round((_COMPARED_SECONDS + _SETTLING_SECONDS) / step_seconds)
        self._fed: dict[str, deque[tuple[float, float]]] = {}

    def fed(self, circuit: str, end_seconds: float, watts: float) -> None:
        """Remember a step."""
        self._fed.setdefault(circuit, deque(maxlen=self._most)).append((end_seconds, watts))

    def problem(self, circuit: str, history: History) -> str:
        """How far stored and fed differ, "" if they do not or too little is known; raises StoreError."""
        fed = self._fed.get(circuit)
        if not fed:
            return ""
        until = fed[-1][0] - _SETTLING_SECONDS
        since = until - _COMPARED_SECONDS
        stored = history.fine(circuit, since, until, self._step_seconds)
        if stored is None:
            return ""
        first, values = stored
        pairs = [
            (value, float(values[at]))
            for end, value in fed
            if 0 <= (at := round((end - first) / self._step_seconds)) < len(values)
            if np.isfinite(value) and np.isfinite(values[at])
        ]
        if len(pairs) < _LEAST_COMPARED:
            return ""
        told, kept = (np.array(column) for column in zip(*pairs, strict=True))
        level = max(float(np.abs(told).mean()), 1e-9)
        differ = float(np.abs(told - kept).mean()) / level
        if differ <= SKEW_RATIO:
            return ""
        return f"what is stored differs from what is forecast by {differ:.1%} over {len(pairs)} steps"
