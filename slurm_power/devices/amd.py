"""AMD GPUs through amdsmi, which comes with ROCm: readings and power limits behind the port of all GPUs.

Power is in watts there, caps in microwatts, and what is unknown is the text "N/A". Written from the library's
own source (7.0.2) and tried on a stand-in alone, never on a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slurm_power.model.reading import CapReading, GpuReading
from slurm_power.model.units import HERTZ_PER_MEGAHERTZ
from slurm_power.ports import DeviceError

MICROWATTS_PER_WATT = 1e6
MICROJOULES_PER_JOULE = 1e6
# The first sensor is the socket's.
SOCKET_SENSOR = 0


class AmdGpus:
    """The AMD GPUs of this machine, named by UUID."""

    def __init__(self) -> None:
        self._smi: Any = None
        self._handles: dict[str, tuple[int, Any, str]] = {}

    def open(self) -> None:
        """Load and start the library; raises DeviceError without ROCm."""
        try:
            import amdsmi  # noqa: PLC0415 - a node without ROCm must still start
        except (
            ImportError,
            KeyError,
            OSError,
        ) as error:  # KeyError: its own way to say that there is no library
            raise DeviceError(f"amdsmi: {type(error).__name__}: {error}") from None
        self._smi = amdsmi
        try:
            amdsmi.amdsmi_init()
        except amdsmi.AmdSmiException as error:
            self._smi = None
            raise DeviceError(f"amdsmi: {error}") from None

    def close(self) -> None:
        """Let go of the driver."""
        if self._smi is not None:
            smi, self._smi, self._handles = self._smi, None, {}
            try:
                smi.amdsmi_shut_down()
            except smi.AmdSmiException as error:
                raise DeviceError(f"amdsmi: {error}") from None

    def uuids(self) -> list[str]:
        """UUIDs of the GPUs that answer now, in slot order."""
        found: dict[str, tuple[int, Any, str]] = {}
        with self._call("amdsmi") as smi:
            for slot, handle in enumerate(smi.amdsmi_get_processor_handles()):
                try:
                    uuid = smi.amdsmi_get_gpu_device_uuid(handle)
                    name = smi.amdsmi_get_gpu_asic_info(handle)["market_name"]
                except smi.AmdSmiException:
                    continue
                found[uuid] = (slot, handle, name)
        self._handles = found
        return list(found)

    def read(self, uuid: str) -> GpuReading:
        """Read one GPU, without its energy counter."""
        with self._call(uuid) as smi:
            slot, handle, name = self._handle(uuid)
            power = smi.amdsmi_get_power_info(handle)
            caps = smi.amdsmi_get_power_cap_info(handle)
            clock_megahertz = _number(smi.amdsmi_get_clock_info(handle, smi.AmdSmiClkType.GFX)["clk"])
            memory_megahertz = _number(smi.amdsmi_get_clock_info(handle, smi.AmdSmiClkType.MEM)["clk"])
            percent = _number(smi.amdsmi_get_gpu_activity(handle)["gfx_activity"])
            celsius = smi.amdsmi_get_temp_metric(
                handle, smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CURRENT
            )
        average_watts = _number(power["average_socket_power"])
        instant_watts = _number(power["current_socket_power"])
        watts = instant_watts if average_watts is None else average_watts
        if watts is None:
            raise DeviceError(f"{uuid}: amdsmi tells no power")
        cap_watts = caps["power_cap"] / MICROWATTS_PER_WATT
        return GpuReading(
            uuid=uuid,
            slot=slot,
            name=name,
            power_watts=watts,
            power_average_watts=average_watts,
            power_instant_watts=instant_watts,
            energy_joules=None,
            utilization_ratio=(percent or 0.0) / 100.0,
            sm_clock_hertz=(clock_megahertz or 0.0) * HERTZ_PER_MEGAHERTZ,
            memory_clock_hertz=None if memory_megahertz is None else memory_megahertz * HERTZ_PER_MEGAHERTZ,
            temperature_celsius=_number(celsius) or 0.0,
            requested_cap_watts=cap_watts,
            enforced_cap_watts=cap_watts,
            default_cap_watts=caps["default_power_cap"] / MICROWATTS_PER_WATT,
            min_cap_watts=caps["min_power_cap"] / MICROWATTS_PER_WATT,
            max_cap_watts=caps["max_power_cap"] / MICROWATTS_PER_WATT,
        )

    def read_energy_joules(self, uuid: str) -> float | None:
        """Read the energy counter: a number of steps, each of so many microjoules."""
        with self._call(uuid) as smi:
            count = smi.amdsmi_get_energy_count(self._handle(uuid)[1])
        return float(count["energy_accumulator"] * count["counter_resolution"] / MICROJOULES_PER_JOULE)

    def process_ids(self, uuid: str) -> list[int]:
        """List the processes on a GPU."""
        with self._call(uuid) as smi:
            return sorted(
                process["pid"] for process in smi.amdsmi_get_gpu_process_list(self._handle(uuid)[1])
            )

    def read_cap(self, uuid: str) -> CapReading:
        """Read the power limit; amdsmi does not tell the written one from the enforced one."""
        with self._call(uuid) as smi:
            cap = smi.amdsmi_get_power_cap_info(self._handle(uuid)[1])["power_cap"] / MICROWATTS_PER_WATT
        return CapReading(requested_watts=cap, enforced_watts=cap)

    def set_cap_watts(self, uuid: str, cap_watts: float) -> None:
        """Write the power limit of the socket."""
        with self._call(uuid) as smi:
            microwatts = round(cap_watts * MICROWATTS_PER_WATT)
            smi.amdsmi_set_power_cap(self._handle(uuid)[1], SOCKET_SENSOR, microwatts)

    def read_sm_clock_hertz(self, uuid: str) -> float:
        """Read the clock that the GPU's processors run at now."""
        with self._call(uuid) as smi:
            megahertz = _number(
                smi.amdsmi_get_clock_info(self._handle(uuid)[1], smi.AmdSmiClkType.GFX)["clk"]
            )
        if megahertz is None:
            raise DeviceError(f"{uuid}: amdsmi tells no clock")
        return megahertz * HERTZ_PER_MEGAHERTZ

    def lock_clock(self, uuid: str, most_hertz: float | None) -> None:
        """Refuse: amdsmi sets a bound, but has no call that takes it away again."""
        raise DeviceError(f"{uuid}: a clock lock on an AMD GPU could not be undone ({most_hertz} Hz refused)")

    def _handle(self, uuid: str) -> tuple[int, Any, str]:
        if uuid not in self._handles:
            raise DeviceError(f"{uuid}: no such AMD GPU, or it does not answer")
        return self._handles[uuid]

    @contextmanager
    def _call(self, what: str) -> Iterator[Any]:
        """Turn the library's errors into DeviceError."""
        smi = self._smi
        if smi is None:
            raise DeviceError(f"{what}: amdsmi is not open")
        try:
            yield smi
        except smi.AmdSmiException as error:
            raise DeviceError(f"{what}: {error}") from None


def _number(value: Any) -> float | None:
    """A number of the library; its "N/A" is unknown."""
    return float(value) if isinstance(value, int | float) else None
