"""openleadr's VTN of OpenADR 2.0b for a test bed, with what a utility would do with it."""

import contextlib
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from openleadr import OpenADRServer, enums
from openleadr.service import VTNService

VEN_ID = "ven_one"


class Vtn2:
    """openleadr's VTN on loopback. ``answers`` are opt types, ``values`` the telemetry that came."""

    def __init__(self, port: int, **tls: Any) -> None:
        self.port = port
        self.tls = tls
        self.answers: list[tuple[str, str]] = []
        self.values: list[tuple[datetime, float]] = []
        self.registrations = 0
        self.on_registration: Callable[[], object] = lambda: None
        self.offers = 0
        self.report_refusal: Exception | None = None

    async def start(self, *, remembered: Any = None) -> None:
        """Listen; ``remembered`` are the events that ``stop`` gave, as a database would."""
        if "ven_lookup" not in self.tls and hasattr(VTNService, "ven_lookup"):
            del VTNService.ven_lookup  # the library keeps it for the whole process
        with contextlib.redirect_stdout(io.StringIO()):
            self.server = OpenADRServer(
                vtn_id="utility",
                http_port=self.port,
                requested_poll_freq=timedelta(seconds=5),
                show_fingerprint=False,
                show_server_cert_domain=False,
                **self.tls,
            )
            self.server.add_handler("on_create_party_registration", self._register)
            self.server.add_handler("on_register_report", _compact(self._offer))
            if remembered is not None:
                self.server.services["event_service"].events = remembered
                self.server.events_updated[VEN_ID] = True
            await self.server.run()

    async def stop(self) -> Any:
        """Hang up; returns the events."""
        await self.server.stop()
        return self.server.events

    def _register(self, _: dict[str, Any]) -> tuple[str, str]:
        self.registrations += 1
        self.on_registration()
        return VEN_ID, f"registration {self.registrations}"

    def _offer(self, **_: Any) -> tuple[Any, timedelta, timedelta]:
        self.offers += 1
        if self.report_refusal is not None:
            raise self.report_refusal
        return self._take, timedelta(seconds=2), timedelta(seconds=4)

    def _take(self, values: list[tuple[datetime, float]]) -> None:
        self.values += values

    def event(
        self,
        value: float,
        start: float = 60,
        seconds: float = 600,
        *,
        name: str = "LOAD_DISPATCH",
        kind: str = "setpoint",
        event_id: str = "e1",
        modification: int = 0,
        unit: str = "W",
        **more: Any,
    ) -> dict[str, Any]:
        """Announce an event as the utility does, or put a new state in its place."""
        begin = datetime.now(UTC) + timedelta(seconds=start)
        length = timedelta(seconds=seconds)
        signal: dict[str, Any] = {
            "signal_name": name,
            "signal_type": kind,
            "signal_id": "s",
            "intervals": [{"dtstart": begin, "duration": length, "signal_payload": value}],
        }
        if unit:
            measurement = enums.MEASUREMENTS["POWER_REAL"]
            signal["measurement"] = {
                "name": measurement.name,
                "description": measurement.description,
                "unit": unit,
                "scale": "none",
                "power_attributes": {"hertz": 50, "voltage": 230, "ac": True},
            }
        event = {
            "event_descriptor": {
                "event_id": event_id,
                "modification_number": modification,
                "market_context": "http://utility",
                "event_status": more.pop("status", "far"),
                "created_date_time": datetime.now(UTC),
                "priority": more.pop("priority", 0),
                "test_event": more.pop("test", None),
                "vtn_comment": more.pop("comment", None),
            },
            "active_period": {"dtstart": begin, "duration": length},
            "event_signals": [signal],
            "targets": [{"ven_id": VEN_ID}],
            "response_required": "always",
        }
        rows = self.server.events.setdefault(VEN_ID, [])
        rows[:] = [one for one in rows if one["event_descriptor"]["event_id"] != event_id]
        self.server.add_raw_event(VEN_ID, event, callback=self._answered)
        return event

    def _answered(self, ven_id: str, event_id: str, opt_type: str) -> None:
        assert ven_id == VEN_ID
        self.answers.append((event_id, opt_type))


def _compact(handler: Callable[..., Any]) -> Callable[..., Any]:
    """openleadr looks at the names of a handler's parameters to see how to call it."""

    def called(  # noqa: PLR0917  # the library's own list
        ven_id: str,
        resource_id: str,
        measurement: str,
        unit: str,
        scale: str,
        min_sampling_interval: timedelta,
        max_sampling_interval: timedelta,
    ) -> Any:
        known = (ven_id, resource_id, measurement, unit, scale, min_sampling_interval, max_sampling_interval)
        return None if None in known else handler()

    return called
