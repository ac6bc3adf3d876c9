"""Brings alerts out by every channel: queues with a bound, tries again ever more seldom, says who fails."""

import asyncio
import logging
from collections import deque
from typing import Any

from slurm_power import clock
from slurm_power.bridge.alert_channels import Channel, DeliveryError
from slurm_power.bridge.loose import rows, words
from slurm_power.model.alert import Severity

log = logging.getLogger(__name__)

MOST_WAITING = 200
_FIRST_BACKOFF_SECONDS, _MOST_BACKOFF_SECONDS = 1.0, 300.0
# What could not be told for a day is old.
_OLDEST_SECONDS = 86_400.0


class Outbox:
    """What one channel still has to bring out, in order. ``failing``: why the last try failed, else ""."""

    def __init__(self, channel: Channel, *, first_backoff_seconds: float = _FIRST_BACKOFF_SECONDS) -> None:
        self.channel = channel
        self.failing = ""
        self.dropped = 0
        self._first_backoff_seconds = first_backoff_seconds
        self._waiting: deque[tuple[float, dict[str, Any]]] = deque()
        self._more = asyncio.Event()

    @property
    def name(self) -> str:
        """The channel's name, as delivery_failing has it."""
        return self.channel.name

    def put(self, message: dict[str, Any]) -> None:
        """Queue a message, unless it is too slight for this channel, or about its own failing."""
        if not Severity(words(message, "severity")).reaches(self.channel.severity):
            return
        if message.get("rule") == "delivery_failing" and message.get("cause") == self.name:
            return
        self._waiting.append((clock.monotonic(), message))
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
            log.error("%s: too much waits, the oldest alert was dropped", self.name)
        self._more.set()

    def to_json(self) -> dict[str, Any]:
        """What waits, for the next bridge."""
        return {"waiting": [message for _, message in self._waiting]}

    def take_json(self, stored: object) -> None:
        """Go on with what an earlier bridge could not bring out."""
        for message in rows(stored, "waiting")[-MOST_WAITING:]:
            if message.get("severity") in list(Severity):
                self.put(dict(message))

    async def run(self) -> None:
        """Bring out what is queued, until cancelled."""
        backoff_seconds = self._first_backoff_seconds
        while True:
            await self._more.wait()
            while self._waiting:
                queued_seconds, message = self._waiting[0]
                if clock.monotonic() - queued_seconds > _OLDEST_SECONDS:
                    self._waiting.popleft()
                    continue
                try:
                    await self.channel.deliver(message)
                except DeliveryError as error:
                    if str(error) != self.failing:
                        log.error("%s: %s; trying again", self.name, error)
                    self.failing = str(error)
                    await asyncio.sleep(backoff_seconds)
                    backoff_seconds = min(2.0 * backoff_seconds, _MOST_BACKOFF_SECONDS)
                    continue
                self.failing, backoff_seconds = "", self._first_backoff_seconds
                # A full queue may have lost it meanwhile.
                if self._waiting and self._waiting[0][1] is message:
                    self._waiting.popleft()
            self._more.clear()

    async def test(self, message: dict[str, Any]) -> str:
        """Bring one message out at once, past the queue; returns why it did not go, "" if it did."""
        try:
            await self.channel.deliver(message)
        except DeliveryError as error:
            return str(error)
        return ""
