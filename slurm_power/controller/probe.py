"""Build the drivers a configuration names, and see whether every device answers, without moving anything."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import cast

from slurm_power import clock
from slurm_power.config import SiteConfig
from slurm_power.config.devices import map_text
from slurm_power.devices import build_driver
from slurm_power.ports import DeviceError, PowerMeter, Storage

_PROBE_SECONDS = 5.0
_RETRY_SECONDS = 0.3


def build_drivers(config: SiteConfig) -> tuple[dict[str, PowerMeter], dict[str, Storage]]:
    """Unopened drivers: meters by circuit, storages by ESS; load_site has checked which is which."""
    meters = {
        circuit.name: cast("PowerMeter", build_driver(config.devices[circuit.meter]))
        for circuit in config.site.circuits.values()
        if circuit.meter is not None
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
    config: SiteConfig, meters: Mapping[str, PowerMeter], storages: Mapping[str, Storage]
) -> dict[str, str]:
    """Open and read every device; return what is wrong with each that fails, by its name.

    The ones that answer stay open, for whoever reads them next.
    """
    checks = {str(config.site.circuits[name].meter): _probe_meter(meter) for name, meter in meters.items()}
    checks |= {config.ess_devices[name]: _probe_storage(storage) for name, storage in storages.items()}
    found = await asyncio.gather(*checks.values())
    return {name: problem for name, problem in zip(checks, found, strict=True) if problem}


async def _probe_meter(meter: PowerMeter) -> str:
    async def look() -> None:
        await meter.open()
        await meter.read_watts()

    return await _tried(look, meter.close)


async def _probe_storage(storage: Storage) -> str:
    async def look() -> None:
        await storage.open()
        await storage.read()

    return await _tried(look, storage.close)


async def _tried(look: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]) -> str:
    """Try for a few seconds, since one lost answer says nothing; return the last problem, or nothing."""
    deadline_seconds = clock.monotonic() + _PROBE_SECONDS
    while True:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
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
    """What tells one configuration of a device from another: the hash of its table and map, by its name."""
    return {
        name: hashlib.sha256(
            (json.dumps(asdict(device), default=str, sort_keys=True) + map_text(device)).encode()
        ).hexdigest()
        for name, device in config.devices.items()
    }
