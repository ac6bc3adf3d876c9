"""One-time tickets: who is known to the kernel on this host proves to the dashboard who it is."""

import hashlib
import secrets
from collections import Counter
from typing import NamedTuple

VALID_SECONDS = 60.0
# A user who asks in a loop takes no place from others.
_MOST_OF_A_USER = 8
_MOST = 4096


class TicketsFullError(Exception):
    """Too many tickets are open; the text says whose."""


class _Ticket(NamedTuple):
    uid: int
    user: str
    ends_seconds: float


class WebTickets:
    """Tickets that are open; only their hashes are kept. Times are monotonic seconds given by the caller."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Ticket] = {}

    def give(self, uid: int, user: str, now_seconds: float) -> str:
        """A new ticket for a user, 256 random bits as text; raises TicketsFullError."""
        self._forget(now_seconds)
        of_users = Counter(ticket.uid for ticket in self._open.values())
        if of_users[uid] >= _MOST_OF_A_USER:
            raise TicketsFullError(f"{user} has {_MOST_OF_A_USER} open links; they end within a minute")
        if len(self._open) >= _MOST:
            raise TicketsFullError("too many links are open; try again in a minute")
        ticket = secrets.token_urlsafe(32)
        self._open[_mark(ticket)] = _Ticket(uid, user, now_seconds + VALID_SECONDS)
        return ticket

    def redeem(self, ticket: str, now_seconds: float) -> tuple[int, str] | None:
        """The uid and name behind a ticket, which is then used up; None for a wrong or an old one."""
        self._forget(now_seconds)
        found = self._open.pop(_mark(ticket), None)
        return None if found is None else (found.uid, found.user)

    def _forget(self, now_seconds: float) -> None:
        self._open = {mark: one for mark, one in self._open.items() if now_seconds < one.ends_seconds}


def _mark(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).digest()
