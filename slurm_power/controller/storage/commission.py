"""Prove a battery inverter before it is trusted: sign, response, ramp, and that it lets go in our silence.

It moves real power, so it moves little of it, for a short time, inside bounds that are looked at all the
while; whatever goes wrong, the last thing it does is to ask for 0 W and to see 0 W.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from slurm_power import clock
from slurm_power.model.reading import EssReading, Quality
from slurm_power.model.watch import Expectation, Watch
from slurm_power.ports import DeviceError, PowerMeter, Storage

SHARE_OF_RATING = 0.05
STEP_SECONDS = 60.0
LOWEST_SOC_RATIO, HIGHEST_SOC_RATIO = 0.30, 0.70
# A setpoint that is commanded, and the one that is left to run out.
LEASE_SECONDS = 30.0
SILENT_LEASE_SECONDS = 5.0
POLL_SECONDS = 0.2
RENEW_SECONDS = 5.0
# Movement has begun at this share of the step, and is over at that one.
BEGUN_RATIO, DONE_RATIO, REST_RATIO = 0.1, 0.9, 0.15
# Measured power above this many steps is a setpoint that is understood in another unit.
MOST_RATIO = 1.5
# One look can meet a battery that only passes through 0 W.
REST_LOOKS = 3
# What a meter of an unknown connection may read; only what is no number is refused.
ANY_METER = Expectation(rating_watts=math.inf, lowest_watts=-math.inf, max_age_seconds=5.0)
# How much later than its lease a setpoint may end: the device's own clock, its ramp, and our looks.
LATE_SECONDS = 5.0
REST_SECONDS = 30.0


class CommissionError(Exception):
    """It was not begun, or was given up; the text says why. The battery is at rest unless that says not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found. ``revert_seconds`` counts from the last write to rest, None: it did not end;
    ``expected_seconds`` is when it was to end.
    """

    step_watts: float
    charge_reads_negative: bool
    response_seconds: float
    ramp_watts_per_second: float
    revert_seconds: float | None
    expected_seconds: float

    def problems(self) -> list[str]:
        """Why it is not to be trusted; empty for one that is."""
        found = []
        if not self.charge_reads_negative:
            found.append("a charge does not read as negative: the sign is reversed somewhere")
        if self.revert_seconds is None:
            found.append("the setpoint did not end when we fell silent: it outlives its controller")
        elif self.revert_seconds > self.expected_seconds + LATE_SECONDS:
            late = f"{self.revert_seconds:.1f} s instead of {self.expected_seconds:.0f} s"
            found.append(f"the setpoint ended too late when we fell silent: after {late}")
        elif self.revert_seconds < 0.5 * self.expected_seconds:
            early = f"{self.revert_seconds:.1f} s instead of {self.expected_seconds:.0f} s"
            found.append(
                f"the setpoint ended too early: after {early}; a controller that hangs keeps its connection,"
                " so the device's own timer has to end it"
            )
        return found


class Commissioning:
    """One run. ``say`` gets a line for each step; ``watch`` judges ``meter``, that of the grid connection."""

    def __init__(
        self, storage: Storage, meter: PowerMeter, say: Callable[[str], None], watch: Watch | None = None
    ) -> None:
        self._storage = storage
        self._meter = meter
        self._say = say
        self._watch = watch or Watch("grid meter", ANY_METER)
        self._step_watts = 0.0

    async def look(self) -> tuple[EssReading, float]:
        """What the battery is, and the power of a step; raises CommissionError when it must not be begun."""
        reading = await self._storage.read()
        self._step_watts = SHARE_OF_RATING * min(reading.max_charge_watts, reading.max_discharge_watts)
        if self._step_watts <= 0.0:
            raise CommissionError("the battery says that it can neither charge nor discharge")
        await self._check(reading)
        if abs(reading.discharge_watts) > REST_RATIO * self._step_watts:
            raise CommissionError(f"somebody commands it: it gives {reading.discharge_watts:.0f} W")
        return reading, self._step_watts

    async def run(self) -> Findings:
        """Do it; raises CommissionError, DeviceError. Whatever happens, 0 W is asked for at the end.

        A battery that must not be begun with is not touched: its setpoint may be somebody else's.
        """
        _, watts = await self.look()
        try:
            return await self._steps(watts)
        finally:
            await self._rest_whatever_happens()

    async def _rest_whatever_happens(self) -> None:
        """Bring it to rest however often we are cancelled; raises CancelledError only after that."""
        rest = asyncio.ensure_future(self._rest())
        interrupted = False
        while not rest.done():
            try:
                await asyncio.wait({rest})
            except asyncio.CancelledError:
                interrupted = True
        rest.result()
        if interrupted:
            raise asyncio.CancelledError

    def silence_seconds(self) -> tuple[float, float]:
        """When a setpoint is to end in our silence, and how long that is watched; raises DeviceError."""
        expected_seconds = self._storage.reversion_seconds(SILENT_LEASE_SECONDS)
        # A device that has a time of its own may need longer than a step.
        return expected_seconds, max(STEP_SECONDS, 2 * expected_seconds)

    async def _steps(self, watts: float) -> Findings:
        expected_seconds, _ = self.silence_seconds()
        self._say(f"charging with {watts:.0f} W")
        begun_seconds, ramp = await self._go_to(-watts)
        if begun_seconds is None:
            self._say("it discharges instead: the sign is reversed")
            return Findings(
                step_watts=watts,
                charge_reads_negative=False,
                response_seconds=0.0,
                ramp_watts_per_second=0.0,
                revert_seconds=None,
                expected_seconds=expected_seconds,
            )
        self._say(f"discharging with {watts:.0f} W")
        back_seconds, back_ramp = await self._go_to(watts)
        if back_seconds is None:
            raise CommissionError("told to discharge, it charged more")
        self._say(f"falling silent: a setpoint of {expected_seconds:.0f} s is left to run out")
        revert_seconds = await self._fall_silent(watts)
        return Findings(
            step_watts=watts,
            charge_reads_negative=True,
            response_seconds=max(begun_seconds, back_seconds),
            ramp_watts_per_second=min(ramp, back_ramp),
            revert_seconds=revert_seconds,
            expected_seconds=expected_seconds,
        )

    async def _go_to(self, target_watts: float) -> tuple[float | None, float]:
        """Command a step and watch it: seconds until it begins, and its ramp. None: it went the other way."""
        start_watts = (await self._looked()).discharge_watts
        step = target_watts - start_watts
        await self._storage.set_discharge(target_watts, LEASE_SECONDS)
        began = renewed = clock.monotonic()
        begun_at: float | None = None
        while clock.monotonic() - began < STEP_SECONDS:
            await asyncio.sleep(POLL_SECONDS)
            now = clock.monotonic()
            moved_ratio = ((await self._looked()).discharge_watts - start_watts) / step
            if moved_ratio < -0.5:
                return None, 0.0
            if begun_at is None and moved_ratio >= BEGUN_RATIO:
                begun_at = now
            if moved_ratio >= DONE_RATIO:
                begun_at = begun_at or now
                # Faster than we look is as fast as one look.
                return begun_at - began, abs(step) / max(now - begun_at, POLL_SECONDS)
            if now - renewed >= RENEW_SECONDS:
                renewed = now
                await self._storage.set_discharge(target_watts, LEASE_SECONDS)
        raise CommissionError(f"it did not reach {target_watts:.0f} W within {STEP_SECONDS:.0f} s")

    async def _fall_silent(self, watts: float) -> float | None:
        """Give a short lease, hang up, and only look from then on: no write and no heartbeat."""
        await self._storage.set_discharge(watts, SILENT_LEASE_SECONDS)
        began = clock.monotonic()
        await self._storage.close()
        await self._storage.open()
        _, most_seconds = self.silence_seconds()
        while clock.monotonic() - began < most_seconds:
            await asyncio.sleep(POLL_SECONDS)
            if abs((await self._looked()).discharge_watts) <= REST_RATIO * watts:
                return clock.monotonic() - began
        return None

    async def _looked(self) -> EssReading:
        reading = await self._storage.read()
        await self._check(reading)
        most_watts = MOST_RATIO * self._step_watts
        if abs(reading.discharge_watts) > most_watts:
            raise CommissionError(
                f"it gives {reading.discharge_watts:.0f} W, more than it was told ({self._step_watts:.0f} W):"
                " is its setpoint in another unit?"
            )
        return reading

    async def _check(self, reading: EssReading) -> None:
        """Raise CommissionError when it must not go on."""
        if reading.quality is Quality.INVALID:
            raise CommissionError("its readings are of no use")
        if not reading.remote:
            raise CommissionError("it is operated locally (LOCAL): it must be in REMOTE")
        if reading.alarms:
            raise CommissionError(f"it has alarms: {', '.join(reading.alarms)}")
        if not LOWEST_SOC_RATIO <= reading.soc_ratio <= HIGHEST_SOC_RATIO:
            raise CommissionError(f"its charge is {reading.soc_ratio:.0%}; it must be between 30 and 70 %")
        import_watts = await self._import_watts(reading.discharge_watts)
        # What the site uses without the battery has to take the discharge that comes, also before it comes.
        used_watts = import_watts + reading.discharge_watts
        if import_watts < 0.0 or used_watts < self._step_watts:
            raise CommissionError(
                f"the site uses {used_watts:.0f} W only: {self._step_watts:.0f} W would be exported"
            )

    async def _import_watts(self, discharge_watts: float) -> float:
        """Read the grid meter; raises CommissionError when powerctld would not call it good."""
        watts = await self._meter.read_watts()
        now = clock.monotonic()
        self._watch.take(watts, now)
        self._watch.saw_below(-discharge_watts, now)
        graded = self._watch.graded(now)
        if graded.quality is not Quality.GOOD:
            raise CommissionError(f"the grid meter cannot be trusted: {graded.reason}")
        return watts

    async def _rest(self) -> None:
        """Ask for 0 W and see 0 W; raises CommissionError if it cannot be seen."""
        deadline = clock.monotonic() + REST_SECONDS
        text = "no answer"
        looks_left = REST_LOOKS
        while clock.monotonic() < deadline:
            with suppress(DeviceError):  # one that is operated locally refuses, and has let go by itself
                await self._storage.release()
            try:
                watts = (await self._storage.read()).discharge_watts
            except DeviceError as error:
                text, looks_left = str(error), REST_LOOKS
            else:
                looks_left = looks_left - 1 if abs(watts) <= REST_RATIO * self._step_watts else REST_LOOKS
                if looks_left == 0:
                    return
                text = f"it gives {watts:.0f} W"
            await asyncio.sleep(POLL_SECONDS)
        raise CommissionError(f"THE BATTERY IS NOT SEEN AT REST: {text}. Stop it at the device.")
