"""Which jobs we keep stopped, and what every running job has lost to us so far. Survives a restart."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from slurm_power.model.action import PauseJob
from slurm_power.model.job import JobState
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Lost, PauseLease

# After this a job that still runs by its workload manager's word has been resumed by somebody else: the queue
# is read every few seconds, and stopping takes some.
_SHOWS_AFTER_SECONDS = 20.0
# Where a job may be that is paused or has just been.
_ON_NODES = (JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRecord:
    """A pause on a job. ``seen`` is whether its workload manager has shown it stopped since."""

    since: datetime
    kind: LimitKind
    drawn_watts: float
    reason: str
    saved_watts: float = 0.0
    seen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRecord:
    """What a job has lost since it started, in seconds of its full speed, and when its last pause ended."""

    seconds: float = 0.0
    resumed_at: datetime | None = None
    resumed_watts: float = 0.0


class Slowed(Protocol):
    """Of a cap what it takes, and since when."""

    slowdown_ratio: float
    changed_at: datetime


class PauseBook:
    """Pauses and losses of running jobs by job id.

    Losses are only counted where jobs may be paused (``counts``): of thousands of capped jobs that is work.
    """

    def __init__(self) -> None:
        self.counts = False
        self.pauses: dict[str, PauseRecord] = {}
        self.lost: dict[str, LostRecord] = {}

    def paused(self, action: PauseJob, at: datetime) -> bool:
        """Note a pause that was sent; True if it is new, False for a mere renewal."""
        if action.job_id in self.pauses:
            return False
        self.pauses[action.job_id] = PauseRecord(
            since=at,
            kind=action.kind,
            drawn_watts=action.drawn_watts,
            reason=action.reason,
            saved_watts=action.saved_watts,
        )
        return True

    def resumed(self, job_id: str, at: datetime) -> bool:
        """Note that a job goes on, whoever has let it; False for one that is not paused."""
        pause = self.pauses.pop(job_id, None)
        if pause is None:
            return False
        self.add_lost(job_id, (at - pause.since).total_seconds(), always=True)
        self.lost[job_id] = replace(self.lost[job_id], resumed_at=at, resumed_watts=pause.drawn_watts)
        return True

    def reason(self, job_id: str) -> str:
        """Why a job is paused, empty for one that is not."""
        pause = self.pauses.get(job_id)
        return "" if pause is None else pause.reason

    def add_lost(self, job_id: str, seconds: float, *, always: bool = False) -> None:
        """Add to what a job has lost."""
        if seconds > 0.0 and (self.counts or always):
            old = self.lost.get(job_id, LostRecord())
            self.lost[job_id] = replace(old, seconds=old.seconds + seconds)
        elif always:
            self.lost.setdefault(job_id, LostRecord())

    def follow(self, states: Mapping[str, JobState], at: datetime) -> list[str]:
        """Drop what jobs need no more; returns those that somebody else has let go on.

        ``states`` holds all known jobs; one that is missing has ended. Losses end with a run: a job that was
        requeued starts anew.
        """
        resumed = []
        for job_id, pause in list(self.pauses.items()):
            state = states.get(job_id, JobState.ENDED)
            if state is JobState.SUSPENDED:
                if not pause.seen:
                    self.pauses[job_id] = replace(pause, seen=True)
            elif state not in _ON_NODES:
                del self.pauses[job_id]
            elif pause.seen or (at - pause.since).total_seconds() >= _SHOWS_AFTER_SECONDS:
                self.resumed(job_id, at)
                resumed.append(job_id)
        for job_id in [one for one in self.lost if states.get(one, JobState.ENDED) not in _ON_NODES]:
            del self.lost[job_id]
        return resumed

    def view(self, at: datetime) -> dict[str, PauseLease]:
        """The pauses as the snapshot shows them."""
        return {
            job_id: PauseLease(
                job_id=job_id,
                kind=pause.kind,
                drawn_watts=pause.drawn_watts,
                paused_seconds=(at - pause.since).total_seconds(),
            )
            for job_id, pause in self.pauses.items()
        }

    def lost_view(self, at: datetime, caps: Mapping[str, Slowed]) -> dict[str, Lost]:
        """What each job has lost by now, by the ``caps`` that stand as well."""
        going_on = {
            job_id: cap.slowdown_ratio * (at - cap.changed_at).total_seconds()
            for job_id, cap in caps.items()
            if cap.slowdown_ratio > 0.0
        }
        found = {}
        for job_id in {*self.lost, *self.pauses, *going_on}:
            record, pause = self.lost.get(job_id, LostRecord()), self.pauses.get(job_id)
            seconds = record.seconds + going_on.get(job_id, 0.0)
            if pause is not None:
                seconds += (at - pause.since).total_seconds()
            ago = float("inf") if record.resumed_at is None else (at - record.resumed_at).total_seconds()
            found[job_id] = Lost(seconds=seconds, resumed_seconds_ago=ago, resumed_watts=record.resumed_watts)
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything that must survive a restart, with wall times."""
        return {
            "pauses": {
                job_id: {**asdict(pause), "since": pause.since.isoformat()}
                for job_id, pause in self.pauses.items()
            },
            "lost": {
                job_id: {
                    **asdict(record),
                    "resumed_at": None if record.resumed_at is None else record.resumed_at.isoformat(),
                }
                for job_id, record in self.lost.items()
            },
        }

    @classmethod
    def from_json(cls, stored: Any) -> "PauseBook":
        """Take over from an earlier controller.

        Every pause is: one that has run out meanwhile shows as a running job, and one that has not is ours to
        end.
        """
        book = cls()
        if not isinstance(stored, dict):
            return book
        for job_id, row in stored["pauses"].items():
            since = datetime.fromisoformat(row["since"])
            book.pauses[job_id] = PauseRecord(**{**row, "since": since, "kind": LimitKind(row["kind"])})
        for job_id, row in stored["lost"].items():
            moment = row["resumed_at"]
            resumed_at = None if moment is None else datetime.fromisoformat(moment)
            book.lost[job_id] = LostRecord(**{**row, "resumed_at": resumed_at})
        return book
