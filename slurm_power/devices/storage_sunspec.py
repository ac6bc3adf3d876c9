"""A battery inverter with SunSpec's older models 124 (storage control) and 802 (battery).

Discharge is positive.

Model 124 knows no setpoint, only bounds: the most it may discharge (OutWRte) and the most it may charge
(InWRte), in percent. A bound below zero demands the other direction, so that OutWRte = x and InWRte = -x
leave x alone. Both are switched on by StorCtl_Mod, and given up after InOutWRte_RvrtTms; then the device does
as it likes.
"""

import math

from slurm_power.config.devices import SunspecStorage
from slurm_power.devices.modbus import RefusedError
from slurm_power.devices.sunspec import SunspecDevice, Values
from slurm_power.model.reading import EssReading, Quality, believable_celsius, believable_soh
from slurm_power.ports import DeviceError

MODELS = (124, 802)
CONTROL = ("WChaMax", "StorCtl_Mod", "OutWRte", "InWRte", "InOutWRte_RvrtTms", "ChaSt")
STATE = {
    124: CONTROL,
    802: (
        *("WHRtg", "WChaRteMax", "WDisChaRteMax", "SoCMax", "SoCMin", "SoCRsvMin", "SoC", "SoH"),
        *("LocRemCtl", "State", "Evt1", "V", "A", "W"),
    ),
}
BOTH_BOUNDS, NONE = 0b11, 0
LOCAL = 1
# 802.State in which it cannot follow a setpoint.
NOT_READY = {
    1: "battery disconnected",
    2: "battery initializing",
    6: "battery suspending",
    99: "battery fault",
}
_MOST_HEARTBEAT = 0x7FFF
# Model 803 (a bank of lithium-ion strings) knows its hottest module.
BANK, HOTTEST_MODULE = 803, "ModTmpMax"


