"""One task per source: read it on its beat, hand the value on, survive its failures and say so once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

from slurm_power import clock
from slurm_power.config import SiteConfig
from slurm_power.controller.sensing.probe import beat_seconds
from slurm_power.ports import DeviceError, PowerMeter, Scheduler, SchedulerError, Storage
from slurm_power.telemetry import SiteTelemetry

log = logging.getLogger(__name__)

# A failed device is asked again after this long, doubling up to the most.
_FIRST_RETRY_SECONDS = 0.5
_MOST_RETRY_SECONDS = 5.0
_STORAGE_SECONDS = 0.5
# Anybody may send hints; between two lists there is at least this much time.
_LEAST_LIST_SECONDS = 1.0
# Nodes join a pool, leave it or go down at the pace of administrators.
_POOLS_SECONDS = 30.0
# Hints come in bursts (one per node of a job), and Slurm itself needs a moment.
_HINT_SETTLE_SECONDS = 0.3

FaultNote = Callable[[str, str], None]


class _Opened(Protocol):
    async def open(self) -> None: ...


async def _poll(
    name: str, device: _Opened, read: Callable[[], Awaitable[None]], seconds: float, on_fault: FaultNote
) -> None:
    """Open and read for ever; ``on_fault(name, text)`` tells when trouble begins, with "" when it ends."""
    retry_seconds, faulty = _FIRST_RETRY_SECONDS, False
    while True:
        try:
            if faulty:
                await device.open()
            await read()
        except Exception as error:  # noqa: BLE001  # a driver's own fault must not end the control of the rest
            if not faulty:
                on_fault(name, _said(error))
            faulty = True
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(2 * retry_seconds, _MOST_RETRY_SECONDS)
            continue
        if faulty:
            on_fault(name, "")
        faulty, retry_seconds = False, _FIRST_RETRY_SECONDS
        await asyncio.sleep(seconds)


def _said(error: Exception) -> str:
    if isinstance(error, DeviceError):
        return str(error)
    log.error("a driver failed in a way it should not", exc_info=error)
    return f"{type(error).__name__}: {error}"


def every_poller(
    config: SiteConfig,
    telemetry: SiteTelemetry,
    *,
    meters: Mapping[str, PowerMeter],
    storages: Mapping[str, Storage],
    scheduler: Scheduler,
    look: asyncio.Event,
    wake: Callable[[], None],
    on_fault: FaultNote,
) -> list[Coroutine[Any, Any, None]]:
    """A task for each source of a site; ``look`` asks for jobs, ``wake`` is called for what cannot wait."""
    root = config.site.root.name
    steps: list[Coroutine[Any, Any, None]] = [
        poll_meter(
            circuit,
            meter,
            telemetry,
            seconds=beat_seconds(config, circuit, meter),
            on_fault=on_fault,
            on_change=wake if circuit == root else None,
        )
        for circuit, meter in meters.items()
    ]
    steps += [
        poll_storage(
            name,
            storage,
            telemetry,
            seconds=_STORAGE_SECONDS,
            max_age_seconds=config.devices[config.ess_devices[name]].max_age_seconds,
            on_fault=on_fault,
        )
        for name, storage in storages.items()
    ]
    steps.append(
        poll_scheduler(
            scheduler,
            telemetry,
            look,
            seconds=config.controller.slurm_poll_seconds,
            on_fault=on_fault,
            on_read=wake,
        )
    )
    return steps


async def poll_meter(
    circuit: str,
    meter: PowerMeter,
    telemetry: SiteTelemetry,
    *,
    seconds: float,
    on_fault: FaultNote,
    on_change: Callable[[], None] | None = None,
) -> None:
    """Read a circuit's meter every ``seconds``; ``on_change`` wakes the planner when the value moved."""
    last_watts: float | None = None

    async def read() -> None:
        nonlocal last_watts
        try:
            watts = await meter.read_watts()
        except Exception as error:
            telemetry.meter_failed(circuit, _said(error), clock.monotonic())
            raise
        telemetry.meter_read(circuit, watts, clock.monotonic())
        if on_change is not None and watts != last_watts:
            on_change()
        last_watts = watts

    await _poll(f"circuit:{circuit}", meter, read, seconds, on_fault)


async def poll_storage(
    name: str,
    storage: Storage,
    telemetry: SiteTelemetry,
    *,
    seconds: float,
    max_age_seconds: float,
    on_fault: FaultNote,
) -> None:
    """Read a battery's state every ``seconds``."""

    async def read() -> None:
        telemetry.ess_read(name, await storage.read(), clock.monotonic(), max_age_seconds)

    await _poll(f"ess:{name}", storage, read, seconds, on_fault)


async def poll_scheduler(
    scheduler: Scheduler,
    telemetry: SiteTelemetry,
    hint: asyncio.Event,
    *,
    seconds: float,
    on_fault: FaultNote,
    on_read: Callable[[], None],
) -> None:
    """List the jobs every ``seconds``, and soon after each hint of a change; the pools now and then."""
    faulty, pools_seconds = False, float("-inf")
    while True:
        hint.clear()
        began_seconds = clock.monotonic()
        try:
            telemetry.jobs_listed(await scheduler.jobs(), clock.monotonic())
        except SchedulerError as error:
            if not faulty:
                on_fault("scheduler", str(error))
            faulty = True
        else:
            if faulty:
                on_fault("scheduler", "")
            faulty = False
            on_read()
            if began_seconds - pools_seconds >= _POOLS_SECONDS:
                pools_seconds = began_seconds
                await _list_pools(scheduler, telemetry)
        try:
            async with asyncio.timeout(seconds):
                await hint.wait()
            rest_seconds = began_seconds + _LEAST_LIST_SECONDS - clock.monotonic()
            await asyncio.sleep(max(_HINT_SETTLE_SECONDS, rest_seconds))
        except TimeoutError:
            continue


async def _list_pools(scheduler: Scheduler, telemetry: SiteTelemetry) -> None:
    """Take the pools; without them no job is sent elsewhere, and all else goes on."""
    try:
        telemetry.pools_listed(await scheduler.pools())
    except SchedulerError as error:
        log.warning("the pools are not known: %s", error)
