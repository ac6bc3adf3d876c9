"""What every power meter and every storage promises, whatever is behind it. Called by each driver's tests."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from slurm_power.model.reading import EssReading, Quality
from slurm_power.ports import DeviceError, PowerMeter, Storage


async def check_meter(meter: PowerMeter, truth_watts: Callable[[], float], tolerance_watts: float) -> None:
    """A reachable meter with a known load."""
    await meter.open()
    for _ in range(3):
        assert abs(await meter.read_watts() - truth_watts()) <= tolerance_watts
    readings = await asyncio.gather(*(meter.read_watts() for _ in range(5)))
    assert all(math.isfinite(watts) for watts in readings)
    await meter.close()
    await meter.close()
    assert abs(await meter.read_watts() - truth_watts()) <= tolerance_watts, "reads again after close"
    await meter.close()


async def check_unreachable(call: Callable[[], Awaitable[object]], name: str, within_seconds: float) -> None:
    """Whatever is wrong, it is a DeviceError that names the device, and in time."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(DeviceError, match=name):
        await call()
    assert asyncio.get_running_loop().time() - started < within_seconds


async def until(
    storage: Storage, condition: Callable[[EssReading], bool], seconds: float, what: str
) -> EssReading:
    """Poll a storage until ``condition`` holds."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        reading = await storage.read()
        if condition(reading):
            return reading
        assert asyncio.get_running_loop().time() < deadline, f"no {what} within {seconds:g} s: {reading}"
        await asyncio.sleep(0.02)


async def check_storage(storage: Storage, watts: float) -> None:
    """A storage that is in remote control and neither full nor empty, and can do ``watts`` both ways."""
    await storage.open()
    idle = await storage.read()
    assert idle.quality is Quality.GOOD
    assert idle.remote
    assert idle.alarms == ()
    assert 0 < idle.soc_ratio < 1
    assert 0 < idle.soh_ratio <= 1
    assert idle.energy_rating_kwh > 0
    assert min(idle.max_charge_watts, idle.max_discharge_watts) >= watts

    await storage.set_discharge(watts, 30)
    await until(storage, lambda now: abs(now.discharge_watts - watts) < 0.05 * watts, 6, "discharge")
    await storage.set_discharge(watts / 2, 30)
    await until(
        storage, lambda now: abs(now.discharge_watts - watts / 2) < 0.05 * watts, 6, "change in place"
    )
    await storage.set_discharge(-watts, 30)
    await until(storage, lambda now: abs(now.discharge_watts + watts) < 0.05 * watts, 8, "negative: charging")
    await storage.release()
    await until(storage, lambda now: abs(now.discharge_watts) < 0.02 * watts, 6, "rest after release")
    await storage.release()

    with pytest.raises(DeviceError):
        await storage.set_discharge(idle.max_discharge_watts * 2, 30)
    with pytest.raises(DeviceError):
        await storage.set_discharge(-idle.max_charge_watts * 2, 30)

    await storage.set_discharge(watts, 2)
    await storage.close()
    await asyncio.sleep(1)
    await until(storage, lambda now: abs(now.discharge_watts) < 0.02 * watts, 6, "end of an unrenewed lease")
    await storage.close()
