"""powerbridge's own loop: one task per signal, each begun anew when it ends, throws or hangs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path

from slurm_power import clock
from slurm_power.bridge.event_book import Ask
from slurm_power.bridge.signal_state import SignalState
from slurm_power.config import SiteConfig
from slurm_power.config.http_signals import HttpFeed, HttpLimitsSignal
from slurm_power.config.signals import OpenAdr2Signal, OpenAdr3Signal, Signal
from slurm_power.config.supply import FEEDS
from slurm_power.powerctld_line import LineError, ask
from slurm_power.tasks import end_all

Run = Callable[[], Awaitable[None]]
TELL_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_FIRST_BACKOFF_SECONDS, _MOST_BACKOFF_SECONDS = 1.0, 60.0
# Who has run for so long has recovered from what broke it before.
_WELL_SECONDS = 300.0
_ALERTS = "slurm_power.bridge.alerts"

log = logging.getLogger(__name__)


def bridge_folder(config: SiteConfig) -> Path:
    """Where powerbridge keeps what must survive a restart."""
    return config.controller.state_directory / "bridge"


def feeds_folder(config: SiteConfig) -> Path:
    """Where prices and carbon intensities of signals are put for the files of ``[supply]``."""
    return config.controller.state_directory / FEEDS


def ask_of(config: SiteConfig) -> Ask:
    """The way to powerctld."""
    return partial(ask, config.controller.socket)


class Bridge:
    """All that powerbridge does for one site. ``more``: tasks by name, beside those of the signals."""

    def __init__(self, config: SiteConfig, ask: Ask, more: Mapping[str, Run] | None = None) -> None:
        self._ask = ask
        self.states: dict[str, SignalState] = {}
        self._runs: dict[str, Run] = dict(_alerts(config, ask) if more is None else more)
        for name, signal in config.signals.items():
            patience_seconds = signal.poll_seconds + signal.timeout_seconds
            state = SignalState(name, signal.kind.value, patience_seconds=patience_seconds)
            self.states[name] = state
            self._runs[f"signal:{name}"] = _run_of(signal, config, ask, state)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set."""
        tasks = [asyncio.create_task(self._keep(name, run)) for name, run in self._runs.items()]
        if self.states:
            tasks.append(asyncio.create_task(self._tell()))
        try:
            await stop.wait()
        finally:
            await end_all(tasks)

    async def _keep(self, name: str, run: Run) -> None:
        """Run a task for ever; what goes wrong there is its own affair."""
        backoff_seconds = _FIRST_BACKOFF_SECONDS
        state = self.states.get(name.removeprefix("signal:"))
        while True:
            began_seconds = clock.monotonic()
            if state is not None:
                state.beat()
            why = await self._one(run, state)
            log.error("%s: %s", name, why)
            if state is not None:
                state.failed(why)
            if clock.monotonic() - began_seconds > _WELL_SECONDS:
                backoff_seconds = _FIRST_BACKOFF_SECONDS
            await asyncio.sleep(backoff_seconds)
            backoff_seconds = min(2.0 * backoff_seconds, _MOST_BACKOFF_SECONDS)

    @staticmethod
    async def _one(run: Run, state: SignalState | None) -> str:
        """Run it until it ends; returns why it has."""
        task = asyncio.ensure_future(run())
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK_SECONDS)
                if state is not None and clock.monotonic() - state.beat_seconds > state.hang_seconds:
                    return f"it hung for {state.hang_seconds:.0f} s and is begun anew"
        finally:
            if not task.done():
                await end_all([task])
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a task has failed", exc_info=error)
            return f"{type(error).__name__}: {error}"
        return "it ended by itself"

    async def _tell(self) -> None:
        """Tell powerctld where the signals stand; soon when something has changed."""
        last: list[object] = []
        told_seconds = -TELL_SECONDS
        said = ""
        while True:
            rows = [state.row() for state in self.states.values()]
            words: list[object] = [(row["name"], row["state"], row["reason"]) for row in rows]
            if words != last or clock.monotonic() - told_seconds >= TELL_SECONDS:
                try:
                    await self._ask({"op": "signals", "signals": rows})
                    last, told_seconds, said = words, clock.monotonic(), ""
                except LineError as error:
                    if str(error) != said:
                        said = str(error)
                        log.warning("%s; trying again", said)
            await asyncio.sleep(_LOOK_SECONDS)


def _alerts(config: SiteConfig, ask: Ask) -> Mapping[str, Run]:
    """The task of the alerts, where this installation has it."""
    try:
        module = import_module(_ALERTS)
    except ModuleNotFoundError as error:
        if error.name != _ALERTS:
            raise
        return {}
    return {"alerts": partial(module.run_alerts, config, ask)}


def _run_of(signal: Signal, config: SiteConfig, ask: Ask, state: SignalState) -> Run:
    """The task of a signal; the library of its protocol is loaded when it begins."""
    folder, site = bridge_folder(config), config.controller.state_directory

    async def run() -> None:
        if isinstance(signal, HttpFeed) and not isinstance(signal, HttpLimitsSignal):
            from slurm_power.bridge.http_feed import run_http_feed  # noqa: PLC0415  # loads httpx

            await run_http_feed(signal, state, folder=folder, feeds=feeds_folder(config))
            return
        circuit = config.site.circuits[signal.circuit] if signal.circuit else config.site.root
        if isinstance(signal, HttpLimitsSignal):
            from slurm_power.bridge.http_limits import run_http_limits  # noqa: PLC0415  # loads httpx

            await run_http_limits(signal, circuit, ask, state, folder=folder)
        elif isinstance(signal, OpenAdr2Signal):
            from slurm_power.bridge.openadr2 import run_openadr2  # noqa: PLC0415  # loads openleadr

            await run_openadr2(signal, circuit, ask, state, folder=folder, series=site)
        elif isinstance(signal, OpenAdr3Signal):
            from slurm_power.bridge.openadr3 import run_openadr3  # noqa: PLC0415  # loads httpx

            feeds = feeds_folder(config)
            await run_openadr3(signal, circuit, ask, state, folder=folder, series=site, feeds=feeds)

    return run
