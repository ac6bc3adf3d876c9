"""Whether levers are moved: on, off, or paused with an end; and the wish to give everything back at once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from slurm_power import clock
from slurm_power.controller.governance.operators import Note
from slurm_power.plan.release_all import Released

_KEY = "control_paused"


class States(Protocol):
    """Where small values are kept."""

    def state(self, key: str, default: object = None) -> object:
        """What was remembered under a key."""
        ...

    def put_state(self, key: str, value: object) -> None:
        """Remember a value."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """When it goes back to ``enabled`` by itself, by both clocks."""

    enabled: bool
    at: datetime
    at_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Somebody's wish to give everything back."""

    actor: str
    reason: str
    safety_too: bool

    @property
    def text(self) -> str:
        """Why something is given back, in words its user can read."""
        return f"given back by {self.actor}: {self.reason}"


class ControlDesk:
    """The switch of the automation. A pause with an end outlives a restart; else it begins as site.toml says.

    The end of a pause is counted by the monotonic clock: a wall clock that is set back prolongs none.
    """

    def __init__(self, enabled: bool, store: States, *, note: Note, wake: Callable[[], None]) -> None:
        """``enabled`` is what site.toml says."""
        self.enabled = enabled
        self._store = store
        self._note = note
        self._wake = wake
        self._ends: _Ends | None = None
        self.wish: Wish | None = None
        self._take_over(store.state(_KEY))

    def _take_over(self, stored: object) -> None:
        """Go on with a pause that an earlier controller was in; what is none is as nothing.

        Where site.toml says by now that nothing is touched, there is nothing to pause or to come back to.
        """
        if not isinstance(stored, dict) or not self.enabled:
            return
        now = clock.now()
        try:
            ends_at = datetime.fromisoformat(stored["ends_at"])
            # A wall clock that stands years behind must not keep the automation off for years.
            left_seconds = min((ends_at - now).total_seconds(), float(stored["seconds"]))
        except (KeyError, TypeError, ValueError):
            return
        if left_seconds > 0.0:
            self._ends = self._in(left_seconds, self.enabled)
            self.enabled = False

    @staticmethod
    def _in(seconds: float, enabled: bool) -> _Ends:
        return _Ends(
            enabled=enabled,
            at=clock.now() + timedelta(seconds=seconds),
            at_seconds=clock.monotonic() + seconds,
        )

    @property
    def mode(self) -> str:
        """``control`` when levers are moved, ``off`` when it only looks and writes down."""
        return "control" if self.enabled else "off"

    @property
    def paused_until(self) -> datetime | None:
        """When a pause ends by itself; None where there is none, or it has no end."""
        return None if self._ends is None or self.enabled else self._ends.at

    @property
    def ends_at(self) -> datetime | None:
        """When a pause or a trial ends by itself; None where neither stands."""
        return None if self._ends is None else self._ends.at

    def switch(self, *, enabled: bool, seconds: float | None, actor: str, reason: str) -> None:
        """Switch for good, or for ``seconds``: then it goes back to what it was before."""
        before = self.enabled if self._ends is None else self._ends.enabled
        self.enabled = enabled
        self._ends = None if seconds is None or enabled == before else self._in(seconds, before)
        details: dict[str, Any] = {}
        if self._ends is not None:
            details = {"for_seconds": seconds, "ends_at": self._ends.at.isoformat()}
        kind = "control on" if enabled else "control off"
        self._note(actor, kind, "site", reason, details=details)
        self._keep(seconds)
        self._wake()

    def look(self, now_seconds: float) -> None:
        """End what has come to its end."""
        if self._ends is None or now_seconds < self._ends.at_seconds:
            return
        self.enabled, self._ends = self._ends.enabled, None
        kind, what = ("control on", "pause") if self.enabled else ("control off", "trial")
        self._note("controller", kind, "site", f"the {what} is over")
        self._keep(None)

    def _keep(self, seconds: float | None) -> None:
        """Remember a pause; a time of control that has an end is not to outlive a restart."""
        ends = self._ends
        kept = None if ends is None or self.enabled else {"ends_at": ends.at.isoformat(), "seconds": seconds}
        self._store.put_state(_KEY, kept)

    def release_all(self, released: Released, *, actor: str, reason: str, safety_too: bool) -> None:
        """Give everything back in the next cycle; ``released`` is what that is by now."""
        self.wish = Wish(actor=actor, reason=reason, safety_too=safety_too)
        details = {"counts": dict(released.counts), "kept_for_safety": len(released.kept_for_safety)}
        self._note(actor, "release all", "site", reason, details=details)
        self._wake()

    def take_wish(self) -> Wish | None:
        """The wish that this cycle is to fulfil, once."""
        wish, self.wish = self.wish, None
        return wish
