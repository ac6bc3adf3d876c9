"""A VEN of OpenADR 2.0b: registers, polls, has powerctld follow events, answers them, and sends telemetry."""

import contextlib
import logging
from collections.abc import Coroutine, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.bridge.event_book import Ask, EventBook
from slurm_power.bridge.grid_events import Window, external_id, printable
from slurm_power.bridge.known_events import told_before
from slurm_power.bridge.meter_history import MeterHistory
from slurm_power.bridge.openadr2_events import CANCELLED, COMPLETED, Event2, event_of, windows_of
from slurm_power.bridge.openadr2_line import GOOD, Message, OpenAdr2Line, new_id
from slurm_power.bridge.openadr2_reports import ReportRequest, offer, requests_of, specifier_id, values_of
from slurm_power.bridge.openadr3_time import TimeError, duration_seconds
from slurm_power.bridge.openadr_levels import EventError
from slurm_power.bridge.promises import Promises
from slurm_power.bridge.signal_rounds import follow_vtn
from slurm_power.bridge.signal_state import SignalState
from slurm_power.bridge.state_file import StateFile
from slurm_power.bridge.windows_json import window_from_json, window_json
from slurm_power.config.signals import OpenAdr2Signal
from slurm_power.model.site import Circuit

# A VTN that forgets us says nothing of it: ask for all events, and offer the reports, again and again.
_EVENTS_SECONDS, _REPORTS_SECONDS = 60.0, 600.0
# One that hangs up after each answer is dialled all the time: that alone is no news.
_AGAIN_SECONDS = 15.0
_MOST_MESSAGES = 20
_IN, _OUT = "optIn", "optOut"

log = logging.getLogger(__name__)


async def run_openadr2(
    signal: OpenAdr2Signal, circuit: Circuit, ask: Ask, state: SignalState, *, folder: Path, series: Path
) -> None:
    """Follow one VTN for ever; raises only what is a fault of ours."""
    line = OpenAdr2Line(signal)
    try:
        ven = Ven2(signal, circuit, ask, line, folder=folder, series=series)
        await follow_vtn(ven.round, state, lambda: ven.poll_seconds)
    finally:
        await line.close()


class Known:
    """An event as it was last taken: its state, its windows, and our answer."""

    def __init__(self, modification: int, content: str, windows: Iterable[Window], opt: str) -> None:
        self.modification = modification
        self.content = content
        self.windows = list(windows)
        self.opt = opt


