"""A battery inverter with SunSpec models 701, 702, 704, 713 and 715 as storage; discharge is positive.

A setpoint is armed with its fallback before it counts: reversion time, fallback 0 W and off, then the
setpoint, read back, and the enable last. While it is active it is refreshed in place, never switched off.
"""

import math

from slurm_power.config.devices import SunspecPcs
from slurm_power.devices.modbus import RefusedError
from slurm_power.devices.sunspec import SunspecDevice, Values
from slurm_power.model.reading import EssReading, Quality, believable_celsius, believable_soh
from slurm_power.ports import DeviceError

MODELS = (701, 702, 704, 713, 715)
CONTROL = (
    *("WMaxLimPctEna", "WMaxLimPct", "WSetEna", "WSetMod", "WSet", "WSetRvrt", "WSetEnaRvrt"),
    *("WSetRvrtTms", "WSetRvrtRem"),
)
STATE = {
    701: ("W", "InvSt", "ConnSt", "Alrm"),
    704: CONTROL,
    713: ("WHRtg", "WHAvail", "SoC", "SoH", "Sta"),
    715: ("LocRemCtl", "ControllerHb"),
}
SETTINGS = {702: ("WChaRteMaxRtg", "WDisChaRteMaxRtg", "WChaRteMax", "WDisChaRteMax", "WMaxRtg", "WMax")}
WATTS, PERCENT = 1, 0
LOCAL, ERROR, ENABLED = 1, 2, 1
# 701.InvSt in which the inverter cannot follow a setpoint.
NOT_READY = {0: "inverter off", 5: "inverter shutting down", 6: "inverter fault"}
SETTINGS_EVERY_READS = 60
# Model 803 (a bank of lithium-ion strings) knows its hottest module.
BANK, HOTTEST_MODULE = 803, "ModTmpMax"


