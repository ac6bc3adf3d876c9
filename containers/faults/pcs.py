"""Fault trials of the PCS driver: the plant's battery behind real Modbus, many at once in one event loop.

Whatever breaks, the driver never tells a value that was not so, and the battery rests when nobody commands.
"""

import asyncio
import random
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from containers.faults.outcome import Outcome
from containers.plant.__main__ import PLANT_FILE
from containers.plant.pcs import PcsFront
from slurm_power.config.devices import SunspecPcs
from slurm_power.devices.pcs_sunspec import SunspecPcsDriver
from slurm_power.model.reading import Quality
from slurm_power.ports import DeviceError
from slurm_power.simulate.constants import load_constants
from slurm_power.simulate.pcs import Pcs

KINDS = {
    "PCS hangs up": ("disconnect", 0.0),
    "PCS answers nothing": ("hang", 0.0),
    "PCS answers late": ("late", 0.7),
    "PCS goes LOCAL": ("local", 0.0),
    "PCS alarm": ("alarm", 0.0),
    "PCS NaN": ("nan", 0.0),
}
STEP_SECONDS = 0.25
PORT_ATTEMPTS = 5
TOLERANCE_WATTS = 150.0
MOST_SECONDS = 12.0
# An answer shows the battery as it was at some moment of the request.
MEMORY_SECONDS = 2.0


class _Watch:
    """The battery's true power over the last seconds."""

    def __init__(self, front: PcsFront) -> None:
        self._front = front
        self._seen: deque[tuple[float, float]] = deque()

    def look(self) -> float:
        """Bring the physics to now; returns the discharge in watts."""
        self._front.advance()
        now, watts = time.monotonic(), self._front.pcs.discharge_watts
        self._seen.append((now, watts))
        while self._seen[0][0] < now - MEMORY_SECONDS:
            self._seen.popleft()
        return watts

    def has_been(self, watts: float) -> bool:
        """Whether the battery was at this power within memory."""
        values = [value for _, value in self._seen]
        return min(values) - TOLERANCE_WATTS <= watts <= max(values) + TOLERANCE_WATTS


async def run_trial(kind: str, seed: int) -> Outcome:
    """Command, break, go on commanding, then fall silent for good."""
    chance = random.Random(f"pcs {kind} {seed}")  # noqa: S311  # trials have to be repeatable
    problems: list[str] = []
    log: list[str] = []
    front = await _started(lambda error: problems.append(f"the plant broke: {error}"))
    try:
        safe_seconds = await _play(kind, chance, front, problems, log)
    finally:
        await front.stop()
    return Outcome(kind=kind, seed=seed, problems=tuple(problems), safe_seconds=safe_seconds, log=tuple(log))


async def _started(crash: Callable[[BaseException], None]) -> PcsFront:
    """An inverter that listens; a port that was free may be somebody else's a moment later."""
    constants = load_constants(PLANT_FILE)
    for attempts_left in reversed(range(PORT_ATTEMPTS)):
        pcs = Pcs(constants.pcs, time.monotonic())
        front = PcsFront(pcs, constants.site, host="127.0.0.1", port=_free_port())
        try:
            await front.start(crash)
        except RuntimeError:
            if not attempts_left:
                raise
        else:
            return front
    raise AssertionError


async def _play(
    kind: str, chance: random.Random, front: PcsFront, problems: list[str], log: list[str]
) -> float:
    host, port = front.address
    driver = SunspecPcsDriver(SunspecPcs(name="trial", address=f"{host}:{port}", timeout_seconds=0.4))
    watch = _Watch(front)
    lease_seconds = chance.choice([1.0, 2.0, 3.0])
    wanted_watts = chance.choice([-3000.0, 1500.0, 4000.0])
    fault_at, fault_until = chance.uniform(0.5, 1.5), chance.uniform(1.7, 4.0)
    began = time.monotonic()
    await driver.open()
    fault, value = KINDS[kind]
    on = False
    while (spent := time.monotonic() - began) < fault_until:
        if not on and spent >= fault_at:
            front.set_fault(fault, value, None)
            on = True
        await _step(driver, watch, wanted_watts, lease_seconds, problems=problems, log=log)
        await asyncio.sleep(STEP_SECONDS)
    if chance.random() < 0.5:
        front.clear_faults()
    await driver.close()
    silent = time.monotonic()
    # Nobody commands any more, whether the fault lasts or not.
    while abs(watch.look()) > TOLERANCE_WATTS / 3 and time.monotonic() - silent < MOST_SECONDS:  # noqa: ASYNC110
        await asyncio.sleep(0.05)  # physics has no event to wait for
    took_seconds = time.monotonic() - silent
    if took_seconds >= MOST_SECONDS:
        problems.append(f"the battery still gives {watch.look():.0f} W")
    return took_seconds


async def _step(
    driver: SunspecPcsDriver,
    watch: _Watch,
    wanted_watts: float,
    lease_seconds: float,
    *,
    problems: list[str],
    log: list[str],
) -> None:
    """One command and one reading, as the controller does them; errors are what they are for."""
    watch.look()
    with suppress(DeviceError):
        await driver.set_discharge(wanted_watts, lease_seconds)
    watch.look()
    try:
        reading = await driver.read()
    except DeviceError as error:
        log.append(str(error))
        return
    watch.look()
    if reading.quality is Quality.INVALID:
        return
    if not watch.has_been(reading.discharge_watts):
        problems.append(f"told {reading.discharge_watts:.0f} W, which it never was")
    if not 0.0 <= reading.soc_ratio <= 1.0 or not 0.0 < reading.soh_ratio <= 1.0:
        problems.append(f"told a charge of {reading.soc_ratio} and a health of {reading.soh_ratio}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
