"""Who was turned away, in the log each time, in the ledger without letting anybody fill it."""

import logging
from collections.abc import Callable

from slurm_power import clock

log = logging.getLogger(__name__)

# The same refusal is written once in this time, and no more than so many different ones.
_QUIET_SECONDS = 600.0
_MOST_IN_A_WHILE = 20
_MOST_TEXT = 300


class RefusalNotes:
    """``note`` takes actor, kind, subject and reason."""

    def __init__(self, note: Callable[[str, str, str, str], None]) -> None:
        self._note = note
        self._noted: dict[tuple[str, str], float] = {}

    def note(self, who: str, why: str) -> None:
        """Somebody at ``who`` (a node, or address and port) was turned away."""
        why = "".join(letter if letter.isprintable() else "?" for letter in why)[:_MOST_TEXT]
        log.warning("%s: refused: %s", who, why)
        now_seconds = clock.monotonic()
        self._noted = {key: at for key, at in self._noted.items() if now_seconds - at < _QUIET_SECONDS}
        # A stranger has another port each time, and is the same stranger.
        key = (who.rpartition(":")[0] or who, why)
        if key in self._noted or len(self._noted) >= _MOST_IN_A_WHILE:
            return
        self._noted[key] = now_seconds
        self._note("controller", "refused", f"peer:{who}", why)
