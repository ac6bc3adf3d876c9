"""Jobs that we move to other model tiers: how far each move has come. Survives a restart."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from slurm_power.model.action import ChangeTier
from slurm_power.model.job import JobState
from slurm_power.model.snapshot import TierMove


class MoveState(StrEnum):
    """How far a move has come."""

    SAVING = "saving"
    """The job runs, and has been asked to save itself and end."""
    QUEUED = "queued"
    """It waits; its record still is to be changed."""
    CHANGED = "changed"
    """It waits with the new tier and its GPUs."""
    STARTED = "started"
    """It runs, and was told the new tier."""
    GIVEN_UP = "given up"


OVER = frozenset({MoveState.STARTED, MoveState.GIVEN_UP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One move. ``start`` is the number of the job's start when it was asked, ``since`` of the state."""

    tier: str
    before: str
    gpu_count: int
    state: MoveState
    asked_at: datetime
    since: datetime
    reason: str
    saved_watts: float
    running: bool
    start: int = 0
    by_us: bool = False
    """We queue it again: it has nothing to save."""


class TierBook:
    """The latest move of each job, until the job has ended."""

    def __init__(self) -> None:
        self._moves: dict[str, Move] = {}

    def __len__(self) -> int:
        return len(self._moves)

    def get(self, job_id: str) -> Move | None:
        """The move of a job, None where it was never moved."""
        return self._moves.get(job_id)

    def under_way(self) -> dict[str, Move]:
        """The moves that are not over."""
        return {job_id: move for job_id, move in self._moves.items() if move.state not in OVER}

    def asked(self, action: ChangeTier, *, before: str, start: int, by_us: bool, at: datetime) -> None:
        """Note a move that was begun: a running job is to save itself, a pending one is changed."""
        self._moves[action.job_id] = Move(
            tier=action.tier,
            before=before,
            gpu_count=action.gpu_count,
            state=MoveState.SAVING if action.running else MoveState.CHANGED,
            asked_at=at,
            since=at,
            reason=action.reason,
            saved_watts=action.saved_watts,
            running=action.running,
            start=start,
            by_us=by_us,
        )

    def refused(self, action: ChangeTier, *, before: str, at: datetime) -> None:
        """Note a move that could not be begun: the job is left alone for a while."""
        self.asked(action, before=before, start=0, by_us=False, at=at)
        self.turn(action.job_id, MoveState.GIVEN_UP, at)

    def turn(self, job_id: str, state: MoveState, at: datetime) -> None:
        """Note that a move has come to another state."""
        move = self._moves[job_id]
        if move.state is not state:
            self._moves[job_id] = replace(move, state=state, since=at)

    def asked_to_save(self) -> dict[str, Move]:
        """The moves of jobs that may end because we have asked them to."""
        states = (MoveState.SAVING, MoveState.GIVEN_UP)
        return {
            job_id: move
            for job_id, move in self._moves.items()
            if move.running and not move.by_us and move.state in states
        }

    def forget(self, job_id: str) -> None:
        """Forget a job."""
        self._moves.pop(job_id, None)

    def follow(self, states: Mapping[str, JobState], *, kept: Collection[str] = ()) -> None:
        """Forget the jobs that have ended, but for those ``kept``."""
        for job_id in list(self._moves):
            if states.get(job_id, JobState.ENDED) is JobState.ENDED and job_id not in kept:
                del self._moves[job_id]

    def view(self, at: datetime) -> dict[str, TierMove]:
        """The moves as the snapshot shows them; one that was given up counts as done."""
        return {
            job_id: TierMove(
                job_id=job_id,
                tier=move.tier,
                asked_seconds_ago=(at - move.asked_at).total_seconds(),
                done=move.state in OVER,
                running=move.running,
            )
            for job_id, move in self._moves.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values, with wall times."""
        return {
            job_id: {field.name: _plain(getattr(move, field.name)) for field in fields(move)}
            for job_id, move in self._moves.items()
        }

    @classmethod
    def from_json(cls, stored: object) -> "TierBook":
        """Take back what ``to_json`` gave; what is none is as nothing."""
        book = cls()
        for job_id, row in stored.items() if isinstance(stored, dict) else ():
            moments = {key: datetime.fromisoformat(row[key]) for key in ("asked_at", "since")}
            book._moves[job_id] = Move(**{**row, **moments, "state": MoveState(row["state"])})
        return book


def _plain(value: object) -> object:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
