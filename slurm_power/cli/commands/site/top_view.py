"""What ``slurm-power top`` shows, gathered from powerctld: for operators all of it, for users theirs."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from slurm_power import clock
from slurm_power.cli.commands.connection import Answer, Refusal, ask, printable

_FORECAST_SECONDS = 10.0
_SOURCES_SECONDS = 5.0
_LEDGER_BACK_SECONDS = 600.0
_MOST_ENTRIES = 50
_MOST_PAGES = 20
_MOST_JOBS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One picture. ``answer`` as it came; ``problem``: why it is not a new one; ``age_seconds`` of it."""

    answer: Answer | None = None
    forecast: Answer | None = None
    entries: tuple[Answer, ...] = ()
    problem: str = ""
    age_seconds: float = 0.0


@dataclass(slots=True)
class Gatherer:
    """Asks powerctld; what changes slowly it asks less often. Whoever is no operator gets their own jobs."""

    socket_path: Path | None
    _operator: bool = True
    _after: int = 0
    _entries: list[Answer] = field(default_factory=list)
    _forecast: Answer | None = None
    _bad: list[Answer] = field(default_factory=list)
    _next_forecast_seconds: float = float("-inf")
    _next_sources_seconds: float = float("-inf")

    def gather(self) -> View:
        """One picture; raises click.ClickException where powerctld does not answer."""
        answer = self._live() if self._operator else self._status()
        now = clock.monotonic()
        if now >= self._next_forecast_seconds:
            self._next_forecast_seconds = now + _FORECAST_SECONDS
            try:
                self._forecast = ask({"op": "forecast", "circuit": None}, self.socket_path)
            except Refusal:
                self._forecast = None
        self._read_ledger()
        return View(answer=answer, forecast=self._forecast, entries=tuple(self._entries))

    def _live(self) -> Answer:
        try:
            return ask({"op": "live", "most_jobs": _MOST_JOBS}, self.socket_path)
        except Refusal:
            # No operator: the same from what everybody may ask.
            self._operator = False
            return self._status()

    def _status(self) -> Answer:
        answer = ask({"op": "status"}, self.socket_path)
        now = clock.monotonic()
        if now >= self._next_sources_seconds:
            self._next_sources_seconds = now + _SOURCES_SECONDS
            rows = ask({"op": "sources"}, self.socket_path)["sources"]
            self._bad = [row for row in rows if row["quality"] != "good"]
        return {**answer, "sources": {"bad": self._bad}, "alerts": []}

    def _read_ledger(self) -> None:
        for _ in range(_MOST_PAGES):
            request: dict[str, Any] = {"op": "ledger", "after_sequence": self._after}
            if not self._after:
                request["since_seconds"] = _LEDGER_BACK_SECONDS
            answer = ask(request, self.socket_path)
            entries = answer["entries"]
            self._entries = [*self._entries, *entries][-_MOST_ENTRIES:]
            if entries:
                self._after = entries[-1]["sequence"]
            if not answer.get("more") or not entries:
                return


class Feed:
    """Gathers pictures in a thread of its own, so that keys are heard while powerctld does not answer."""

    def __init__(self, gatherer: Gatherer, *, every_seconds: float) -> None:
        self._gatherer = gatherer
        self._every_seconds = every_seconds
        self._latest = View(problem="asking powerctld")
        self._at_seconds = clock.monotonic()
        self._turn = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top feed", daemon=True)

    def start(self) -> None:
        """Begin to gather."""
        self._thread.start()

    def stop(self) -> None:
        """Gather no more; a question that is on its way is not waited for."""
        self._end.set()

    def latest(self) -> tuple[int, View]:
        """The last picture and its number; with a problem the one before, and how old it is."""
        view, age = self._latest, clock.monotonic() - self._at_seconds
        return self._turn, View(
            answer=view.answer,
            forecast=view.forecast,
            entries=view.entries,
            problem=view.problem,
            age_seconds=age,
        )

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                view = self._gatherer.gather()
                self._latest, self._at_seconds = view, clock.monotonic()
            except click.ClickException as error:
                self._spoil(error.message)
            except Exception as error:  # noqa: BLE001  # an answer of another version: shown, and asked again
                self._spoil(f"powerctld's answer is not understood: {type(error).__name__}: {error}")
            self._turn += 1
            self._end.wait(self._every_seconds)

    def _spoil(self, problem: str) -> None:
        old = self._latest
        text: str = printable(problem)
        self._latest = View(answer=old.answer, forecast=old.forecast, entries=old.entries, problem=text)
