"""Build the drivers a configuration names, and see whether every device answers, without moving anything."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict
from typing import cast

from slurm_power import clock
from slurm_power.config import SiteConfig, SnmpPdu
from slurm_power.config.devices import map_text
from slurm_power.devices import build_driver
from slurm_power.devices.pdu_feed import FedPdu, PduFeed
from slurm_power.ports import DeviceError, PowerMeter, Storage

# An answer by SNMP costs 3 ms: more PDUs than this are read by a process of their own.
MOST_PDUS_HERE = 16
_PROBE_SECONDS = 5.0
_RETRY_SECONDS = 0.3
_ROOT_METER_SECONDS = 0.25
_METER_SECONDS = 1.0


def build_drivers(config: SiteConfig) -> tuple[dict[str, PowerMeter], dict[str, Storage]]:
    """Unopened drivers: meters by circuit, storages by ESS; load_site has checked which is which."""
    metered = {
        circuit.name: config.devices[circuit.meter]
        for circuit in config.site.circuits.values()
        if circuit.meter is not None
    }
    pdus = [device for device in metered.values() if isinstance(device, SnmpPdu)]
    feed = PduFeed(pdus) if len(pdus) > MOST_PDUS_HERE else None
    meters = {
        circuit: feed.meter(device.name)
        if feed is not None and isinstance(device, SnmpPdu)
        else cast("PowerMeter", build_driver(device))
        for circuit, device in metered.items()
    }
    storages = {
        name: cast("Storage", build_driver(config.devices[device]))
        for name, device in config.ess_devices.items()
    }
    return meters, storages


async def close_drivers(meters: Mapping[str, PowerMeter], storages: Mapping[str, Storage]) -> None:
    """Let go of every device."""
    for meter in meters.values():
        await meter.close()
    for storage in storages.values():
        await storage.close()


async def probe(
    config: SiteConfig,
    meters: Mapping[str, PowerMeter],
    storages: Mapping[str, Storage],
    *,
    only: Collection[str] | None = None,
    seconds: float = _PROBE_SECONDS,
) -> dict[str, str]:
    """Open and read every device, or ``only`` some; return what is wrong with each that fails, by its name.

    Each is tried for so many seconds. The ones that answer stay open, for whoever reads them next.
    """
    named = {str(config.site.circuits[name].meter): meter for name, meter in meters.items()}
    stored = {config.ess_devices[name]: storage for name, storage in storages.items()}
    wanted = {*named, *stored} if only is None else set(only)
    checks = {name: _probe_meter(meter, seconds) for name, meter in named.items() if name in wanted}
    checks |= {name: _probe_storage(storage, seconds) for name, storage in stored.items() if name in wanted}
    found = await asyncio.gather(*checks.values())
    return {name: problem for name, problem in zip(checks, found, strict=True) if problem}


def beat_seconds(config: SiteConfig, circuit: str, meter: PowerMeter) -> float:
    """How long to wait between two readings of a circuit's meter."""
    if isinstance(meter, FedPdu):
        return 0.0  # its readings come when they are due
    device = config.devices[str(config.site.circuits[circuit].meter)]
    if isinstance(device, SnmpPdu):
        return device.poll_seconds
    return _ROOT_METER_SECONDS if circuit == config.site.root.name else _METER_SECONDS


async def _probe_meter(meter: PowerMeter, seconds: float) -> str:
    async def look() -> None:
        await meter.open()
        await meter.read_watts()

    if isinstance(meter, FedPdu):
        seconds = max(seconds, meter.first_round_seconds)
    return await _tried(look, meter.close, seconds)


async def _probe_storage(storage: Storage, seconds: float) -> str:
    async def look() -> None:
        await storage.open()
        await storage.read()

    return await _tried(look, storage.close, seconds)


async def _tried(
    look: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]], seconds: float
) -> str:
    """Try for a few seconds, since one lost answer says nothing; return the last problem, or nothing."""
    deadline_seconds = clock.monotonic() + seconds
    while True:
        try:
            async with asyncio.timeout(seconds):
                await look()
        except (DeviceError, TimeoutError) as error:
            problem = str(error) or "no answer"
        else:
            return ""
        await close()
        if clock.monotonic() > deadline_seconds:
            return problem
        await asyncio.sleep(_RETRY_SECONDS)


def fingerprints(config: SiteConfig) -> dict[str, str]:
    """What tells one configuration of a device from another: the hash of its table and map, by its name.

    Which temperature is read says nothing of how the device is commanded, so it may change.
    """
    tables = {name: asdict(device) for name, device in config.devices.items()}
    for table in tables.values():
        table.pop("temperature_point", None)
    return {
        name: hashlib.sha256(
            (json.dumps(tables[name], default=str, sort_keys=True) + map_text(device)).encode()
        ).hexdigest()
        for name, device in config.devices.items()
    }
