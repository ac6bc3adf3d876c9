"""NVIDIA GPUs through NVML (nvidia-ml-py): readings and power limits, in watts, joules, hertz and ratios.

GPUs are named by UUID and looked up by it at each call: the index order changes when a GPU drops out.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from slurm_power import clock
from slurm_power.devices import nvml_details
from slurm_power.model.reading import CapReading, GpuReading
from slurm_power.model.units import HERTZ_PER_MEGAHERTZ, MILLIJOULES_PER_JOULE, MILLIWATTS_PER_WATT
from slurm_power.ports import DeviceError

Answer = TypeVar("Answer")

# Field ids of nvml.h. ENFORCED counts limits set out of band, REQUESTED is what was written last.
FIELD_POWER_AVERAGE = 185
FIELD_POWER_INSTANT = 186
FIELD_LIMIT_MIN = 187
FIELD_LIMIT_MAX = 188
FIELD_LIMIT_DEFAULT = 189
FIELD_LIMIT_ENFORCED = 190
FIELD_LIMIT_REQUESTED = 192
# Nanoseconds for which a reason has held the GPU back so far.
THROTTLE_FIELDS = {74: "power cap", 269: "software thermal", 270: "hardware thermal", 271: "power brake"}
READ_FIELDS = [
    FIELD_POWER_AVERAGE,
    FIELD_POWER_INSTANT,
    FIELD_LIMIT_MIN,
    FIELD_LIMIT_MAX,
    FIELD_LIMIT_DEFAULT,
    FIELD_LIMIT_ENFORCED,
    FIELD_LIMIT_REQUESTED,
    *THROTTLE_FIELDS,
]
CAP_FIELDS = [FIELD_LIMIT_ENFORCED, FIELD_LIMIT_REQUESTED]

# nvmlValueType_t: which member of the value union is filled.
VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")

NANOSECONDS_PER_SECOND = 1e9

# How often a library that has lost a GPU is loaded anew, so that one that came back is seen.
RELOAD_SECONDS = 5.0


class NvmlGpus:
    """The NVIDIA GPUs of this machine. May be called from several threads at once.

    A GPU that is lost raises DeviceError for itself alone. NVML shows it again only after a new start of the
    library, which is tried now and then while something is lost and no call is under way.
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._lock = threading.Lock()
        self._calls_under_way = 0
        self._reload_at_seconds: float | None = None
        self._facts: dict[str, tuple[int, str, nvml_details.Mig]] = {}

    def open(self) -> None:
        """Load libnvidia-ml.so.1 and start it; raises DeviceError without a driver."""
        import pynvml  # noqa: PLC0415 - a node without NVIDIA's driver must still start

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._nvml = None
            raise DeviceError(f"NVML: {error}") from None

    def close(self) -> None:
        """Shut NVML down: as long as it runs no GPU can be reset."""
        with self._lock:
            if self._nvml is not None:
                nvml, self._nvml = self._nvml, None
                try:
                    nvml.nvmlShutdown()
                except nvml.NVMLError as error:
                    raise DeviceError(f"NVML: {error}") from None

    def uuids(self) -> list[str]:
        """UUIDs of the GPUs that answer now, in slot order."""
        found = {}
        with self._call("NVML") as nvml:
            for index in range(nvml.nvmlDeviceGetCount()):
                try:
                    handle = nvml.nvmlDeviceGetHandleByIndex(index)
                    uuid = nvml.nvmlDeviceGetUUID(handle)
                    slot = nvml.nvmlDeviceGetMinorNumber(handle)
                    mig = nvml_details.mig_of(nvml, handle)
                    found[uuid] = (slot, nvml.nvmlDeviceGetName(handle), mig)
                except nvml.NVMLError:
                    self._want_reload()
        self._facts.update(found)
        return sorted(found, key=lambda uuid: found[uuid][0])

    def read(self, uuid: str) -> GpuReading:
        """Read one GPU. Its power is the driver's average over a second if it has one, else the instant."""
        with self._call(uuid) as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            fields = _fields(nvml, handle, READ_FIELDS)
            utilization = _optional(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu, 0)
            clock_megahertz = _optional(
                nvml, lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM), 0
            )
            celsius = _optional(
                nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU), 0
            )
            average_watts, instant_watts, power_watts = _power_watts(nvml, handle, fields)
            requested_milliwatts, enforced_milliwatts = _caps(nvml, handle, fields)
            low_milliwatts, high_milliwatts, default_milliwatts = _constraints(nvml, handle, fields)
            details = nvml_details.details(nvml, handle)
            slot, name, mig = self._facts.get(uuid) or self._learn(nvml, uuid, handle)
        return GpuReading(
            uuid=uuid,
            slot=slot,
            name=name,
            power_watts=power_watts,
            power_average_watts=average_watts,
            power_instant_watts=instant_watts,
            energy_joules=None,
            utilization_ratio=utilization / 100.0,
            sm_clock_hertz=clock_megahertz * HERTZ_PER_MEGAHERTZ,
            temperature_celsius=float(celsius),
            requested_cap_watts=requested_milliwatts / MILLIWATTS_PER_WATT,
            enforced_cap_watts=enforced_milliwatts / MILLIWATTS_PER_WATT,
            default_cap_watts=default_milliwatts / MILLIWATTS_PER_WATT,
            min_cap_watts=low_milliwatts / MILLIWATTS_PER_WATT,
            max_cap_watts=high_milliwatts / MILLIWATTS_PER_WATT,
            memory_clock_hertz=details.memory_clock_hertz,
            throttle_reasons=details.throttle_reasons,
            throttle_seconds=_throttle_seconds(fields),
            mig_enabled=mig.enabled,
            mig_uuids=mig.uuids,
        )

    def read_energy_joules(self, uuid: str) -> float | None:
        """Read the energy counter, which counts from the load of the driver; None on a GPU without one."""
        with self._call(uuid) as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            millijoules = _optional(nvml, lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle), None)
        return None if millijoules is None else millijoules / MILLIJOULES_PER_JOULE

    def process_ids(self, uuid: str) -> list[int]:
        """List the processes that compute on a GPU, those on its MIG instances included."""
        with self._call(uuid) as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            none: list[int] = []
            return _optional(nvml, lambda: nvml_details.process_ids(nvml, handle), none)

    def read_cap(self, uuid: str) -> CapReading:
        """Read the power limit: as last written by anybody, and as enforced."""
        with self._call(uuid) as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            requested_milliwatts, enforced_milliwatts = _caps(nvml, handle, _fields(nvml, handle, CAP_FIELDS))
        return CapReading(
            requested_watts=requested_milliwatts / MILLIWATTS_PER_WATT,
            enforced_watts=enforced_milliwatts / MILLIWATTS_PER_WATT,
        )

    def set_cap_watts(self, uuid: str, cap_watts: float) -> None:
        """Write the power limit, to the milliwatt. Only a read-back proves that it took.

        This is the first version of the call: nvidia-ml-py drops the return code of the second.
        """
        with self._call(uuid) as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            nvml.nvmlDeviceSetPowerManagementLimit(handle, round(cap_watts * MILLIWATTS_PER_WATT))

    def read_sm_clock_hertz(self, uuid: str) -> float:
        """Read the clock that the GPU's processors run at now."""
        with self._call(uuid) as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            return float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * HERTZ_PER_MEGAHERTZ)

    def lock_clock(self, uuid: str, most_hertz: float | None) -> None:
        """Let the clock go no higher than ``most_hertz``; None takes the lock away.

        NVML rounds to a clock the part can run at, and has no call that reads a lock back.
        """
        with self._call(uuid) as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            if most_hertz is None:
                nvml.nvmlDeviceResetGpuLockedClocks(handle)
            else:
                nvml.nvmlDeviceSetGpuLockedClocks(handle, 0, int(most_hertz // HERTZ_PER_MEGAHERTZ))

    def _learn(self, nvml: Any, uuid: str, handle: Any) -> tuple[int, str, nvml_details.Mig]:
        name = nvml.nvmlDeviceGetName(handle)
        slot, mig = nvml.nvmlDeviceGetMinorNumber(handle), nvml_details.mig_of(nvml, handle)
        facts = self._facts[uuid] = slot, name, mig
        return facts

    @contextmanager
    def _call(self, what: str) -> Iterator[Any]:
        """Count a call as under way, and turn its errors into DeviceError; they may mean a lost GPU."""
        with self._lock:
            self._reload_if_due(what)
            if self._nvml is None:
                raise DeviceError(f"{what}: NVML is not open")
            nvml = self._nvml
            self._calls_under_way += 1
        try:
            yield nvml
        except nvml.NVMLError as error:
            if error.value in _LOST:
                self._want_reload()
            raise DeviceError(f"{what}: {error}") from None
        finally:
            with self._lock:
                self._calls_under_way -= 1

    def _want_reload(self) -> None:
        if self._reload_at_seconds is None:
            self._reload_at_seconds = clock.monotonic() + RELOAD_SECONDS

    def _reload_if_due(self, what: str) -> None:
        due = self._reload_at_seconds is not None and clock.monotonic() >= self._reload_at_seconds
        if not due or self._calls_under_way or self._nvml is None:
            return
        self._reload_at_seconds = None
        # It may have been down already; the start is what counts.
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            self._want_reload()
            raise DeviceError(f"{what}: NVML does not start again: {error}") from None


# NVML's codes for what only a new start of the library can mend: uninitialized, not found, unknown id,
# driver not loaded, lost GPU, reset required, unknown.
_LOST = frozenset({1, 6, 9, 15, 16, 999})


def _fields(nvml: Any, handle: Any, ids: list[int]) -> dict[int, float]:
    """Field values by id; those the GPU does not know are left out."""
    found: dict[int, float] = {}
    for value in nvml.nvmlDeviceGetFieldValues(handle, ids):
        if value.nvmlReturn == nvml.NVML_SUCCESS and value.valueType < len(VALUE_MEMBERS):
            found[value.fieldId] = getattr(value.value, VALUE_MEMBERS[value.valueType])
        elif value.nvmlReturn in _LOST:
            raise nvml.NVMLError(value.nvmlReturn)
    return found


def _power_watts(
    nvml: Any, handle: Any, fields: dict[int, float]
) -> tuple[float | None, float | None, float]:
    """The average, the instant, and which of both stands for the GPU.

    Without fields there is one call, of which only the architecture tells what it means.
    """
    average, instant = (
        fields[field] / MILLIWATTS_PER_WATT if field in fields else None
        for field in (FIELD_POWER_AVERAGE, FIELD_POWER_INSTANT)
    )
    if average is None and instant is None:
        watts = nvml.nvmlDeviceGetPowerUsage(handle) / MILLIWATTS_PER_WATT
        return (watts, None, watts) if nvml_details.usage_is_average(nvml, handle) else (None, watts, watts)
    if average is not None:
        return average, instant, average
    assert instant is not None
    return None, instant, instant


def _throttle_seconds(fields: dict[int, float]) -> dict[str, float] | None:
    """How long each reason has held so far; None on a GPU that counts none of them."""
    found = {
        word: fields[field] / NANOSECONDS_PER_SECOND
        for field, word in THROTTLE_FIELDS.items()
        if field in fields
    }
    return found or None


def _caps(nvml: Any, handle: Any, fields: dict[int, float]) -> tuple[float, float]:
    """Requested and enforced limit in milliwatts, by the older calls where the fields are not known."""
    requested = fields.get(FIELD_LIMIT_REQUESTED)
    if requested is None:
        requested = nvml.nvmlDeviceGetPowerManagementLimit(handle)
    enforced = fields.get(FIELD_LIMIT_ENFORCED)
    if enforced is None:
        enforced = nvml.nvmlDeviceGetEnforcedPowerLimit(handle)
    return requested, enforced


def _constraints(nvml: Any, handle: Any, fields: dict[int, float]) -> tuple[float, float, float]:
    """Lowest, highest and default limit in milliwatts."""
    low, high = fields.get(FIELD_LIMIT_MIN), fields.get(FIELD_LIMIT_MAX)
    if low is None or high is None:
        low, high = nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
    default = fields.get(FIELD_LIMIT_DEFAULT)
    if default is None:
        default = nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle)
    return low, high, default


def _optional(nvml: Any, call: Callable[[], Answer], default: Answer) -> Answer:
    """What a call says, or ``default`` on a GPU that does not support it."""
    try:
        return call()
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_NOT_SUPPORTED:
            raise
        return default
