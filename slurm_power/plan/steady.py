"""A load that swings as a figure that stands: it follows up soon, down late, and not for every watt. Pure."""

from collections import deque
from statistics import median

_RECENT = 30
_FIRST = 5
_DOWN_SECONDS = 10.0


class SteadyWatts:
    """Takes one value a cycle; ``watts`` is None until there were enough, and while nobody knows for long."""

    def __init__(self, quantum_watts: float, *, lost_seconds: float = 30.0) -> None:
        self._quantum = max(1.0, quantum_watts)
        self._lost_seconds = lost_seconds
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._known_at: float | None = None
        self._below_since: float | None = None
        self.watts: float | None = None
        self.lost = False

    def take(self, watts: float | None, now_seconds: float) -> None:
        """One more value; None where nobody knows. ``lost`` is True once that has lasted."""
        if self._known_at is None:
            self._known_at = now_seconds
        if watts is None:
            self.lost = now_seconds - self._known_at >= self._lost_seconds
            return
        self._known_at, self.lost = now_seconds, False
        self._recent.append(watts)
        if len(self._recent) < _FIRST:
            return
        middle = median(self._recent)
        if self.watts is None or middle > self.watts + self._quantum:
            self.watts, self._below_since = middle, None
        elif middle >= self.watts - 2.0 * self._quantum:
            self._below_since = None
        elif self._below_since is None:
            self._below_since = now_seconds
        elif now_seconds - self._below_since >= _DOWN_SECONDS:
            self.watts, self._below_since = middle, None
