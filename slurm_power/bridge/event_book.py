"""Keeps powerctld's events as a signal wants them: told again and again, so that no restart loses one."""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from slurm_power import clock
from slurm_power.bridge.grid_events import MOST_WINDOWS, Window, by_priority, external_id
from slurm_power.config.http_signals import HttpLimitsSignal
from slurm_power.config.signals import OpenAdrSignal
from slurm_power.model.site import Circuit
from slurm_power.powerctld_line import LineRefusedError
from slurm_power.wire import Message

Ask = Callable[[Message], Awaitable[Message]]
"""One question to powerctld; raises LineError, LineRefusedError where it does not do it."""

# So many are looked at before the nearest are chosen: priorities are a matter of each with each.
_MOST_LOOKED_AT = 500
# What is over so soon is not worth a command.
_LEAST_SECONDS = 1.0


@dataclass(slots=True)
class Followed:
    """What became of a signal's events: why powerctld did not take them, which an operator ended."""

    refused: dict[str, str] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    left_out: int = 0


class EventBook:
    """The events of one signal at powerctld. ``known``: the external ids told so far, with their ends."""

    def __init__(
        self, signal: OpenAdrSignal | HttpLimitsSignal, circuit: Circuit, ask: Ask, known: object = None
    ) -> None:
        self._signal = signal
        self._circuit = circuit
        self._ask = ask
        self._behalf = {"name": signal.name, "role": "operator", "via": "signal"}
        self.known: dict[str, datetime] = {}
        for name, end in (known if isinstance(known, dict) else {}).items():
            with contextlib.suppress(TypeError, ValueError):
                self.known[name] = datetime.fromisoformat(end)

    async def follow(self, windows: Sequence[Window]) -> Followed:
        """Have just these windows stand at powerctld; raises LineError when it does not answer.

        What it was told before and is not among them is cancelled, in a running one the recovery begins.
        """
        followed = Followed()
        now = clock.now()
        live = [one for one in windows if (one.ends_at - now).total_seconds() > _LEAST_SECONDS]
        live.sort(key=lambda one: one.starts_at)
        ordered = by_priority(live[:_MOST_LOOKED_AT], now)
        ordered = [one for one in ordered if (one.ends_at - now).total_seconds() > _LEAST_SECONDS]
        followed.left_out = max(0, len(live) - MOST_WINDOWS)
        wanted = {external_id(self._signal.name, one): one for one in ordered[:MOST_WINDOWS]}
        for name in sorted(set(self.known) - set(wanted)):
            if (self.known[name] - now).total_seconds() > _LEAST_SECONDS:
                await self._cancel(name)
            else:
                # It has ended by itself: its recovery goes on.
                del self.known[name]
        for name, window in wanted.items():
            if not window.level.binds(self._circuit):
                if name in self.known:
                    await self._cancel(name)
                continue
            try:
                answer = await self._ask(self._words(name, window, now))
            except LineRefusedError as error:
                followed.refused[window.event_id] = str(error)
                continue
            if answer.get("withdrawn"):
                followed.withdrawn.add(window.event_id)
            else:
                self.known[name] = window.ends_at
        return followed

    async def _cancel(self, name: str) -> None:
        words: Message = {"op": "cancel_event", "external_id": name, "recover": True}
        await self._ask({**words, "for": self._behalf})
        self.known.pop(name, None)

    def to_json(self) -> dict[str, str]:
        """``known``, for a restart."""
        return {name: end.isoformat() for name, end in self.known.items()}

    def _words(self, name: str, window: Window, now: datetime) -> Message:
        start_seconds = max(0.0, (window.starts_at - now).total_seconds())
        words: Message = {
            "op": "event",
            "for": self._behalf,
            "external_id": name,
            "external_version": _digest(window.version),
            "circuit": self._circuit.name,
            **window.level.words(),
            "start_in_seconds": start_seconds,
            "duration_seconds": (window.ends_at - now).total_seconds() - start_seconds,
            "commitment": self._signal.commitment.value,
            "reason": window.reason,
        }
        if window.joined:
            words["recover_seconds"] = 0.0
        if self._signal.ramp_seconds is not None:
            # A ramp must not be longer than what is left of the event.
            words["ramp_seconds"] = min(
                self._signal.ramp_seconds, 0.5 * float(str(words["duration_seconds"]))
            )
        return words


def _digest(version: str) -> str:
    """A version of any length and any letters as a short word."""
    return hashlib.sha256(version.encode("utf-8", "surrogatepass")).hexdigest()[:32]
