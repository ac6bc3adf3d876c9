"""What NVML tells beside power: why a GPU is slow, its memory clock, MIG instances, processes.

Every call here is optional: a GPU or driver that lacks it answers None, never an error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from slurm_power.model.reading import THROTTLE_WORDS
from slurm_power.model.units import HERTZ_PER_MEGAHERTZ

Answer = TypeVar("Answer")

# Bits of nvmlClocksEventReasons in the order of THROTTLE_WORDS.
REASON_BITS = (0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100)
# nvml.h: the mean over a second on Ampere (but not GA100) and newer, the instant on GA100 and older.
ARCHITECTURE_AMPERE = 7
GA100_NAMES = ("A100", "A30", "A800")
# invalid argument, not supported, no permission, not found, function not found: not offered here.
NOT_OFFERED = frozenset({2, 3, 4, 6, 13})


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """The optional part of a reading."""

    memory_clock_hertz: float | None
    throttle_reasons: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mig:
    """Whether a GPU is cut into instances, and which; None where that is not offered."""

    enabled: bool | None
    uuids: tuple[str, ...]


def details(nvml: Any, handle: Any) -> Details:
    """Read what is optional of a GPU and changes from second to second."""
    memory_megahertz = offered(nvml, lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM))
    mask = offered(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return Details(
        memory_clock_hertz=None if memory_megahertz is None else memory_megahertz * HERTZ_PER_MEGAHERTZ,
        throttle_reasons=None if mask is None else reason_words(mask),
    )


def mig_of(nvml: Any, handle: Any) -> Mig:
    """Read how a GPU is cut; that changes only while nothing runs on it."""
    mode = offered(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle)[0])
    parts = mig_handles(nvml, handle) if mode else []
    return Mig(
        enabled=None if mode is None else bool(mode),
        uuids=tuple(nvml.nvmlDeviceGetUUID(part) for part in parts),
    )


def reason_words(mask: int) -> tuple[str, ...]:
    """The words of a mask of reasons; a bit that newer drivers have added is shown as its number."""
    words = [word for bit, word in zip(REASON_BITS, THROTTLE_WORDS, strict=True) if mask & bit]
    unknown = mask & ~sum(REASON_BITS)
    return tuple([*words, f"reason {unknown:#x}"] if unknown else words)


def mig_handles(nvml: Any, handle: Any) -> list[Any]:
    """Handles of the MIG instances of a GPU; slots without an instance are skipped."""
    count = offered(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0
    found = (_mig_handle(nvml, handle, index) for index in range(count))
    return [part for part in found if part is not None]


def _mig_handle(nvml: Any, handle: Any, index: int) -> Any:
    return offered(nvml, lambda: nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))


def process_ids(nvml: Any, handle: Any) -> list[int]:
    """Processes that compute on a GPU; in MIG mode the driver lists them at the instances."""
    mode = offered(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle)[0])
    parts = mig_handles(nvml, handle) if mode else [handle]
    found = {process.pid for part in parts for process in nvml.nvmlDeviceGetComputeRunningProcesses(part)}
    return sorted(found)


def usage_is_average(nvml: Any, handle: Any) -> bool:
    """Whether GetPowerUsage is the mean over a second on this GPU."""
    architecture = offered(nvml, lambda: nvml.nvmlDeviceGetArchitecture(handle))
    if architecture is None or architecture < ARCHITECTURE_AMPERE:
        return False
    words = str(nvml.nvmlDeviceGetName(handle)).split()
    return architecture > ARCHITECTURE_AMPERE or not any(word.startswith(GA100_NAMES) for word in words)


def offered(nvml: Any, call: Callable[[], Answer]) -> Answer | None:
    """What a call says, or None where it is not offered."""
    try:
        return call()
    except nvml.NVMLError as error:
        if error.value not in NOT_OFFERED:
            raise
        return None
