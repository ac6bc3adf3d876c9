"""powerctld's event desk behind ``ask``, without the rest of it: the handlers are the real ones."""

from typing import Any

from slurm_power import clock
from slurm_power.controller.answers.behalf import behalf_of
from slurm_power.controller.answers.event_answer import add_event, cancel_event, events
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.powerctld_line import LineError, LineRefusedError
from slurm_power.wire import Message
from tests.controller.test_event_desk import Bench


class Powerctld(Bench):
    """What events touch of a controller. ``away``: it does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.at = clock.now()
        self.away = False
        self.asked: list[Message] = []
        self.live(400)

    async def __call__(self, message: Message) -> Message:
        if self.away:
            raise LineError("powerctld did not answer in 2 s")
        self.asked.append(message)
        behalf = behalf_of(message["for"]) if "for" in message else None
        caller = Caller(0, behalf)
        self.levers.expire(clock.now())
        try:
            if message["op"] == "event":
                return dict(add_event(self, dict(message), caller))  # type: ignore[arg-type]  # a part of one
            if message["op"] == "cancel_event":
                return dict(cancel_event(self, dict(message), caller))  # type: ignore[arg-type]  # a part
            assert message["op"] == "events"
            self.at = clock.now()
            self.desk.follow(self.snapshot(), ())
            return dict(events(self))  # type: ignore[arg-type]  # a part of one
        except RefusedError as error:
            raise LineRefusedError(str(error)) from None

    def standing(self) -> list[tuple[Any, ...]]:
        """Level, start and end (seconds from now) of each event, by start."""
        now = clock.now()
        rows = [
            (
                event.limit_watts,
                round((event.starts_at - now).total_seconds()),
                round((event.ends_at - now).total_seconds()),
            )
            for event in self.levers.events.values()
        ]
        return sorted(rows, key=lambda row: (row[1], row[2], row[0]))

    def kinds_of(self, kind: str) -> list[dict[str, Any]]:
        """Details of the ledger's entries of a kind."""
        return [details for known, _, details in self.book.notes if known == kind]
