"""The plant's side of the simulated NVML library: builds it, makes nodes of GPUs, sets loads and faults.

GPUs are named by slot, which never changes; the NVML index may be permuted. PHYSICS.md beside the C sources
holds the formulas; the library holds no constants of its own, see `GpuConstants`.
"""

import ctypes
import enum
import fcntl
import os
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

SOURCE_FOLDER = Path(__file__).parent / "nvml"
LIBRARY_NAME = "libnvidia-ml.so.1"
LOAD_LEASE_SECONDS = 2.0
_COMPILE = ("cc", "-std=c11", "-Wall", "-Wextra", "-Werror")
_SHARED = ("-fPIC", "-fvisibility=hidden", "-shared", f"-Wl,-soname,{LIBRARY_NAME}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuConstants:
    """Everything about a GPU model that the library needs; the names are its keys. Meanings: PHYSICS.md."""

    idle_watts: float
    loaded_idle_watts: float
    limit_min_watts: float
    limit_max_watts: float
    limit_default_watts: float
    cap_dead_time_seconds: float
    cap_time_constant_seconds: float
    load_time_constant_seconds: float
    regulator_delay_seconds: float
    regulator_release_seconds: float
    cap_tracking_ratio: float
    peak_ratio: float
    clock_exponent: float
    clock_min_ratio: float
    duty_min_ratio: float
    clock_max_megahertz: float
    clock_min_megahertz: float
    clock_idle_megahertz: float
    clock_step_megahertz: float
    memory_clock_megahertz: float
    thermal_ambient_celsius: float
    thermal_resistance_celsius_per_watt: float
    thermal_time_constant_seconds: float
    thermal_slowdown_celsius: float
    thermal_hysteresis_celsius: float
    thermal_slowdown_ratio: float
    memory_bytes: float
    cuda_driver_version: float
    model_name: str
    driver_version: str
    nvml_version: str

    def as_text(self) -> str:
        """Return the "key=value" lines that the library reads."""
        return "".join(f"{item.name}={getattr(self, item.name)}\n" for item in fields(self))


class FaultKind(enum.IntEnum):
    """What can be wrong with a GPU for a while, and what its value means."""

    LOST = 0  # no value: every call answers GPU_IS_LOST
    SET_ERROR = 1  # the NVML return code of every set and reset
    SET_IGNORED = 2  # no value: sets answer success and change nothing
    OUT_OF_BAND_LIMIT = 3  # watts
    SLOW_CALL = 4  # seconds added to each call
    HOT_AMBIENT = 5  # degrees Celsius added to the ambient temperature
    HARDWARE_SLOWDOWN = 6  # highest clock ratio
    HARDWARE_THERMAL = 7  # highest clock ratio
    POWER_BRAKE = 8  # highest clock ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTruth:
    """What is so, whatever NVML answers; energy and work count from creation on, through every reset."""

    now_seconds: float
    instant_watts: float
    average_watts: float
    energy_joules: float
    counter_joules: float
    work_seconds: float
    performance_ratio: float
    clock_megahertz: float
    temperature_celsius: float
    limit_requested_watts: float
    limit_enforced_watts: float
    limit_active_watts: float
    lock_low_megahertz: float | None
    lock_high_megahertz: float | None
    capped_seconds: float
    load_active: bool
    process_count: int
    set_count: int
    reasons: int


def build_library(destination: Path, *, options: Sequence[str] = ("-O2",)) -> Path:
    """Compile the library into the folder `destination` and return its path.

    The finished file takes its name in one step: processes that start meanwhile see the old or the new one.
    Raises RuntimeError with the compiler's words.
    """
    destination.mkdir(parents=True, exist_ok=True)
    library = destination / LIBRARY_NAME
    draft = destination / f".{LIBRARY_NAME}.{os.getpid()}"
    sources = sorted(str(source) for source in SOURCE_FOLDER.glob("*.c"))
    command = [*_COMPILE, *options, *_SHARED, "-o", str(draft), *sources, "-lpthread", "-lm"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        draft.unlink(missing_ok=True)
        message = f"{' '.join(command)}:\n{result.stderr}"
        raise RuntimeError(message)
    draft.rename(library)
    return library


_POINTER = ctypes.c_void_p
_SLOT = ctypes.c_uint
_NUMBER = ctypes.c_double
_SIGNATURES: dict[str, tuple[object, ...]] = {
    "plant_create": (
        ctypes.c_char_p,
        ctypes.c_char_p,
        _SLOT,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_uint,
    ),
    "plant_retire": (ctypes.c_char_p,),
    "plant_open": (ctypes.c_char_p, ctypes.POINTER(_POINTER)),
    "plant_gpu_count": (_POINTER, ctypes.POINTER(ctypes.c_uint)),
    "plant_uuid": (_POINTER, _SLOT, ctypes.c_char_p, ctypes.c_uint),
    "plant_set_load": (
        *(_POINTER, _SLOT, ctypes.c_uint64, _NUMBER, _NUMBER, _NUMBER, _NUMBER),
        *(ctypes.c_uint, _NUMBER),
    ),
    "plant_clear_load": (_POINTER, _SLOT, ctypes.c_uint64),
    "plant_add_process": (_POINTER, _SLOT, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, _NUMBER),
    "plant_remove_process": (_POINTER, _SLOT, ctypes.c_uint),
    "plant_set_fault": (_POINTER, _SLOT, ctypes.c_uint, _NUMBER, _NUMBER),
    "plant_clear_fault": (_POINTER, _SLOT, ctypes.c_uint),
    "plant_reload_driver": (_POINTER, _SLOT),
    "plant_foreign_limit": (_POINTER, _SLOT, _NUMBER),
    "plant_order": (_POINTER, ctypes.POINTER(ctypes.c_uint), ctypes.c_uint),
    "plant_manual_clock": (_POINTER, ctypes.c_uint),
    "plant_pass_time": (_POINTER, _NUMBER),
    "plant_truth": (_POINTER, _SLOT, ctypes.POINTER(_NUMBER), ctypes.c_uint),
}


@cache
def _load(library: Path) -> ctypes.CDLL:
    """Load the library once; raises OSError when it is none of ours or of another version."""
    loaded = ctypes.CDLL(str(library))
    for name, arguments in _SIGNATURES.items():
        function = getattr(loaded, name, None)
        if function is None:
            message = f"{library}: not the simulated NVML library (no {name})"
            raise OSError(message)
        function.argtypes = arguments
        function.restype = ctypes.c_int
    loaded.plant_close.argtypes = (_POINTER,)
    loaded.plant_close.restype = None
    loaded.plant_truth_names.restype = ctypes.c_char_p
    names = tuple(loaded.plant_truth_names().decode().split())
    if names != tuple(item.name for item in fields(GpuTruth)):
        message = f"{library}: of another version, it tells {names}"
        raise OSError(message)
    return loaded


def _check(code: int, what: object) -> None:
    if code != 0:
        raise OSError(code, os.strerror(code), str(what))


def create_state(library: Path, path: Path, node_name: str, gpu_count: int, constants: GpuConstants) -> None:
    """Make the state file of one node: `gpu_count` idle GPUs.

    Raises FileExistsError when there is one already (an old one must be retired first, else its users and
    the new one's would see different GPUs), and ValueError when the constants contradict each other.
    """
    problem = ctypes.create_string_buffer(200)
    code = _load(library).plant_create(
        os.fsencode(path), node_name.encode(), gpu_count, constants.as_text().encode(), problem, len(problem)
    )
    if problem.value:
        raise ValueError(problem.value.decode())
    _check(code, path)


def retire_state(library: Path, path: Path) -> None:
    """Remove a state file; those who still have it mapped get DRIVER_NOT_LOADED from then on."""
    _check(_load(library).plant_retire(os.fsencode(path)), path)


def _duration(seconds: float | None) -> float:
    """Return the library's word for a duration: negative means for ever."""
    if seconds is None:
        return -1.0
    if seconds < 0:
        message = f"duration below zero: {seconds}"
        raise ValueError(message)
    return seconds


class NodeGpus:
    """The GPUs of one simulated node, seen from the physical side. Methods raise OSError on bad arguments."""

    def __init__(self, library: Path, path: Path) -> None:
        self._library = _load(library)
        self._path = path
        self._node = _POINTER()
        self._owner = secrets.randbits(64)
        _check(self._library.plant_open(os.fsencode(path), ctypes.byref(self._node)), path)

    def close(self) -> None:
        """Unmap the node. The loads set stay until their leases end."""
        if self._node.value is not None:
            self._library.plant_close(self._node)
            self._node = _POINTER()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, name: str, *arguments: object) -> None:
        if self._node.value is None:
            message = f"{self._path}: closed"
            raise ValueError(message)
        _check(getattr(self._library, name)(self._node, *arguments), f"{self._path}: {name}{arguments}")

    @property
    def gpu_count(self) -> int:
        """Return the number of GPUs of the node."""
        count = ctypes.c_uint()
        self._call("plant_gpu_count", ctypes.byref(count))
        return count.value

    def uuid(self, gpu: int) -> str:
        """Return the UUID under which NVML knows the GPU."""
        text = ctypes.create_string_buffer(64)
        self._call("plant_uuid", gpu, text, len(text))
        return text.value.decode()

    def set_load(
        self,
        gpu: int,
        *,
        demand_watts: float,
        static_watts: float,
        compute_bound_ratio: float,
        utilization_ratio: float = 1.0,
        resident: bool = True,
        lease_seconds: float | None = LOAD_LEASE_SECONDS,
    ) -> None:
        """Put a load on the GPU, or refresh or change it; it ends `lease_seconds` after the last call.

        `demand_watts` is the draw without cap at full clock, `static_watts` the part of it no clock changes,
        `compute_bound_ratio` the share of the throughput that follows the clock.
        """
        self._call(
            "plant_set_load",
            gpu,
            self._owner,
            demand_watts,
            static_watts,
            compute_bound_ratio,
            utilization_ratio,
            int(resident),
            _duration(lease_seconds),
        )

    def clear_load(self, gpu: int) -> None:
        """End the load, if it is the one that this object has set."""
        self._call("plant_clear_load", gpu, self._owner)

    def add_process(
        self, gpu: int, pid: int, *, memory_bytes: int = 0, lease_seconds: float | None = None
    ) -> None:
        """List a process on the GPU, or refresh it; None keeps it until it is removed."""
        self._call("plant_add_process", gpu, self._owner, pid, memory_bytes, _duration(lease_seconds))

    def remove_process(self, gpu: int, pid: int) -> None:
        """Take a process off the GPU's list; nothing happens when it is not on it."""
        self._call("plant_remove_process", gpu, pid)

    def set_fault(
        self, gpu: int, kind: FaultKind, *, value: float = 0.0, duration_seconds: float | None = None
    ) -> None:
        """Begin a fault; None lasts until it is cleared."""
        self._call("plant_set_fault", gpu, int(kind), value, _duration(duration_seconds))

    def clear_fault(self, gpu: int, kind: FaultKind) -> None:
        """End a fault."""
        self._call("plant_clear_fault", gpu, int(kind))

    def reload_driver(self, gpu: int) -> None:
        """Forget what a driver reload forgets: energy counter to 0, default limit, no clock locks."""
        self._call("plant_reload_driver", gpu)

    def has_clients(self) -> bool:
        """Whether any process has NVML open: then `nvidia-smi --gpu-reset` would refuse."""
        with self._path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def write_foreign_limit(self, gpu: int, limit_watts: float) -> None:
        """Change the requested limit as another administrator's tool would."""
        self._call("plant_foreign_limit", gpu, limit_watts)

    def order_indices(self, slots: Sequence[int]) -> None:
        """Renumber: NVML index i becomes the GPU in slot `slots[i]`."""
        self._call("plant_order", (ctypes.c_uint * len(slots))(*slots), len(slots))

    def stop_clock(self) -> None:
        """Stop the node's time; it moves by `pass_time` only."""
        self._call("plant_manual_clock", 1)

    def start_clock(self) -> None:
        """Let the node's time run on from where it is."""
        self._call("plant_manual_clock", 0)

    def pass_time(self, seconds: float) -> None:
        """Jump forward in time, whether the clock is stopped or runs."""
        self._call("plant_pass_time", seconds)

    def truth(self, gpu: int) -> GpuTruth:
        """Advance the GPU to now and tell its true state."""
        names = [item.name for item in fields(GpuTruth)]
        values = (_NUMBER * len(names))()
        self._call("plant_truth", gpu, values, len(names))
        told = dict(zip(names, values, strict=True))
        return GpuTruth(
            **{name: told[name] for name in names if name not in _NOT_PLAIN_NUMBERS},
            lock_low_megahertz=told["lock_low_megahertz"] or None,
            lock_high_megahertz=told["lock_high_megahertz"] or None,
            load_active=told["load_active"] != 0,
            process_count=int(told["process_count"]),
            set_count=int(told["set_count"]),
            reasons=int(told["reasons"]),
        )


_NOT_PLAIN_NUMBERS = frozenset(
    {"lock_low_megahertz", "lock_high_megahertz", "load_active", "process_count", "set_count", "reasons"}
)
