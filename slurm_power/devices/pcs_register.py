"""A Modbus battery inverter with a register map as storage; discharge is positive.

What a register says back proves little here (some keep a setpoint that the device has long dropped), so a
setpoint is written anew each time it is asked for, the device's own watchdog first, and what the battery
does is what its measured power says.
"""

import math
from contextlib import suppress

from slurm_power import clock
from slurm_power.config.devices import RegisterPcs
from slurm_power.config.problems import ConfigError
from slurm_power.config.register_map import RegisterMap, RegisterType, Role, Write, load_register_map
from slurm_power.devices.modbus import ModbusUnit
from slurm_power.devices.registers import RegisterReader, words_of
from slurm_power.model.reading import EssReading, Quality, believable_celsius, believable_soh
from slurm_power.ports import DeviceError

# Power without a direction, as a share of what the device can do, that is taken for its own consumption.
REST_RATIO = 0.02


class RegisterPcsDriver:
    """Implements ``ports.Storage``."""

    def __init__(self, config: RegisterPcs) -> None:
        self._config = config
        self._name = config.name
        self._unit = ModbusUnit(
            name=config.name,
            address=config.address,
            unit_id=config.unit_id,
            timeout_seconds=config.timeout_seconds,
        )
        self._map: RegisterMap | None = None
        self._reader: RegisterReader | None = None
        self._ends_at_seconds: float | None = None
        self._written: dict[int, tuple[list[int], float]] = {}

    async def open(self) -> None:
        """Load the map and read once; raises DeviceError."""
        self._load()
        await self.read()

    async def read(self) -> EssReading:
        """Read state; raises DeviceError. A lease that is over ends here, if the device takes longer."""
        reading = self._reading(self._load()[1], await self._raws())
        if self._ends_at_seconds is not None and clock.monotonic() >= self._ends_at_seconds:
            with suppress(DeviceError):  # tried again at the next reading; the device ends it as well
                await self.release()
        return reading

    async def set_discharge(self, discharge_watts: float, lease_seconds: float) -> None:
        """Ask for ``discharge_watts`` (negative charges) for ``lease_seconds``.

        A device with a fixed time of its own gives it up after that, where we fall silent. Raises DeviceError
        when out of range, under LOCAL control, refused, or not as written where the map asks to read back.
        """
        registers, reader = self._load()
        raws = await self._raws()
        reading = self._reading(reader, raws)
        if not reading.remote:
            raise DeviceError(f"{self._name}: read.control: under LOCAL control, not to be commanded")
        low, high = -reading.max_charge_watts, reading.max_discharge_watts
        if not low <= discharge_watts <= high:
            raise DeviceError(f"{self._name}: {discharge_watts:.0f} W is outside {low:.0f} W to {high:.0f} W")
        self._ends_at_seconds = clock.monotonic() + lease_seconds
        for step in registers.setpoint:
            await self._write(step, self._number(step, discharge_watts, lease_seconds, raws), registers)

    async def release(self) -> None:
        """End our setpoint now; raises DeviceError. Does nothing where the device says that none is on."""
        registers = self._load()[0]
        raws = await self._raws()
        active = registers.reads.get("active")
        if active is None or raws["active"] in active.meaning["values"]:
            if self._local(raws):
                raise DeviceError(f"{self._name}: read.control: under LOCAL control, not to be commanded")
            self._written.clear()
            for step in registers.release:
                await self._write(step, self._number(step, 0.0, 0.0, raws), registers)
        self._ends_at_seconds = None

    async def close(self) -> None:
        """Let go of the connection without touching the setpoint."""
        self._ends_at_seconds = None
        self._written.clear()
        self._unit.close()

    def reversion_seconds(self, lease_seconds: float) -> float:
        """After how long in our silence the device itself ends a setpoint; raises DeviceError."""
        return self._load()[0].reversion_seconds(lease_seconds)

    def _load(self) -> tuple[RegisterMap, RegisterReader]:
        if self._map is None or self._reader is None:
            try:
                self._map = load_register_map(self._config.map, Role.PCS)
            except ConfigError as error:
                raise DeviceError(f"{self._name}: {error}") from None
            self._reader = RegisterReader(self._unit, self._map.reads, self._map.max_gap_registers)
        return self._map, self._reader

    async def _raws(self) -> dict[str, int]:
        """Read all points; a device that does not answer may be one that starts anew and knows nothing."""
        try:
            return await self._load()[1].read()
        except DeviceError:
            self._written.clear()
            raise

    def _number(self, step: Write, watts: float, lease_seconds: float, raws: dict[str, int]) -> float:
        """What a write carries, in counts of its register; never more power than was asked for."""
        if step.constant is not None:
            return step.constant
        if step.value == "direction":
            moving = step.discharge if watts > 0.0 else step.charge
            return float((moving if watts else step.rest) or 0)
        if step.value == "lease_seconds":
            return math.ceil(max(lease_seconds, step.lowest or 0.0) / step.scale) * step.sign
        counts = self._power(step, watts, raws) * step.sign / step.scale
        return counts if step.type is RegisterType.F32 else float(math.trunc(round(counts, 6)))

    def _power(self, step: Write, watts: float, raws: dict[str, int]) -> float:
        if step.value == "magnitude_watts":
            return abs(watts)
        if step.value == "charge_watts":
            return max(0.0, -watts)
        if step.value == "discharge_watts":
            return max(0.0, watts)
        if step.value == "ratio_of_limit":
            name = "max_discharge_watts" if watts > 0.0 else "max_charge_watts"
            limit_watts = self._limit(self._load()[1], raws, name)
            return watts / limit_watts if limit_watts else 0.0
        return watts

    async def _write(self, step: Write, number: float, registers: RegisterMap) -> None:
        what = f"write of {number:g} to register {step.address}"
        try:
            words = words_of(step, number)
        except ValueError as error:
            raise DeviceError(f"{self._name}: {what}: {error}") from None
        before = self._written.get(step.address)
        now = clock.monotonic()
        if before is not None and before[0] == words and now - before[1] < registers.equal_write_seconds:
            return
        try:
            await self._unit.write(step.address, words, what=what, function=step.function)
            if step.read_back:
                found = await self._unit.read(step.address, len(words))
                if found != words:
                    raise DeviceError(f"{self._name}: {what}: wrote {words}, reads back {found}")
        except DeviceError:
            # It may have forgotten everything.
            self._written.clear()
            raise
        self._written[step.address] = (words, now)

    def _local(self, raws: dict[str, int]) -> bool:
        control = self._load()[0].reads.get("control")
        return control is not None and raws["control"] in control.meaning["local"]

    def _reading(self, reader: RegisterReader, raws: dict[str, int]) -> EssReading:
        soc_ratio = reader.needed(raws, "soc_ratio")
        if not -0.005 <= soc_ratio <= 1.005:
            raise DeviceError(f"{self._name}: read.soc_ratio: {soc_ratio:g} cannot be")
        soh_ratio = believable_soh(reader.value(raws, "soh_ratio"))
        max_charge_watts = self._limit(reader, raws, "max_charge_watts")
        max_discharge_watts = self._limit(reader, raws, "max_discharge_watts")
        return EssReading(
            name=self._name,
            discharge_watts=self._discharge_watts(reader, raws, max(max_charge_watts, max_discharge_watts)),
            soc_ratio=min(1.0, max(0.0, soc_ratio)),
            soh_ratio=1.0 if soh_ratio is None else soh_ratio,
            energy_rating_kwh=self._limit(reader, raws, "energy_rating_kwh"),
            max_charge_watts=0.0 if soc_ratio >= 1.0 else max_charge_watts,
            max_discharge_watts=0.0 if soc_ratio <= 0.0 else max_discharge_watts,
            remote=not self._local(raws),
            alarms=self._alarms(raws),
            age_seconds=0.0,
            quality=Quality.GOOD if soh_ratio is not None else Quality.QUESTIONABLE,
            temperature_celsius=believable_celsius(reader.value(raws, "temperature_celsius")),
        )

    def _limit(self, reader: RegisterReader, raws: dict[str, int], name: str) -> float:
        """The lower one of what the device and what site.toml say; raises DeviceError if neither does."""
        read, given = reader.value(raws, name), getattr(self._config, name)
        found = [value for value in (read, given) if value is not None]
        if not found or min(found) < 0.0:
            raise DeviceError(f"{self._name}: read.{name}: the device has no value, nor has site.toml")
        return float(min(found))

    def _discharge_watts(self, reader: RegisterReader, raws: dict[str, int], most_watts: float) -> float:
        """Measured power; where it has no sign, with that of the direction. Raises DeviceError in doubt."""
        watts = reader.needed(raws, "power_watts")
        direction = self._load()[0].reads.get("direction")
        if direction is None:
            return watts
        charging = any(raws["direction"] & bits for bits in direction.meaning["charging_bits"])
        discharging = any(raws["direction"] & bits for bits in direction.meaning["discharging_bits"])
        if charging is not discharging:
            return -abs(watts) if charging else abs(watts)
        if abs(watts) > REST_RATIO * most_watts:
            told = "both directions" if charging else "no direction"
            raise DeviceError(f"{self._name}: read.direction: {abs(watts):.0f} W with {told}")
        return 0.0

    def _alarms(self, raws: dict[str, int]) -> tuple[str, ...]:
        point = self._load()[0].reads.get("alarms")
        if point is None:
            return ()
        raw, healthy = raws["alarms"], point.meaning["healthy"]
        if raw in point.nan:
            return ("alarms cannot be read",)
        if healthy:
            return () if raw in healthy else (point.names.get(raw, f"state {raw}"),)
        bits = [bit for bit in range(point.type.bits) if raw >> bit & 1]
        return tuple(point.names.get(bit, f"alarm bit {bit}") for bit in bits)
