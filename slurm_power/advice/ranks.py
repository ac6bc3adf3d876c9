"""What the ranks of a job have to agree about, so that all of them act at the same step."""

from dataclasses import dataclass
from typing import Protocol


class RanksError(Exception):
    """The ranks cannot agree (any more); the text says why. Nothing may be acted upon then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What one rank has been asked, or what all of them together have: the strictest of each.

    ``micro_batch`` is the most samples at a time, None as many as it likes.
    """

    stop: bool = False
    pause: bool = False
    micro_batch: int | None = None


class Ranks(Protocol):
    """An agreement. Each method is called by all ranks, after the same number of steps."""

    def agree(self, flags: Flags) -> Flags | None:
        """At each step: hand in what this rank was asked; what all agreed, or None if nothing is due.

        The same answer comes to all ranks at the same step. Raises RanksError.
        """

    def agree_now(self, flags: Flags) -> Flags:
        """Wait for all ranks; raises RanksError."""

    def leave(self) -> None:
        """The process is about to end, in all ranks; raises nothing."""

    def close(self) -> None:
        """The loop is over; raises nothing."""