class SunspecStorageDriver:
    """Implements ``ports.Storage``."""

    def __init__(self, config: SunspecStorage) -> None:
        self._device = SunspecDevice(
            name=config.name,
            address=config.address,
            unit_id=config.unit_id,
            base_address=config.base_address,
            timeout_seconds=config.timeout_seconds,
        )
        self._name = config.name
        self._sign = -1.0 if config.charge_reads_positive else 1.0
        self._state: dict[int, tuple[str, ...]] = STATE
        self._commanding = False
        self._heartbeat: int | None = 0

    async def open(self) -> None:
        """Connect and check that it can be commanded and lets go by itself; raises DeviceError."""
        await self._device.walk()
        missing = [str(model) for model in MODELS if model not in self._device.models]
        if missing:
            raise DeviceError(f"{self._name}: no storage: SunSpec model {', '.join(missing)} missing")
        if BANK in self._device.models:
            self._state = {**STATE, BANK: (HOTTEST_MODULE,)}
        values = await self._device.read(self._state)
        for point in ("OutWRte", "InWRte", "InOutWRte_RvrtTms"):
            if values.raw(124, point) is None:
                why = {
                    "InOutWRte_RvrtTms": "it would keep a setpoint when nobody renews it",
                }.get(point, "it cannot be told how much to give")
                raise DeviceError(f"{self._name}: 124.{point}: not implemented; {why}")
        self._reading(values)

    async def read(self) -> EssReading:
        """Read state; raises DeviceError. Keeps the heartbeat alive while our setpoint is active."""
        values = await self._device.read(self._state)
        if self._commanding:
            if values.raw(124, "StorCtl_Mod") == BOTH_BOUNDS:
                await self._beat()
            else:
                self._commanding = False
        return self._reading(values)

    async def set_discharge(self, discharge_watts: float, lease_seconds: float) -> None:
        """Ask for ``discharge_watts`` (negative charges) for ``lease_seconds``, rounded up to seconds.

        Raises DeviceError when out of range, under LOCAL control, refused, or not as written on read-back.
        """
        values = await self._device.read(self._state)
        self._refuse_local(values)
        out_raw, in_raw = self._bounds(values, discharge_watts)
        seconds = max(1, math.ceil(lease_seconds))
        if seconds > 0xFFFE:
            raise DeviceError(f"{self._name}: 124.InOutWRte_RvrtTms: {seconds} s does not fit")
        self._commanding = True
        await self._beat()
        await self._device.write(124, "InOutWRte_RvrtTms", seconds)
        # The bound that makes room moves first: between the two writes no bound may lie beyond the other.
        rises = out_raw >= (values.raw(124, "OutWRte") or 0)
        order = [("OutWRte", out_raw), ("InWRte", in_raw)]
        for name, raw in order if rises else reversed(order):
            await self._device.write(124, name, raw)
        written = await self._device.read({124: CONTROL})
        self._check(written, {"OutWRte": out_raw, "InWRte": in_raw})
        if written.raw(124, "StorCtl_Mod") != BOTH_BOUNDS:
            await self._device.write(124, "StorCtl_Mod", BOTH_BOUNDS)
        after = await self._device.read({124: CONTROL})
        self._check(after, {"OutWRte": out_raw, "InWRte": in_raw, "StorCtl_Mod": BOTH_BOUNDS})
        left_seconds = after.raw(124, "InOutWRte_RvrtTms") or 0
        if not 0 < left_seconds <= seconds:  # some count it down, some show what was written
            raise DeviceError(
                f"{self._name}: 124.InOutWRte_RvrtTms: wrote {seconds}, reads back {left_seconds}"
            )

    def reversion_seconds(self, lease_seconds: float) -> float:
        """The lease, in whole seconds: the device has a timer for it."""
        return max(1, math.ceil(lease_seconds))

    async def release(self) -> None:
        """Set 0 W, then give up both bounds; raises DeviceError.

        Bounds that leave the device a choice are its owner's, and stay.
        """
        values = await self._device.read(self._state)
        closed = values.raw(124, "OutWRte") == -(values.raw(124, "InWRte") or 0)
        if values.raw(124, "StorCtl_Mod") == BOTH_BOUNDS and (closed or self._commanding):
            self._refuse_local(values)
            order = ("InWRte", "OutWRte") if (values.raw(124, "OutWRte") or 0) > 0 else ("OutWRte", "InWRte")
            for name in order:
                await self._device.write(124, name, 0)
            await self._device.write(124, "StorCtl_Mod", NONE)
            self._check(await self._device.read({124: CONTROL}), {"StorCtl_Mod": NONE})
        self._commanding = False

    async def close(self) -> None:
        """Let go of the connection without touching the setpoint."""
        self._commanding = False
        await self._device.close()

    def _bounds(self, values: Values, discharge_watts: float) -> tuple[int, int]:
        """OutWRte and InWRte as they stand on the wire, never beyond what was asked."""
        charge_watts, most_watts = self._limits(values)
        if not -charge_watts <= discharge_watts <= most_watts:
            raise DeviceError(
                f"{self._name}: {discharge_watts:.0f} W is outside -{charge_watts:.0f} W"
                f" to {most_watts:.0f} W"
            )
        base_watts = self._needed(values.get(124, "WChaMax"), "124.WChaMax")
        percent = values.scale(124, "OutWRte")
        if percent is None or base_watts <= 0.0:
            raise DeviceError(f"{self._name}: 124.InOutWRte_SF or WChaMax: no usable value")
        # A hair below a whole number is that number.
        raw = math.trunc(round(100.0 * discharge_watts / base_watts / percent, 6))
        if abs(raw * percent) > 100.0:
            raise DeviceError(f"{self._name}: {discharge_watts:.0f} W is more than 124.WChaMax")
        return raw, -raw

    def _limits(self, values: Values) -> tuple[float, float]:
        """The most it charges and discharges, both above zero, by rating and by 124.WChaMax."""
        base_watts = self._needed(values.get(124, "WChaMax"), "124.WChaMax")
        charge_watts = self._needed(values.get(802, "WChaRteMax"), "802.WChaRteMax")
        discharge_watts = self._needed(values.get(802, "WDisChaRteMax"), "802.WDisChaRteMax")
        return min(charge_watts, base_watts), min(discharge_watts, base_watts)

    def _refuse_local(self, values: Values) -> None:
        if values.raw(802, "LocRemCtl") == LOCAL:
            raise DeviceError(f"{self._name}: 802.LocRemCtl: under LOCAL control, not to be commanded")

    def _check(self, values: Values, wanted: dict[str, int]) -> None:
        for name, raw in wanted.items():
            if values.raw(124, name) != raw:
                raise DeviceError(
                    f"{self._name}: 124.{name}: wrote {raw}, reads back {values.raw(124, name)}"
                )

    async def _beat(self) -> None:
        """Write the heartbeat; a device that does not take one is asked no more."""
        if self._heartbeat is None:
            return
        self._heartbeat = (self._heartbeat + 1) % _MOST_HEARTBEAT
        try:
            await self._device.write(802, "CtrlHb", self._heartbeat)
        except RefusedError:
            self._heartbeat = None

    def _watts(self, values: Values) -> float:
        """Power of the battery; from voltage and current where the device tells no power."""
        watts = values.get(802, "W")
        if watts is None:
            volts = self._needed(values.get(802, "V"), "802.W, 802.V")
            watts = volts * self._needed(values.get(802, "A"), "802.W, 802.A")
        return self._sign * watts

    def _reading(self, values: Values) -> EssReading:
        soc_percent = self._needed(values.get(802, "SoC"), "802.SoC")
        if not -0.5 <= soc_percent <= 100.5:
            raise DeviceError(f"{self._name}: 802.SoC: {soc_percent:g} % cannot be")
        soh_percent = values.get(802, "SoH")
        soh_ratio = believable_soh(None if soh_percent is None else soh_percent / 100.0)
        charge_watts, discharge_watts = self._limits(values)
        # Both are settings of the manufacturer or the owner; where there are none the ends count.
        full_percent = values.get(802, "SoCMax") or 100.0
        empty_percent = max(values.get(802, "SoCMin") or 0.0, values.get(802, "SoCRsvMin") or 0.0)
        return EssReading(
            name=self._name,
            discharge_watts=self._watts(values),
            soc_ratio=min(1.0, max(0.0, soc_percent / 100.0)),
            soh_ratio=1.0 if soh_ratio is None else soh_ratio,
            energy_rating_kwh=self._needed(values.get(802, "WHRtg"), "802.WHRtg") / 1000.0,
            max_charge_watts=0.0 if soc_percent >= full_percent else charge_watts,
            max_discharge_watts=0.0 if soc_percent <= empty_percent else discharge_watts,
            remote=values.raw(802, "LocRemCtl") != LOCAL,
            alarms=self._alarms(values),
            age_seconds=0.0,
            quality=Quality.GOOD if soh_ratio is not None else Quality.QUESTIONABLE,
            temperature_celsius=believable_celsius(
                values.get(BANK, HOTTEST_MODULE) if BANK in self._state else None
            ),
        )

    def _needed(self, value: float | None, point: str) -> float:
        if value is None:
            raise DeviceError(f"{self._name}: {point}: the device has no value")
        return value

    def _alarms(self, values: Values) -> tuple[str, ...]:
        """What keeps it from working; warnings do not."""
        bits = values.raw(802, "Evt1") or 0
        names = self._device.point(802, "Evt1").symbols
        words = [
            names.get(bit, f"event bit {bit}").lower().replace("_", " ")
            for bit in range(32)
            if bits >> bit & 1 and not names.get(bit, "").endswith("WARNING")
        ]
        state = values.raw(802, "State")
        if state in NOT_READY:
            words.append(NOT_READY[state])
        return tuple(words)
