"""Takes users' appeals about their jobs and operators' answers; all of it is in the ledger."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from slurm_power import clock
from slurm_power.controller.governance.control_desk import States
from slurm_power.controller.governance.operators import Note
from slurm_power.model.appeal import APPEAL, APPEAL_ANSWERED, Appeal

_KEY = "appeals"
# What was answered is in the ledger for ever; so many are listed still.
_MOST_ANSWERED = 200
# However many a site has, the list of those that wait stays one line of an answer.
_MOST_OPEN = 1000
# Answered or not: nobody fills the ledger with appeals.
_MOST_A_DAY = 20
_DAY_SECONDS = 86_400.0


class AppealError(Exception):
    """An appeal or an answer that is not taken; the text is for who has written it."""


class AppealDesk:
    """All appeals that wait, and the last that were answered."""

    def __init__(self, store: States, *, most_open: int, note: Note) -> None:
        """Go on with what an earlier controller has left. ``most_open``: how many of one user may wait."""
        self._store = store
        self._most_open = most_open
        self._note = note
        self._count, self._appeals = _read(store.state(_KEY))

    def rows(self, user: str | None = None) -> list[dict[str, Any]]:
        """All of them, the oldest first; with ``user`` only theirs."""
        return [_plain(one) for one in self._appeals.values() if user in (None, one.user)]

    def appeal(self, *, job_id: str, user: str, who: str, text: str) -> Appeal:
        """Take an appeal of a job's user, ``who`` as the ledger names them; raises AppealError."""
        mine = [one for one in self._appeals.values() if one.user == user]
        waiting = [one for one in mine if one.open]
        now = clock.now()
        today = sum((now - one.at).total_seconds() < _DAY_SECONDS for one in mine)
        if any(one.job_id == job_id for one in waiting):
            raise AppealError(f"job_id: an appeal about job {job_id} waits for its answer already")
        if len(waiting) >= self._most_open:
            raise AppealError(f"{len(waiting)} of your appeals wait for an answer; more are not taken")
        if today >= _MOST_A_DAY:
            raise AppealError(f"{today} appeals in a day are enough; come again tomorrow")
        if sum(one.open for one in self._appeals.values()) >= _MOST_OPEN:
            raise AppealError(f"{_MOST_OPEN} appeals wait for an answer; more are not taken")
        self._count += 1
        made = Appeal(appeal_id=f"ap-{self._count}", job_id=job_id, user=user, at=now, text=text)
        self._appeals[made.appeal_id] = made
        self._note(
            f"user:{who}",
            APPEAL,
            f"job:{job_id}",
            text,
            job_id=job_id,
            user=user,
            details={"appeal_id": made.appeal_id, "text": text},
        )
        self._keep()
        return made

    def answer(self, appeal_id: str, *, actor: str, text: str) -> Appeal:
        """Take an operator's answer; raises AppealError."""
        one = self._appeals.get(appeal_id)
        if one is None:
            raise AppealError(f"appeal_id: there is no appeal {appeal_id[:40]!r}")
        if not one.open:
            raise AppealError(f"appeal_id: {appeal_id} was answered by {one.answered_by}")
        now = clock.now()
        done = replace(one, answer=text, answered_by=actor, answered_at=now)
        # The newest answer last: the oldest are dropped first.
        del self._appeals[appeal_id]
        self._appeals[appeal_id] = done
        self._note(
            actor,
            APPEAL_ANSWERED,
            f"job:{one.job_id}",
            text,
            job_id=one.job_id,
            user=one.user,
            details={
                "appeal_id": appeal_id,
                "text": text,
                "waited_seconds": round((now - one.at).total_seconds()),
            },
        )
        answered = [key for key, each in self._appeals.items() if not each.open]
        for key in answered[: max(0, len(answered) - _MOST_ANSWERED)]:
            del self._appeals[key]
        self._keep()
        return done

    def _keep(self) -> None:
        self._store.put_state(_KEY, {"count": self._count, "appeals": self.rows()})


def _plain(one: Appeal) -> dict[str, Any]:
    answered = None if one.answered_at is None else one.answered_at.isoformat()
    return {**asdict(one), "at": one.at.isoformat(), "answered_at": answered}


def _read(stored: object) -> tuple[int, dict[str, Appeal]]:
    """What an earlier controller has kept; what is none is as nothing."""
    if not isinstance(stored, dict):
        return 0, {}
    found: dict[str, Appeal] = {}
    count, rows = stored.get("count"), stored.get("appeals")
    for row in rows if isinstance(rows, list) else ():
        try:
            one = _appeal_of(row)
        except (KeyError, TypeError, ValueError):
            continue
        found[one.appeal_id] = one
    return count if isinstance(count, int) else len(found), found


def _appeal_of(row: Mapping[str, Any]) -> Appeal:
    answered = row["answered_at"]
    return Appeal(
        appeal_id=str(row["appeal_id"]),
        job_id=str(row["job_id"]),
        user=str(row["user"]),
        at=datetime.fromisoformat(row["at"]),
        text=str(row["text"]),
        answer=str(row["answer"]),
        answered_by=str(row["answered_by"]),
        answered_at=None if answered is None else datetime.fromisoformat(answered),
    )
