"""A Modbus meter with a register map as a power meter: positive is import, towards the loads."""

from slurm_power.config.devices import RegisterMeter
from slurm_power.config.problems import ConfigError
from slurm_power.config.register_map import Role, load_register_map
from slurm_power.devices.modbus import ModbusUnit
from slurm_power.devices.registers import RegisterReader
from slurm_power.ports import DeviceError


class RegisterMeterDriver:
    """Implements ``ports.PowerMeter``: one request a reading."""

    def __init__(self, config: RegisterMeter) -> None:
        self._config = config
        self._unit = ModbusUnit(
            name=config.name,
            address=config.address,
            unit_id=config.unit_id,
            timeout_seconds=config.timeout_seconds,
        )
        self._reader: RegisterReader | None = None

    async def open(self) -> None:
        """Load the map and read once; raises DeviceError."""
        try:
            registers = load_register_map(self._config.map, Role.METER)
        except ConfigError as error:
            raise DeviceError(f"{self._config.name}: {error}") from None
        self._reader = RegisterReader(self._unit, registers.reads, registers.max_gap_registers)
        await self.read_watts()

    async def read_watts(self) -> float:
        """Return active power in watts, positive = import; raises DeviceError."""
        if self._reader is None:
            await self.open()
        assert self._reader is not None
        return self._reader.needed(await self._reader.read(), "power_watts")

    async def close(self) -> None:
        """Let go of the connection."""
        self._unit.close()
