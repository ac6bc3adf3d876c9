"""Jobs that we move to other model tiers: how far each move has come. Survives a restart."""

from collections.abc import Collection, Mapping
from contextlib import suppress
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
    """One move. ``since``: of this state. ``start``: the number of the job's start when asked, if known."""

    tier: str
    before: str
    gpu_count: int
    state: MoveState
    asked_at: datetime
    since: datetime
    reason: str
    saved_watts: float
    running: bool
    start: int | None = None
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

    def asked(self, action: ChangeTier, *, before: str, start: int | None, by_us: bool, at: datetime) -> None:
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
        """Note a move that could not be begun: the job is left alone for a while. One on its way goes on."""
        if action.job_id not in self.under_way():
            self.asked(action, before=before, start=None, by_us=False, at=at)
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

    def follow(self, states: Mapping[str, JobState], *, kept: Collection[str] = ()) -> dict[str, Move]:
        """Forget the jobs that have ended, but for those ``kept``; returns the moves cut short by that."""
        ended = {key for key in self._moves if states.get(key, JobState.ENDED) is JobState.ENDED}
        ended -= set(kept)
        cut_short = {key: move for key, move in self.under_way().items() if key in ended}
        for key in ended:
            del self._moves[key]
        return cut_short

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
            with suppress(AttributeError, KeyError, TypeError, ValueError):
                book._moves[str(job_id)] = _move_of(row)
        return book


def _move_of(row: Mapping[str, Any]) -> Move:
    """Raises KeyError, TypeError or ValueError for what is none."""
    start = row.get("start")
    return Move(
        tier=_text(row["tier"]),
        before=_text(row["before"]),
        gpu_count=int(row["gpu_count"]),
        state=MoveState(row["state"]),
        asked_at=_moment(row["asked_at"]),
        since=_moment(row["since"]),
        reason=_text(row["reason"]),
        saved_watts=float(row["saved_watts"]),
        running=bool(row["running"]),
        start=None if start is None else int(start),
        by_us=bool(row.get("by_us")),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _plain(value: object) -> object:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
