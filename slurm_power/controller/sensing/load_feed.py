"""What circuits' loads want: one function for what is stored, what is learned from and what is forecast.

A model that learns from one figure and is asked about another is wrong without anybody noticing. So there is
only this one.
"""

from collections.abc import Mapping

from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import JobLoad, behind_discharge_watts, circuit_watts


def circuit_loads(snapshot: Snapshot, loads: tuple[JobLoad, ...]) -> dict[str, float | None]:
    """The load of each circuit in watts: import, plus what batteries feed in, plus what caps withhold.

    None where a circuit is not measured, neither itself nor by all it feeds.
    """
    withheld: dict[str, float] = {}
    for load in loads:
        if load.cap_watts is not None:
            watts = max(0.0, load.uncapped_watts - load.gpu_watts)
            for name, weight in load.circuit_weights.items():
                withheld[name] = withheld.get(name, 0.0) + watts * weight
    found: dict[str, float | None] = {}
    for name in snapshot.site.circuits:
        drawn = circuit_watts(snapshot, name)
        found[name] = (
            None
            if drawn is None
            else drawn + behind_discharge_watts(snapshot, name) + withheld.get(name, 0.0)
        )
    return found


class StepMeans:
    """Means over steps of a wall clock, from values that come now and then."""

    def __init__(self, step_seconds: float) -> None:
        self.step_seconds = step_seconds
        self._step: int | None = None
        self._sums: dict[str, tuple[float, int]] = {}

    def add(
        self, at_seconds: float, values: Mapping[str, float | None]
    ) -> tuple[float, dict[str, float | None]] | None:
        """Add a moment's values; returns (end, means) of the step before when a new one has begun.

        None stands for what was never known in a step. A clock that is set back begins a new step.
        """
        step = int(at_seconds // self.step_seconds)
        finished = None
        if self._step is not None and step != self._step:
            means = {
                name: self._sums[name][0] / self._sums[name][1] if self._sums.get(name, (0, 0))[1] else None
                for name in values
            }
            finished = (self._step + 1) * self.step_seconds, means
            self._sums = {}
        self._step = step
        for name, value in values.items():
            if value is not None:
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = total + value, count + 1
        return finished

    def running(self, name: str, at_seconds: float, least_seconds: float) -> float | None:
        """The mean of the step that is not over, None before ``least_seconds`` of it or without a value."""
        if self._step is None or at_seconds - self._step * self.step_seconds < least_seconds:
            return None
        total, count = self._sums.get(name, (0.0, 0))
        return total / count if count else None