class Ven2:
    """One VTN's registration, events and report requests."""

    def __init__(
        self,
        signal: OpenAdr2Signal,
        circuit: Circuit,
        ask: Ask,
        line: OpenAdr2Line,
        *,
        folder: Path,
        series: Path,
    ) -> None:
        self._signal = signal
        self._circuit = circuit
        self._ask = ask
        self._line = line
        self._file = StateFile(folder / f"signal.{signal.name}.json")
        kept = self._file.read()
        self._ven_id = str(kept.get("ven_id") or "")
        self._registration_id = ""
        self._events: dict[str, Known] = {}
        for event_id, row in dict(kept.get("events") or {}).items():
            with contextlib.suppress(KeyError, TypeError, ValueError):
                windows = [window_from_json(one) for one in row["windows"]]
                self._events[event_id] = Known(row["modification"], row["content"], windows, row["opt"])
        self._requests: list[ReportRequest] = []
        for row in kept.get("requests") or ():
            with contextlib.suppress(TypeError):
                self._requests.append(ReportRequest(**row))
        self._promises = Promises(signal.open_event_hours, kept.get("promised"))
        self._book = EventBook(signal, circuit, ask, kept.get("known"))
        self._meter = MeterHistory(series, circuit.name)
        self._asked_powerctld = False
        self._connections = 0
        self._events_seconds = self._offered_seconds = float("-inf")
        self._confirmed = True
        self._again = False
        self._again_seconds = clock.monotonic()
        self._unanswered: dict[str, tuple[Event2, str, str]] = {}
        self._doubts: dict[str, str] = {}
        self._report_doubt = ""
        self.poll_seconds = signal.poll_seconds

    async def round(self) -> list[str]:
        """Talk with the VTN once; returns what is doubtful. Raises AnswerError, LineError."""
        if not self._asked_powerctld:
            self._book.known = await told_before(self._ask, self._signal.name) | self._book.known
            self._asked_powerctld = True
        self._again = False
        if not self._registration_id:
            await self._register()
        for _ in range(_MOST_MESSAGES):
            answer = await self._next()
            if answer is None or answer.kind == "oadrResponse":
                self._check_code(answer)
                if not self._asked_soon():
                    break
                continue
            await self._take(answer)
        await self._follow()
        await self._answer()
        if self._signal.reports:
            await self._of_reports(self._send_reports())
        self._keep()
        return [*self._doubts.values(), *filter(None, [self._report_doubt, self._line.clock_doubt])]

    # --- registration --------------------------------------------------------------------------------------

    async def _register(self) -> None:
        """Make ourselves known; the same VEN again, where the VTN has given us an id before."""
        words: dict[str, Any] = {
            "request_id": new_id(),
            "ven_name": self._signal.ven_name,
            "http_pull_model": True,
            "xml_signature": self._signal.sign_messages,
            "report_only": False,
            "profile_name": "2.0b",
            "transport_name": "simpleHttp",
            "transport_address": None,
        }
        if self._ven_id:
            words["ven_id"] = self._ven_id
        answer = await self._line.ask("EiRegisterParty", "oadrCreatePartyRegistration", **words)
        registration = "" if answer is None else answer.text("registrationID")
        ven_id = "" if answer is None else answer.text("venID")
        if answer is None or answer.code != GOOD or not registration or not ven_id:
            code = "" if answer is None else f" ({answer.code})"
            self._ven_id = ""
            raise AnswerError(f"it does not register {self._signal.ven_name}{code}")
        self._ven_id, self._registration_id = ven_id, registration
        with contextlib.suppress(TimeError):
            wanted = duration_seconds(answer.text("oadrRequestedOadrPollFreq/duration"), "poll")
            self.poll_seconds = max(1.0, min(self._signal.poll_seconds, wanted))
        self._connections, self._again_seconds = self._line.connections, clock.monotonic()
        self._ask_again()

    def _ask_again(self) -> None:
        """Ask for all events and offer the reports at the next occasion."""
        self._events_seconds = self._offered_seconds = float("-inf")

    def _asked_soon(self) -> bool:
        """Whether something is to be asked now; a new connection may be one to a new VTN."""
        now = clock.monotonic()
        if self._line.connections != self._connections and now - self._again_seconds >= _AGAIN_SECONDS:
            self._connections, self._again_seconds = self._line.connections, now
            self._ask_again()
        offers = self._signal.reports and now - self._offered_seconds >= _REPORTS_SECONDS
        return now - self._events_seconds >= _EVENTS_SECONDS or offers

    async def _next(self) -> Message | None:
        """The next message: the answer to what we have to ask, else to a poll."""
        self._asked_soon()
        now = clock.monotonic()
        if now - self._events_seconds >= _EVENTS_SECONDS:
            self._events_seconds = now
            answer = await self._line.ask(
                "EiEvent", "oadrRequestEvent", request_id=new_id(), ven_id=self._ven_id, reply_limit=None
            )
            # Without a list nothing is cancelled, and nothing is said again either.
            self._confirmed = answer is not None and answer.kind == "oadrDistributeEvent"
        elif self._signal.reports and now - self._offered_seconds >= _REPORTS_SECONDS:
            self._offered_seconds = now
            return await self._of_reports(self._offer())
        else:
            answer = await self._line.ask("OadrPoll", "oadrPoll", ven_id=self._ven_id)
        self._check_code(answer)
        return answer

    def _check_code(self, answer: Message | None) -> None:
        """A VTN that does not know us any more wants us to register again."""
        if answer is not None and answer.code not in (GOOD, ""):
            self._registration_id = ""
            raise AnswerError(f"it says {answer.code}; registering again")

    async def _take(self, answer: Message) -> None:
        match answer.kind:
            case "oadrDistributeEvent":
                self._take_events(answer)
            case "oadrRegisteredReport" | "oadrCreateReport":
                await self._of_reports(self._take_requests(answer))
            case "oadrCancelReport":
                await self._of_reports(self._cancel_report(answer))
            case "oadrRequestReregistration":
                if self._again:
                    raise AnswerError("it wants us to register again and again")
                self._again = True
                await self._respond("EiRegisterParty", "oadrResponse", answer)
                await self._register()
            case "oadrCancelPartyRegistration":
                gone = answer.text("registrationID")
                kind = "oadrCanceledPartyRegistration"
                await self._respond("EiRegisterParty", kind, answer, registration_id=gone)
                # It stays cancelled for this round; whoever is in site.toml tries again at the next.
                self._registration_id = self._ven_id = ""
                raise AnswerError("it has cancelled our registration")
            case "oadrRegisterReport":
                await self._respond("EiReport", "oadrRegisteredReport", answer, report_requests=[])
            case _:
                self._doubts["message"] = f"{printable(answer.kind, 40)} is not answered"

    async def _respond(self, service: str, kind: str, answer: Message, **words: Any) -> None:
        response = {"response_code": 200, "response_description": "OK", "request_id": answer.request_id}
        await self._line.ask(service, kind, response=response, ven_id=self._ven_id, **words)

    # --- events --------------------------------------------------------------------------------------------

    def _take_events(self, answer: Message) -> None:
        """Take a list of events, which is always a whole one: what is not in it any more is cancelled."""
        now = clock.now()
        listed = [event_of(element) for element in answer.all("oadrEvent")]
        self._confirmed = True
        names = {event.event_id for event in listed}
        self._events = {key: known for key, known in self._events.items() if key in names}
        self._doubts = {}
        for event in listed:
            opt = self._take_event(event, now)
            if event.answer_wanted and event.status != COMPLETED:
                self._unanswered[event.event_id] = (event, opt, answer.request_id)

    def _take_event(self, event: Event2, now: datetime) -> str:
        """Take one event; returns our answer to it."""
        known = self._events.get(event.event_id)
        name = printable(event.event_id, 40)
        if known is not None and event.modification < known.modification:
            self._doubts[event.event_id] = (
                f"{name}: state {event.modification} came after {known.modification}, which stands"
            )
            return known.opt
        if event.status in (CANCELLED, COMPLETED):
            self._events[event.event_id] = Known(event.modification, event.content, (), _IN)
            return _IN
        if known is not None and event.modification == known.modification:
            if event.content != known.content:
                self._doubts[event.event_id] = f"{name}: it changed without a new modification number"
            return known.opt
        if event.test:
            self._events[event.event_id] = Known(event.modification, event.content, (), _IN)
            return _IN
        try:
            windows, notes = windows_of(event, self._signal, self._circuit, now)
        except EventError as error:
            self._doubts[event.event_id] = f"{name}: {error}"
            # What stood before this change stands on: it is refused, not taken back.
            before = () if known is None else known.windows
            self._events[event.event_id] = Known(event.modification, event.content, before, _OUT)
            return _OUT
        if notes:
            self._doubts[event.event_id] = f"{name}: {'; '.join(notes)}"
        self._events[event.event_id] = Known(event.modification, event.content, windows, _IN)
        return _IN

    async def _follow(self) -> None:
        windows = [window for known in self._events.values() for window in known.windows]
        unconfirmed = () if self._confirmed else tuple(self._events)
        followed = await self._book.follow(self._promises.onto(windows, clock.now(), unconfirmed))
        for event_id, why in followed.refused.items():
            self._doubts[event_id] = f"{printable(event_id, 40)}: {why}"
            known = self._events[event_id]
            known.opt = _OUT
            if not any(external_id(self._signal.name, one) in self._book.known for one in known.windows):
                # Refused is refused: it is not tried again behind the utility's back.
                known.windows = []
        for event_id in followed.withdrawn:
            self._doubts[event_id] = f"{printable(event_id, 40)}: ended by an operator here"
            self._events[event_id].opt = _OUT

    async def _answer(self) -> None:
        """Opt in or out, after powerctld has said whether it takes them."""
        answers = list(self._unanswered.values())
        if not answers:
            return
        responses = []
        for event, opt, request_id in answers:
            known = self._events.get(event.event_id)
            if known is not None and known.modification == event.modification:
                opt = known.opt  # noqa: PLW2901  # what powerctld has made of it
            responses.append(
                {
                    "response_code": 200,
                    "response_description": "OK" if opt == _IN else "not followed",
                    "request_id": request_id,
                    "event_id": event.event_id,
                    "modification_number": event.modification,
                    "opt_type": opt,
                }
            )
        response = {"response_code": 200, "response_description": "OK", "request_id": answers[0][2]}
        await self._line.ask(
            "EiEvent",
            "oadrCreatedEvent",
            response=response,
            event_responses=responses,
            ven_id=self._ven_id,
        )
        self._unanswered.clear()

    # --- reports -------------------------------------------------------------------------------------------

    async def _of_reports(self, doing: Coroutine[Any, Any, Message | None]) -> Message | None:
        """Do something with reports; events count more than what a VTN makes of those."""
        try:
            return await doing
        except AnswerError as error:
            self._report_doubt = f"reports: {error}"
            return None

    async def _offer(self) -> Message | None:
        """Register the reports; raises AnswerError where the VTN wants none."""
        answer = await self._line.ask(
            "EiReport",
            "oadrRegisterReport",
            request_id=new_id(),
            ven_id=self._ven_id,
            reports=offer(self._signal),
        )
        if answer is not None and answer.code != GOOD:
            raise AnswerError(f"oadrRegisterReport: it says {printable(answer.code, 10)}")
        self._report_doubt = ""
        return answer

    async def _take_requests(self, answer: Message) -> None:
        """Take report requests in place of those before, which a restarted VTN has forgotten."""
        elements = answer.all("oadrReportRequest")
        if not elements:
            return
        requests = requests_of(elements, self._signal, clock.now())
        if requests:
            names = {request.request_id for request in requests}
            renewed = answer.kind == "oadrRegisteredReport"
            kept = [] if renewed else [one for one in self._requests if one.request_id not in names]
            self._requests = [*kept, *requests]
        else:
            self._doubts["reports"] = (
                f"it asks for reports that are not offered ({specifier_id(self._signal)})"
            )
        pending = [{"report_request_id": request.request_id} for request in self._requests]
        await self._respond("EiReport", "oadrCreatedReport", answer, pending_reports=pending)

    async def _cancel_report(self, answer: Message) -> None:
        gone = {str(element.text).strip() for element in answer.all("reportRequestID")}
        self._requests = [request for request in self._requests if request.request_id not in gone]
        pending = [{"report_request_id": request.request_id} for request in self._requests]
        await self._respond("EiReport", "oadrCanceledReport", answer, pending_reports=pending)

    async def _send_reports(self) -> None:
        now = clock.now()
        for request in list(self._requests):
            if not request.due(now):
                continue
            report = await values_of(request, now, self._meter.mean)
            answer = await self._line.ask(
                "EiReport", "oadrUpdateReport", request_id=new_id(), ven_id=self._ven_id, reports=[report]
            )
            if request.done(now):
                self._requests.remove(request)
            if answer is not None and answer.code != GOOD:
                self._offered_seconds = float("-inf")

    def _keep(self) -> None:
        self._file.write(
            {
                "ven_id": self._ven_id,
                "known": self._book.to_json(),
                "promised": self._promises.to_json(),
                "requests": [request.to_json() for request in self._requests],
                "events": {
                    event_id: {
                        "modification": known.modification,
                        "content": known.content,
                        "windows": [window_json(window) for window in known.windows],
                        "opt": known.opt,
                    }
                    for event_id, known in self._events.items()
                },
            }
        )
