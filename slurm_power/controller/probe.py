"""Build the drivers a configuration names, and see whether every device answers, without moving anything."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from slurm_power import clock
from slurm_power.config import SiteConfig
from slurm_power.devices import build_driver
from slurm_power.ports import DeviceError, PowerMeter, Storage

_PROBE_SECONDS = 3.0
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
) -> list[str]:
    """Open and read every device; return one problem, with its path, for each that fails.

    The ones that answer stay open, for whoever reads them next.
    """
    checks = [
        *(
            _probe_meter(f"device.{config.site.circuits[name].meter}", meter)
            for name, meter in meters.items()
        ),
        *(
            _probe_storage(f"device.{config.ess_devices[name]}", storage)
            for name, storage in storages.items()
        ),
    ]
    return [problem for problem in await asyncio.gather(*checks) if problem]


async def _probe_meter(path: str, meter: PowerMeter) -> str:
    async def look() -> None:
        await meter.open()
        await meter.read_watts()

    return await _tried(path, look, meter.close)


async def _probe_storage(path: str, storage: Storage) -> str:
    async def look() -> None:
        await storage.open()
        await storage.read()

    return await _tried(path, look, storage.close)


async def _tried(path: str, look: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]) -> str:
    """Try for a few seconds, since one lost answer says nothing; return the last problem, or nothing."""
    deadline_seconds = clock.monotonic() + _PROBE_SECONDS
    while True:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await look()
        except (DeviceError, TimeoutError) as error:
            problem = f"{path}: {str(error) or 'no answer'}"
        else:
            return ""
        await close()
        if clock.monotonic() > deadline_seconds:
            return problem
        await asyncio.sleep(_RETRY_SECONDS)


def fingerprint(config: SiteConfig) -> str:
    """What tells one configuration from another: the hash of its file."""
    return hashlib.sha256(config.file.read_bytes()).hexdigest()
