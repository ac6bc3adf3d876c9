"""Where each signal stands, as it is told to powerctld: when it was last heard, and what is wrong with it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from slurm_power import clock
from slurm_power.bridge.grid_events import printable
from slurm_power.model.reading import Quality
from slurm_power.model.secret_text import without_secrets

_MOST_LETTERS = 280
# So many polls in a row may fail before what a signal said last is no news any more.
_LOST_POLLS = 3.0


class SignalState:
    """One signal. Its task calls ``beat`` each round, then ``heard`` or ``failed``."""

    def __init__(self, name: str, kind: str, *, patience_seconds: float) -> None:
        """``patience_seconds``: the time between two polls, with what an answer may take."""
        self.name = name
        self.kind = kind
        self.last_heard: datetime | None = None
        self.beat_seconds = clock.monotonic()
        self._patience_seconds = patience_seconds
        self._heard_seconds: float | None = None
        self._error = "it has not answered yet"
        self._doubts: tuple[str, ...] = ()

    @property
    def hang_seconds(self) -> float:
        """After so long without a beat its task is taken to hang."""
        return 60.0 + 6.0 * self._patience_seconds

    def beat(self) -> None:
        """The task is alive."""
        self.beat_seconds = clock.monotonic()

    def heard(self, doubts: Sequence[str] = ()) -> None:
        """The other end has answered; ``doubts``: what of it cannot be true, or is not followed."""
        self.beat()
        self.last_heard = clock.now()
        self._heard_seconds = clock.monotonic()
        self._error = ""
        self._doubts = tuple(doubts)

    def failed(self, why: str) -> None:
        """The other end did not answer, or not as it has to."""
        self._error = why or "it failed"

    def row(self) -> dict[str, Any]:
        """The signal as powerctld's op ``signals`` takes it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "state": self._quality().value,
            "last_heard": None if self.last_heard is None else self.last_heard.isoformat(),
            # It goes to the ledger and to the dashboard, and libraries quote the address that they asked.
            "reason": printable(without_secrets(self._error or "; ".join(self._doubts)), _MOST_LETTERS),
        }

    def _quality(self) -> Quality:
        silent_seconds = None if self._heard_seconds is None else clock.monotonic() - self._heard_seconds
        if silent_seconds is None or silent_seconds > _LOST_POLLS * self._patience_seconds:
            if not self._error:
                self._error = "silent"
            return Quality.INVALID
        return Quality.QUESTIONABLE if self._error or self._doubts else Quality.GOOD
