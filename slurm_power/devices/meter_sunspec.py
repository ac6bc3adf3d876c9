"""A SunSpec meter (models 201 to 204, or 701) as a power meter: positive is import, towards the loads.

Models 201 to 204 count import as positive. Model 701 was made for generators and counts injection into the
grid as positive, so behind a 701 our reading is the negative of its ``W``.
"""

from slurm_power.config.devices import SunspecMeter
from slurm_power.devices.sunspec import SunspecDevice
from slurm_power.ports import DeviceError

# Model -> the sign that turns its W into import.
IMPORT_SIGNS = {203: 1.0, 204: 1.0, 202: 1.0, 201: 1.0, 701: -1.0}


class SunspecMeterDriver:
    """Implements ``ports.PowerMeter``: one request of at most 117 registers per reading."""

    def __init__(self, config: SunspecMeter) -> None:
        self._device = SunspecDevice(
            name=config.name,
            address=config.address,
            unit_id=config.unit_id,
            base_address=config.base_address,
            timeout_seconds=config.timeout_seconds,
        )
        self._name = config.name
        self._model: int | None = None

    async def open(self) -> None:
        """Connect and find the meter model; raises DeviceError if there is none."""
        self._model = None
        await self._device.walk()
        self._model = next((model for model in IMPORT_SIGNS if model in self._device.models), None)
        if self._model is None:
            found = ", ".join(str(model) for model in sorted(self._device.models)) or "none"
            raise DeviceError(f"{self._name}: no meter: has SunSpec models {found}, needs 201 to 204 or 701")
        await self.read_watts()

    async def read_watts(self) -> float:
        """Return active power in watts, positive = import; raises DeviceError."""
        if self._model is None:
            await self.open()
        assert self._model is not None
        values = await self._device.read({self._model: ("W",)})
        watts = values.get(self._model, "W")
        if watts is None:
            raise DeviceError(f"{self._name}: {self._model}.W: the meter has no value")
        return watts * IMPORT_SIGNS[self._model]

    async def close(self) -> None:
        """Let go of the connection."""
        await self._device.close()
