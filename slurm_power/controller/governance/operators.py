"""What operators ask for: temporary limits, and nodes left to their administrators; all in the ledger."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

from slurm_power import clock
from slurm_power.controller.levers.levers import LeverState, YieldRecord
from slurm_power.wire import Message


class Note(Protocol):
    """Writes a ledger entry."""

    def __call__(self, actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        """Write (actor, kind, subject, reason) and what else the entry has."""
        ...


class Nodes(Protocol):
    """The standing connections to the node daemons."""

    def send(self, node: str, message: Message) -> bool:
        """Push one message; False if the node is not connected."""
        ...

    def forget(self, node: str) -> bool:
        """Drop the pinned key of a node and hang up on it; False if none was pinned."""
        ...


def actor_of(who: str) -> str:
    """The actor of a ledger entry; ``who`` is a user, maybe with the way they came, or a signal's name."""
    return who if who.startswith("signal:") else f"operator:{who}"


class OperatorDesk:
    """Changes the levers' limits for operators. ``wake`` has the next cycle run at once."""

    def __init__(
        self,
        levers: LeverState,
        *,
        note: Note,
        nodes: Nodes,
        wake: Callable[[], None],
    ) -> None:
        self._levers = levers
        self._note = note
        self._nodes = nodes
        self._wake = wake

    def add_event(
        self, *, circuit: str, start_seconds: float, duration_seconds: float, who: str, **more: Any
    ) -> str:
        """Lower a circuit's limit from ``start_seconds`` from now on, for a while; returns the event's id.

        ``more``: the other fields of an :class:`EventRecord`, at least its level and its reason; with the
        ``event_id`` of an event that one is replaced.
        """
        changed = bool(more.get("event_id"))
        now = clock.now()
        starts_at = now + timedelta(seconds=start_seconds)
        event_id = self._levers.add_event(
            circuit=circuit,
            starts_at=starts_at,
            ends_at=starts_at + timedelta(seconds=duration_seconds),
            announced_at=now,
            **more,
        )
        event = self._levers.events[event_id]
        known_as = {"external_id": event.external_id} if event.external_id else {}
        self._note(
            actor_of(who),
            "event changed" if changed else "event",
            f"circuit:{circuit}",
            event.reason,
            details={
                "event_id": event_id,
                **known_as,
                "limit_watts": event.limit_watts,
                "start_seconds": start_seconds,
                "duration_seconds": duration_seconds,
                "commitment": event.commitment.value,
                "baseline_watts": event.baseline_watts,
                "ramp_seconds": event.ramp_seconds,
                "recover_seconds": event.recover_seconds,
            },
        )
        self._wake()
        return event_id

    def cancel_event(self, event_id: str, who: str, *, recover: bool = False, reason: str = "") -> bool:
        """Drop an event at once, or have its recovery begin; False if there is none of that id.

        One that has not begun has nothing to recover from.
        """
        event = self._levers.events.get(event_id)
        if event is None:
            return False
        if not (recover and self._levers.end_event(event_id, clock.now())):
            del self._levers.events[event_id]
        self._note(
            actor_of(who),
            "event cancelled",
            f"circuit:{event.circuit}",
            reason or event.reason,
            details={"event_id": event_id, "recover": recover},
        )
        self._wake()
        return True

    def yield_node(self, *, node: str, seconds: float, reason: str, who: str) -> None:
        """Leave a node's GPUs to somebody else for ``seconds``; 0 takes them back."""
        if seconds > 0.0:
            ends_at = clock.now() + timedelta(seconds=seconds)
            self._levers.yields[node] = YieldRecord(node=node, ends_at=ends_at, who=who, reason=reason)
        else:
            self._levers.yields.pop(node, None)
        kind = "yield" if seconds > 0.0 else "yield over"
        self._note(actor_of(who), kind, f"node:{node}", reason, details={"seconds": seconds})
        self.tell_yield(node)
        self._wake()

    def tell_yield(self, node: str) -> None:
        """Let a node know for how long it is yielded; one that is not connected hears it when it is."""
        record = self._levers.yields.get(node)
        seconds = 0.0 if record is None else max(0.0, (record.ends_at - clock.now()).total_seconds())
        self._nodes.send(node, {"type": "yield", "seconds": seconds})

    def forget_node(self, node: str, who: str) -> bool:
        """Let a node come with a new key, and hang up on it; False if none was pinned."""
        known = self._nodes.forget(node)
        if known:
            self._note(actor_of(who), "node forgotten", f"node:{node}", "its pinned key was dropped")
        return known
