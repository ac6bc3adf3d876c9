"""The optional part of a GPU's reading, on the simulated library and on a stand-in with MIG and old parts."""

from types import SimpleNamespace
from typing import Any

import pytest

from containers.faults.node import NodeBench
from containers.plant.nvml_control import FaultKind
from slurm_power.devices import nvml_details
from slurm_power.devices.nvml import NvmlGpus
from tests.devices.test_nvml import gpus  # noqa: F401 - a fixture
from tests.node.conftest import bench, node_folder, nvml_library  # noqa: F401 - fixtures of the node's tests


def test_reasons_are_words_with_the_time_each_has_held(bench: NodeBench, gpus: NvmlGpus) -> None:  # noqa: F811
    bench.gpus.stop_clock()
    assert gpus.read(bench.uuids[0]).throttle_reasons == ("idle",)
    bench.gpus.set_load(0, demand_watts=650.0, static_watts=80.0, compute_bound_ratio=0.5, lease_seconds=None)
    gpus.set_cap_watts(bench.uuids[0], 300.0)
    bench.gpus.set_fault(0, FaultKind.POWER_BRAKE, value=0.9)
    bench.gpus.pass_time(10.0)
    reading, truth = gpus.read(bench.uuids[0]), bench.gpus.truth(0)
    assert reading.throttle_reasons is not None
    assert {"power cap", "power brake", "hardware slowdown"} <= set(reading.throttle_reasons)
    assert reading.throttle_seconds is not None
    assert reading.throttle_seconds["power cap"] == pytest.approx(truth.capped_seconds, abs=0.01)
    assert reading.throttle_seconds["power brake"] == pytest.approx(10.0, abs=0.1)


def test_the_instant_is_ahead_of_the_average(bench: NodeBench, gpus: NvmlGpus) -> None:  # noqa: F811
    bench.gpus.stop_clock()
    bench.gpus.pass_time(5.0)
    bench.gpus.set_load(0, demand_watts=600.0, static_watts=80.0, compute_bound_ratio=0.5, lease_seconds=None)
    bench.gpus.pass_time(0.5)
    reading, truth = gpus.read(bench.uuids[0]), bench.gpus.truth(0)
    assert reading.power_instant_watts == pytest.approx(truth.instant_watts, abs=0.01)
    assert reading.power_average_watts == reading.power_watts == pytest.approx(truth.average_watts, abs=0.01)
    assert truth.instant_watts > truth.average_watts + 50.0
    assert reading.memory_clock_hertz is not None
    assert reading.memory_clock_hertz > 1e9
    assert (reading.mig_enabled, reading.mig_uuids) == (False, ())


def test_processes_are_listed(bench: NodeBench, gpus: NvmlGpus) -> None:  # noqa: F811
    assert gpus.process_ids(bench.uuids[0]) == []
    bench.gpus.add_process(0, 4711)
    bench.gpus.add_process(0, 42)
    assert gpus.process_ids(bench.uuids[0]) == [42, 4711]


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


def refuse(code: int) -> Any:
    def call(*_arguments: object) -> object:
        raise NvmlError(code)

    return call


def standin(**calls: Any) -> Any:
    """A module like pynvml that offers these calls alone."""
    names = (
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetMaxMigDeviceCount",
        "nvmlDeviceGetMigDeviceHandleByIndex",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetArchitecture",
    )
    return SimpleNamespace(
        NVMLError=NvmlError, NVML_CLOCK_MEM=2, **{**{name: refuse(13) for name in names}, **calls}
    )


def parted(handle: str, index: int) -> str:
    if index % 2:
        raise NvmlError(6)
    return f"{handle}/{index}"


def with_mig() -> Any:
    processes = {"gpu/0": [7, 9], "gpu/2": [8]}
    return standin(
        nvmlDeviceGetMigMode=lambda _handle: (1, 1),
        nvmlDeviceGetMaxMigDeviceCount=lambda _handle: 4,
        nvmlDeviceGetMigDeviceHandleByIndex=parted,
        nvmlDeviceGetUUID=lambda part: f"MIG-{part}",
        nvmlDeviceGetComputeRunningProcesses=lambda part: [SimpleNamespace(pid=p) for p in processes[part]],
    )


def test_mig_instances_are_named_and_their_processes_found() -> None:
    found = nvml_details.mig_of(with_mig(), "gpu")
    assert (found.enabled, found.uuids) == (True, ("MIG-gpu/0", "MIG-gpu/2"))
    assert nvml_details.process_ids(with_mig(), "gpu") == [7, 8, 9]


def test_what_is_not_offered_is_unknown_and_what_fails_is_an_error() -> None:
    found = nvml_details.details(standin(), "gpu")
    assert (found.memory_clock_hertz, found.throttle_reasons) == (None, None)
    assert nvml_details.mig_of(standin(), "gpu") == nvml_details.Mig(enabled=None, uuids=())
    with pytest.raises(NvmlError, match="15"):
        nvml_details.mig_of(standin(nvmlDeviceGetMigMode=refuse(15)), "gpu")


@pytest.mark.parametrize(
    ("architecture", "name", "average"),
    [
        (9, "NVIDIA H100 80GB HBM3", True),
        (7, "NVIDIA A40", True),
        (7, "NVIDIA RTX A4000", True),
        (7, "NVIDIA A100-SXM4-80GB", False),
        (7, "NVIDIA A30", False),
        (5, "Tesla V100-SXM2-32GB", False),
    ],
)
def test_only_some_parts_average_the_old_power_call(architecture: int, name: str, average: bool) -> None:
    nvml = standin(
        nvmlDeviceGetArchitecture=lambda _handle: architecture, nvmlDeviceGetName=lambda _handle: name
    )
    assert nvml_details.usage_is_average(nvml, "gpu") is average
    assert not nvml_details.usage_is_average(standin(), "gpu")


def test_a_new_bit_is_shown_as_its_number() -> None:
    assert nvml_details.reason_words(0x4 | 0x4000) == ("power cap", "reason 0x4000")
    assert nvml_details.reason_words(0) == ()