class SunspecPcsDriver:
    """Implements ``ports.Storage``: two requests a reading, and a heartbeat while our setpoint is active."""

    def __init__(self, config: SunspecPcs) -> None:
        self._device = SunspecDevice(
            name=config.name,
            address=config.address,
            unit_id=config.unit_id,
            base_address=config.base_address,
            timeout_seconds=config.timeout_seconds,
        )
        self._name = config.name
        self._temperature_point = config.temperature_point
        self._state: dict[int, tuple[str, ...]] = STATE
        self._max_charge_watts = 0.0
        self._max_discharge_watts = 0.0
        self._reads_left = 0
        self._commanding = False
        self._heartbeat: int | None = 0

    async def open(self) -> None:
        """Connect and check that all five models are there and the battery has a size; raises DeviceError."""
        await self._device.walk()
        missing = [str(model) for model in MODELS if model not in self._device.models]
        if missing:
            raise DeviceError(f"{self._name}: no PCS: SunSpec model {', '.join(missing)} missing")
        if self._temperature_point is not None:
            self._state = {**STATE, 701: (*STATE[701], self._temperature_point)}
        elif BANK in self._device.models:
            self._state = {**STATE, BANK: (HOTTEST_MODULE,)}
        self._reads_left = 0
        await self.read()

    async def read(self) -> EssReading:
        """Read state; raises DeviceError. Keeps the heartbeat alive while our setpoint is active."""
        await self._read_settings()
        values = await self._device.read(self._state)
        if self._commanding:
            if values.raw(704, "WSetEna") == ENABLED:
                await self._beat()
            else:
                self._commanding = False
        return self._reading(values)

    async def set_discharge(self, discharge_watts: float, lease_seconds: float) -> None:
        """Ask for ``discharge_watts`` (negative charges) for ``lease_seconds``, rounded up to seconds.

        Raises DeviceError when out of range, under LOCAL control, refused, or not as written on read-back.
        """
        await self._read_settings()
        before = await self._device.read({704: CONTROL, 715: STATE[715]})
        self._refuse_local(before)
        raw = self._raw_setpoint(before, discharge_watts)
        seconds = max(1, math.ceil(lease_seconds))
        self._commanding = True
        await self._beat()
        # The setpoint becomes active with the mode if the control is on with another mode, so it goes first.
        order = [
            ("WSetRvrtTms", seconds),
            ("WSetRvrt", 0),
            ("WSetEnaRvrt", 0),
            ("WSetMod", WATTS),
            ("WSet", raw),
        ]
        active = before.raw(704, "WSetEna") == ENABLED
        if active and before.raw(704, "WSetMod") != WATTS:
            order[3], order[4] = order[4], order[3]
        for name, value in order:
            rearms = name in ("WSetRvrtTms", "WSet")
            if rearms or not active or before.raw(704, name) != value:
                await self._device.write(704, name, value)
        self._check(await self._device.read({704: CONTROL}), dict(order))
        if not active:
            await self._device.write(704, "WSetEna", ENABLED)
        after = await self._device.read({704: CONTROL})
        self._check(after, {**dict(order), "WSetEna": ENABLED})
        if after.raw(704, "WSetRvrtRem") == 0:
            raise DeviceError(f"{self._name}: 704.WSetRvrtRem: the reversion timer does not run")

    def reversion_seconds(self, lease_seconds: float) -> float:
        """The lease, in whole seconds: the device has a timer for it."""
        return max(1, math.ceil(lease_seconds))

    async def release(self) -> None:
        """Set 0 W, then switch the setpoint off; raises DeviceError. Does nothing where none is on."""
        values = await self._device.read({704: CONTROL, 715: STATE[715]})
        if values.raw(704, "WSetEna") == ENABLED:
            self._refuse_local(values)
            await self._device.write(704, "WSet", 0)
            await self._device.write(704, "WSetEna", 0)
            self._check(await self._device.read({704: CONTROL}), {"WSetEna": 0})
        self._commanding = False

    async def close(self) -> None:
        """Let go of the connection without touching the setpoint."""
        self._commanding = False
        await self._device.close()

    async def _read_settings(self) -> None:
        """Read the limits, which an operator may change, once a minute."""
        self._reads_left -= 1
        if self._reads_left > 0:
            return
        values = await self._device.read(SETTINGS)
        self._max_charge_watts = self._limit(values, "WChaRteMax", "WChaRteMaxRtg")
        self._max_discharge_watts = self._limit(values, "WDisChaRteMax", "WDisChaRteMaxRtg")
        self._reads_left = SETTINGS_EVERY_READS

    def _limit(self, values: Values, *names: str) -> float:
        """Return the setting, or the rating where the device has no such setting."""
        for name in (*names, "WMax", "WMaxRtg"):
            watts = values.get(702, name)
            if watts is not None:
                return watts
        raise DeviceError(f"{self._name}: 702.{names[0]}: the device does not say how much it can do")

    def _raw_setpoint(self, values: Values, discharge_watts: float) -> int:
        scale = values.scale(704, "WSet")
        if scale is None:
            raise DeviceError(f"{self._name}: 704.WSet_SF: not implemented")
        if not -self._max_charge_watts <= discharge_watts <= self._max_discharge_watts:
            raise DeviceError(
                f"{self._name}: {discharge_watts:.0f} W is outside -{self._max_charge_watts:.0f} W "
                f"to {self._max_discharge_watts:.0f} W"
            )
        raw = round(discharge_watts / scale)
        inside = -self._max_charge_watts <= raw * scale <= self._max_discharge_watts
        return raw if inside else math.trunc(discharge_watts / scale)

    def _refuse_local(self, values: Values) -> None:
        if values.raw(715, "LocRemCtl") == LOCAL:
            raise DeviceError(f"{self._name}: 715.LocRemCtl: under LOCAL control, not to be commanded")

    def _check(self, values: Values, wanted: dict[str, int]) -> None:
        for name, raw in wanted.items():
            if values.raw(704, name) != raw:
                raise DeviceError(
                    f"{self._name}: 704.{name}: wrote {raw}, reads back {values.raw(704, name)}"
                )

    async def _beat(self) -> None:
        """Write the heartbeat; a device that does not take one is asked no more."""
        if self._heartbeat is None:
            return
        self._heartbeat = (self._heartbeat + 1) % 0x7FFFFFFF
        try:
            await self._device.write(715, "ControllerHb", self._heartbeat)
        except RefusedError:
            self._heartbeat = None

    def _reading(self, values: Values) -> EssReading:
        soc_percent, soh_percent = values.get(713, "SoC"), values.get(713, "SoH")
        soh_ratio = believable_soh(None if soh_percent is None else soh_percent / 100)
        available_wh = values.get(713, "WHAvail")
        soc_ratio = self._needed(soc_percent, "713.SoC") / 100
        if not -0.005 <= soc_ratio <= 1.005:
            raise DeviceError(f"{self._name}: 713.SoC: {soc_percent:g} % cannot be")
        throttle_ratio = 1.0
        if values.raw(704, "WMaxLimPctEna") == ENABLED:
            throttle_ratio = min(1.0, (values.get(704, "WMaxLimPct") or 0.0) / 100)
        empty = soc_ratio <= 0.0 or available_wh == 0.0
        return EssReading(
            name=self._name,
            discharge_watts=self._needed(values.get(701, "W"), "701.W"),
            soc_ratio=min(1.0, max(0.0, soc_ratio)),
            soh_ratio=1.0 if soh_ratio is None else soh_ratio,
            energy_rating_kwh=self._needed(values.get(713, "WHRtg"), "713.WHRtg") / 1000,
            max_charge_watts=0.0 if soc_ratio >= 1.0 else self._max_charge_watts * throttle_ratio,
            max_discharge_watts=0.0 if empty else self._max_discharge_watts * throttle_ratio,
            remote=values.raw(715, "LocRemCtl") != LOCAL,
            alarms=self._alarms(values),
            age_seconds=0.0,
            quality=Quality.GOOD if soh_ratio is not None else Quality.QUESTIONABLE,
            temperature_celsius=believable_celsius(self._celsius(values)),
        )

    def _celsius(self, values: Values) -> float | None:
        if self._temperature_point is not None:
            return values.get(701, self._temperature_point)
        return values.get(BANK, HOTTEST_MODULE) if BANK in self._state else None

    def _needed(self, value: float | None, point: str) -> float:
        if value is None:
            raise DeviceError(f"{self._name}: {point}: the device has no value")
        return value

    def _alarms(self, values: Values) -> tuple[str, ...]:
        bits = values.raw(701, "Alrm") or 0
        names = self._device.point(701, "Alrm").symbols
        words = [
            names.get(bit, f"alarm bit {bit}").lower().replace("_", " ")
            for bit in range(32)
            if bits >> bit & 1
        ]
        state = values.raw(701, "InvSt")
        if state in NOT_READY:
            words.append(NOT_READY[state])
        if values.raw(701, "ConnSt") == 0:
            words.append("disconnected from the grid")
        if values.raw(713, "Sta") == ERROR:
            words.append("battery error")
        return tuple(words)
