"""When the whole plan is due: every few seconds, and at once when what it was made for has changed."""

from slurm_power.model.day_plan import DayPlan
from slurm_power.model.snapshot import Snapshot


class PlannerBeat:
    """The guard looks every second; the planner looks when this says so. Times are monotonic seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next_seconds = float("-inf")
        self._seen: tuple[object, ...] = ()

    def again(self) -> None:
        """Plan at the next look."""
        self._next_seconds = float("-inf")

    def due(self, snapshot: Snapshot, now_seconds: float, day: DayPlan | None = None) -> bool:
        """Whether to plan now.

        A new list of jobs, an event that comes, starts or ends, a source that goes bad or good again, a hold
        that has ended, a battery that is lost or found and a new plan of the day do not wait.
        """
        seen = (
            snapshot.jobs,
            frozenset((event.event_id, event.starts_in_seconds > 0.0) for event in snapshot.events),
            frozenset((name, reading.quality) for name, reading in snapshot.circuits.items()),
            frozenset((name, reading.usable()) for name, reading in snapshot.ess.items()),
            frozenset(snapshot.holds),
            day,
        )
        same = len(seen) == len(self._seen) and all(
            one is other or (isinstance(one, frozenset) and one == other)
            for one, other in zip(seen, self._seen, strict=True)
        )
        if same and now_seconds < self._next_seconds:
            return False
        self._seen, self._next_seconds = seen, now_seconds + self._seconds
        return True
