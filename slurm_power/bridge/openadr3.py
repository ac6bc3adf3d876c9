"""A VEN of OpenADR 3: reads a VTN's events again and again, has powerctld follow them, and reports back."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.bridge.event_book import Ask, EventBook, Followed
from slurm_power.bridge.feeds import Feed
from slurm_power.bridge.grid_events import plain_id, printable
from slurm_power.bridge.known_events import told_before
from slurm_power.bridge.meter_history import MeterHistory
from slurm_power.bridge.openadr3_client import OpenAdr3Client
from slurm_power.bridge.openadr3_events import ReadEvent, read_event
from slurm_power.bridge.openadr3_reports import due_reports, refusal_json, report_json
from slurm_power.bridge.openadr3_targets import is_for_us
from slurm_power.bridge.openadr_levels import EventError
from slurm_power.bridge.promises import Promises
from slurm_power.bridge.signal_rounds import follow_vtn
from slurm_power.bridge.signal_state import SignalState
from slurm_power.bridge.state_file import StateFile
from slurm_power.config.signals import OpenAdr3Signal
from slurm_power.model.site import Circuit

_PROGRAMS_SECONDS = 60.0
# What one event may take in our own file; a larger one is followed, but not remembered.
_MOST_EVENT_BYTES = 65_536
_MOST_REMEMBERED = 200

log = logging.getLogger(__name__)


async def run_openadr3(
    signal: OpenAdr3Signal,
    circuit: Circuit,
    ask: Ask,
    state: SignalState,
    *,
    folder: Path,
    series: Path,
    feeds: Path,
) -> None:
    """Follow one VTN for ever; raises only what is a fault of ours."""
    client = OpenAdr3Client(signal)
    try:
        ven = Ven3(signal, circuit, ask, client, folder=folder, series=series, feeds=feeds)
        await follow_vtn(ven.round, state, lambda: signal.poll_seconds)
    finally:
        await client.close()


class Ven3:
    """One VTN's programs and events, and what of them stands at powerctld."""

    def __init__(
        self,
        signal: OpenAdr3Signal,
        circuit: Circuit,
        ask: Ask,
        client: OpenAdr3Client,
        *,
        folder: Path,
        series: Path,
        feeds: Path,
    ) -> None:
        self._signal = signal
        self._circuit = circuit
        self._ask = ask
        self._client = client
        self._file = StateFile(folder / f"signal.{signal.name}.json")
        kept = self._file.read()
        self._raw: dict[str, dict[str, Any]] = dict(kept.get("events") or {})
        self._seen: dict[str, dict[str, str]] = dict(kept.get("seen") or {})
        self._promises = Promises(signal.open_event_hours, kept.get("promised"))
        self._book = EventBook(signal, circuit, ask, kept.get("known"))
        self._meter = MeterHistory(series, circuit.name)
        self._prices = Feed(feeds / f"{signal.name}.price.csv", "price_per_kwh")
        self._carbon = Feed(feeds / f"{signal.name}.carbon.csv", "carbon_g_per_kwh")
        self._programs: dict[str, dict[str, Any]] = {}
        # What known events refer to, also when the VTN has it no more.
        self._past_programs: dict[str, dict[str, Any]] = dict(kept.get("programs") or {})
        self._programs_seconds = float("-inf")
        self._missing: list[str] = []
        self._unconfirmed: set[str] = set()
        self._registered = not (signal.register and signal.reports)
        self._asked_powerctld = False
        self._refusals: dict[str, dict[str, Any]] = {}
        self._sent: dict[str, set[str]] = {}

    async def round(self) -> list[str]:
        """Read everything once and act on it; returns what is doubtful. Raises AnswerError, LineError."""
        doubts: list[str] = []
        await self._read_programs()
        if self._missing:
            doubts.append(f"it has no program {', '.join(self._missing)}")
        await self._register(doubts)
        if not self._asked_powerctld:
            self._book.known = await told_before(self._ask, self._signal.name) | self._book.known
            self._asked_powerctld = True
        now = clock.now()
        events = await self._events(now, doubts)
        windows = [window for event in events.values() for window in event.windows]
        followed = await self._book.follow(self._promises.onto(windows, now, self._unconfirmed))
        self._keep()
        prices = [price for event in events.values() for price in event.prices]
        carbon = [price for event in events.values() for price in event.carbon]
        doubts += filter(None, [self._prices.put(prices, now), self._carbon.put(carbon, now)])
        doubts += [f"{printable(key, 40)}: {why}" for key, why in followed.refused.items()]
        if followed.withdrawn:
            doubts.append(f"{len(followed.withdrawn)} of its events were ended by an operator here")
        if followed.left_out:
            doubts.append(f"{followed.left_out} intervals are too far ahead to be told yet")
        if self._client.clock_doubt:
            doubts.append(self._client.clock_doubt)
        if self._signal.reports:
            await self._report(events, followed, doubts)
        return doubts

    async def _read_programs(self) -> None:
        if clock.monotonic() - self._programs_seconds < _PROGRAMS_SECONDS and self._programs:
            return
        rows = await self._client.everything("/programs", **self._targets())
        wanted = set(self._signal.programs)
        found = {row["id"]: row for row in rows if not wanted or row.get("programName") in wanted}
        self._missing = sorted(wanted - {str(row.get("programName")) for row in found.values()})
        self._programs = found
        self._programs_seconds = clock.monotonic()

    def _targets(self) -> dict[str, str | list[str]]:
        return {"targets": list(self._signal.targets)} if self._signal.targets else {}

    async def _register(self, doubts: list[str]) -> None:
        if self._registered:
            return
        try:
            await self._client.register()
            self._registered = True
        except AnswerError as error:
            # Events count more than that the VTN knows our name.
            doubts.append(f"not registered: {error}")

    async def _events(self, now: datetime, doubts: list[str]) -> dict[str, ReadEvent]:
        """The events that count now, understood; ones that cannot be meant are as they were before."""
        rows = await self._client.everything("/events", **self._targets())
        listed = {row["id"]: row for row in rows if self._is_ours(row)}
        self._unconfirmed = set()
        for event_id in [known for known in self._raw if known not in listed]:
            if self._raw[event_id].get("programID") not in self._programs:
                # A VTN that has lost its programs has lost its memory: that is no cancellation.
                if not self._over(event_id, now):
                    doubts.append("a program with known events is gone; they stand until they end")
                    listed[event_id] = self._raw[event_id]
                    self._unconfirmed.add(event_id)
                    self._programs_seconds = float("-inf")
                continue
            # Lists by pages may skip one while others come and go: ask for it by name.
            still = await self._client.event(event_id)
            if still is not None and self._is_ours(still):
                listed[event_id] = still
        if len(listed) > _MOST_REMEMBERED:
            doubts.append(f"it has {len(listed)} events; {_MOST_REMEMBERED} of them are followed")
            known_first = sorted(listed, key=lambda name: name not in self._raw)
            listed = {name: listed[name] for name in known_first[:_MOST_REMEMBERED]}
        # Events may be large, and others must not wait for them.
        read = await asyncio.to_thread(self._read_all, listed, now, doubts)
        self._sent = {key: names for key, names in self._sent.items() if key in listed}
        return read

    def _is_ours(self, row: Mapping[str, Any]) -> bool:
        return row.get("programID") in self._programs and is_for_us(row, self._signal)

    def _over(self, event_id: str, now: datetime) -> bool:
        """Whether nothing of a remembered event is left."""
        try:
            known = self._understood(event_id, self._raw[event_id], now)
        except EventError:
            return True
        return all(self._promises.end_of(window) <= now for window in known.windows)

    def _read_all(
        self, listed: dict[str, dict[str, Any]], now: datetime, doubts: list[str]
    ) -> dict[str, ReadEvent]:
        read: dict[str, ReadEvent] = {}
        for event_id, row in listed.items():
            event = self._read(event_id, row, now, doubts)
            if event is not None:
                read[event_id] = event
        self._raw = {key: row for key, row in self._raw.items() if key in listed}
        self._past_programs = {str(row.get("programID")): self._program(row) for row in self._raw.values()}
        self._seen = {key: row for key, row in self._seen.items() if key in listed}
        return read

    def _read(self, event_id: str, row: dict[str, Any], now: datetime, doubts: list[str]) -> ReadEvent | None:
        known = self._raw.get(event_id)
        if known is not None and _older(row, known):
            doubts.append(f"{printable(event_id, 40)}: it went backwards; its newer state stands")
            row = known
        try:
            event = self._understood(event_id, row, now)
        except EventError as error:
            doubts.append(f"{printable(event_id, 40)}: {error}")
            self._refuse(event_id, row)
            if known is None or known is row:
                return None
            with contextlib.suppress(EventError):
                return self._understood(event_id, known, now)
            return None
        doubts += [f"{printable(event_id, 40)}: {note}" for note in event.notes]
        if len(json.dumps(row)) <= _MOST_EVENT_BYTES:
            self._raw[event_id] = row
        return event

    def _understood(self, event_id: str, row: Mapping[str, Any], now: datetime) -> ReadEvent:
        return read_event(
            row,
            self._program(row),
            self._signal,
            self._circuit,
            first_seen=self._first_seen(event_id, row, now),
            now=now,
        )

    def _program(self, row: Mapping[str, Any]) -> dict[str, Any]:
        name = str(row.get("programID"))
        return self._programs.get(name) or self._past_programs.get(name) or {}

    def _first_seen(self, event_id: str, row: Mapping[str, Any], now: datetime) -> datetime:
        """When these times of the event were first read: what "now" means in them, also after a restart."""
        times = [row.get("intervalPeriod"), row.get("duration")]
        listed = row.get("intervals")
        if isinstance(listed, list):
            times += [one.get("intervalPeriod") for one in listed[:100] if isinstance(one, Mapping)]
        text = plain_id(json.dumps(times, sort_keys=True))
        known = self._seen.get(event_id)
        if known is not None and known.get("times") == text:
            with contextlib.suppress(KeyError, ValueError):
                return datetime.fromisoformat(known["at"])
        self._seen[event_id] = {"at": now.isoformat(), "times": text}
        return now

    def _refuse(self, event_id: str, row: Mapping[str, Any]) -> None:
        """Have a report say that this state of the event is not followed."""
        version = plain_id(str(row.get("modificationDateTime")))
        self._refusals[event_id] = refusal_json(event_id, str(row.get("programID")), self._signal, version)

    def _keep(self) -> None:
        self._file.write(
            {
                "known": self._book.to_json(),
                "events": self._raw,
                "programs": self._past_programs,
                "seen": self._seen,
                "promised": self._promises.to_json(),
            }
        )

    async def _report(self, events: Mapping[str, ReadEvent], followed: Followed, doubts: list[str]) -> None:
        try:
            for report in list(self._refusals.values()):
                await self._send(report, str(report["eventID"]))
            self._refusals.clear()
            for event in events.values():
                curtailed = bool(event.windows) and event.event_id not in (
                    {*followed.refused, *followed.withdrawn}
                )
                if not event.report_descriptors:
                    continue
                sent = await self._look_up(event.event_id)
                for due in list(due_reports(event, clock.now(), sent)):
                    report = await report_json(
                        due, event, self._signal, self._meter.mean, curtailed=curtailed
                    )
                    await self._send(report, event.event_id)
        except AnswerError as error:
            doubts.append(f"reports: {error}")

    async def _send(self, report: Mapping[str, Any], event_id: str) -> None:
        sent = await self._look_up(event_id)
        name = str(report["reportName"])
        if name not in sent:
            await self._client.report(report)
            sent.add(name)

    async def _look_up(self, event_id: str) -> set[str]:
        """Which reports on an event the VTN has, also those from before a restart."""
        if event_id in self._sent:
            return self._sent[event_id]
        rows = await self._client.everything("/reports", eventID=event_id, clientName=self._signal.ven_name)
        self._sent[event_id] = {str(row.get("reportName")) for row in rows}
        return self._sent[event_id]


def _older(row: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether a state of an event is from before the one that is known."""
    try:
        new, old = (datetime.fromisoformat(str(one["modificationDateTime"])) for one in (row, known))
        return new < old
    except (KeyError, TypeError, ValueError):
        return False
