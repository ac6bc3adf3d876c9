"""What the tests of the simulated NVML library share: a GPU model, nodes with a stopped clock, NVML users."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from containers.plant.nvml_control import GpuConstants, NodeGpus, create_state

H100 = GpuConstants(
    idle_watts=70.0,
    loaded_idle_watts=120.0,
    limit_min_watts=200.0,
    limit_max_watts=700.0,
    limit_default_watts=700.0,
    cap_dead_time_seconds=0.1,
    cap_time_constant_seconds=0.1,
    load_time_constant_seconds=0.02,
    regulator_delay_seconds=0.1,
    regulator_release_seconds=0.5,
    cap_tracking_ratio=0.97,
    peak_ratio=1.2575,
    clock_exponent=1.36,
    clock_min_ratio=0.56,
    duty_min_ratio=0.05,
    clock_max_megahertz=1980.0,
    clock_min_megahertz=210.0,
    clock_idle_megahertz=345.0,
    clock_step_megahertz=15.0,
    memory_clock_megahertz=2619.0,
    thermal_ambient_celsius=30.0,
    thermal_resistance_celsius_per_watt=0.06,
    thermal_time_constant_seconds=30.0,
    thermal_slowdown_celsius=87.0,
    thermal_hysteresis_celsius=3.0,
    thermal_slowdown_ratio=0.6,
    memory_bytes=80.0 * 2**30,
    cuda_driver_version=13000.0,
    model_name="NVIDIA H100 80GB HBM3",
    driver_version="580.95.05",
    nvml_version="13.580.95.05",
)


class NvmlRefusedError(Exception):
    """NVML answered with an error; `name` is nvidia-ml-py's class for it."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} ({code})")
        self.name = name
        self.code = code


class NvmlProcess:
    """Another process with its own NVML session, driven over a pipe."""

    def __init__(
        self,
        library: Path,
        state: Path,
        *,
        user: int | None = None,
        wrapper: Sequence[str] = (),
        start: bool = True,
    ) -> None:
        # The client drops its rights itself, since a user may not even enter the checkout it comes from.
        uid = [] if user is None else [str(user)]
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(library.parent),
            "PLANT_NVML_STATE": str(state),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = subprocess.Popen(
            [*wrapper, sys.executable, str(Path(__file__).with_name("nvml_client.py")), *uid],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        if start:
            self.call("nvmlInit")

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, name: str, gpu: int | str | None = None, *arguments: object) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"call": name, "gpu": gpu, "arguments": arguments}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        told = json.loads(self._process.stdout.readline())
        if "error" in told:
            raise NvmlRefusedError(told["error"], told["code"])
        return told["value"]

    def number(self, name: str, gpu: int | str | None = None, *arguments: object) -> int:
        value = self.call(name, gpu, *arguments)
        assert isinstance(value, int)
        return value

    def field(self, gpu: int | str, field_id: int) -> int:
        fields = self.call("nvmlDeviceGetFieldValues", gpu, [field_id])
        assert isinstance(fields, list)
        told_id, code, value = fields[0]
        assert told_id == field_id
        if code:
            raise NvmlRefusedError("field", code)
        assert isinstance(value, int)
        return value

    def refusal(self, name: str, gpu: int | str | None = None, *arguments: object) -> str | None:
        """Return the name of the error that the call ends with, None when it succeeds."""
        try:
            self.call(name, gpu, *arguments)
        except NvmlRefusedError as refused:
            return refused.name
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process.stdout.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A node of two GPUs and what is needed to open it from elsewhere."""

    library: Path
    state: Path
    gpus: NodeGpus

    def process(
        self, *, user: int | None = None, wrapper: Sequence[str] = (), start: bool = True
    ) -> NvmlProcess:
        return NvmlProcess(self.library, self.state, user=user, wrapper=wrapper, start=start)

    def train(self, demand_watts: float = 650.0, *, gpu: int = 0) -> None:
        """Put on a load that is half bound by the clock and draws a sixth of its watts whatever the clock."""
        self.gpus.set_load(
            gpu,
            demand_watts=demand_watts,
            static_watts=demand_watts / 6,
            compute_bound_ratio=0.5,
            lease_seconds=None,
        )


def open_bench(library: Path, folder: Path, constants: GpuConstants = H100, *, gpu_count: int = 2) -> Bench:
    """Make a node whose clock stands still."""
    state = folder / "c1.state"
    create_state(library, state, "c1", gpu_count, constants)
    gpus = NodeGpus(library, state)
    gpus.stop_clock()
    return Bench(library=library, state=state, gpus=gpus)
