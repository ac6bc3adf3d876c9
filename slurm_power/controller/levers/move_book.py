"""The pending jobs that we have sent elsewhere: since when, and whether their nodes are given back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from slurm_power.model.action import Action, RelocateJob
from slurm_power.model.job import JobState
from slurm_power.model.snapshot import Relocation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    at: datetime
    given_back: bool = False


class MoveBook:
    """Every job that waits and was asked to start elsewhere; forgotten when it starts or is gone."""

    def __init__(self) -> None:
        self._moves: dict[str, _Move] = {}

    @property
    def standing(self) -> tuple[str, ...]:
        """The jobs that are kept off nodes now, as far as we know."""
        return tuple(job_id for job_id, move in self._moves.items() if not move.given_back)

    def took(self, action: RelocateJob, at: datetime) -> bool:
        """Note a job that was sent elsewhere, or whose nodes were given back; True if that is news."""
        old = self._moves.get(action.job_id)
        if action.avoid:
            self._moves[action.job_id] = _Move(at=at)
        elif old is not None:
            self._moves[action.job_id] = replace(old, given_back=True)
        return True

    def refused(self, action: Action, at: datetime) -> None:
        """Note a job that could not be sent elsewhere: it is left alone for a while, as if it were back."""
        if isinstance(action, RelocateJob) and action.avoid:
            self._moves[action.job_id] = _Move(at=at, given_back=True)

    def view(self, at: datetime) -> dict[str, Relocation]:
        """The moves as the snapshot shows them."""
        return {
            job_id: Relocation(
                job_id=job_id,
                asked_seconds_ago=(at - move.at).total_seconds(),
                given_back=move.given_back,
            )
            for job_id, move in self._moves.items()
        }

    def follow(self, states: Mapping[str, JobState]) -> None:
        """Forget the jobs that wait no more; what is left in the record of a requeued one is given back."""
        for job_id in list(self._moves):
            if states.get(job_id, JobState.ENDED) is not JobState.PENDING:
                del self._moves[job_id]

    def let_go(self) -> None:
        """All nodes have been given back."""
        self._moves = {job_id: replace(move, given_back=True) for job_id, move in self._moves.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values, with wall times."""
        return {
            job_id: {"at": move.at.astimezone(UTC).isoformat(), "given_back": move.given_back}
            for job_id, move in self._moves.items()
        }

    @classmethod
    def from_json(cls, stored: object) -> "MoveBook":
        """Take back what ``to_json`` gave; an earlier version kept none."""
        book = cls()
        for job_id, move in stored.items() if isinstance(stored, dict) else ():
            book._moves[job_id] = _Move(
                at=datetime.fromisoformat(move["at"]), given_back=bool(move["given_back"])
            )
        return book
