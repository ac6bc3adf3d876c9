"""Which share of its power a battery may use at a charge or a temperature: a table, straight in between."""

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PowerTable:
    """``points``: (charge from 0 to 1, or degrees Celsius; share of the power from 0 to 1), rising.

    Between two points the share is on the straight line, outside it is that of the nearest point.
    """

    points: tuple[tuple[float, float], ...]

    def ratio(self, at: float) -> float:
        """The share at a charge or a temperature."""
        points = self.points
        index = bisect_right(points, at, key=lambda point: point[0])
        if index == 0:
            return points[0][1]
        if index == len(points):
            return points[-1][1]
        (low, low_ratio), (high, high_ratio) = points[index - 1], points[index]
        return low_ratio + (high_ratio - low_ratio) * (at - low) / (high - low)
