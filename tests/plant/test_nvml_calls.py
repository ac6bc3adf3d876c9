"""The NVML calls, as nvidia-ml-py makes them from other processes."""

import os
from pathlib import Path

import pytest

from containers.plant.nvml_control import NodeGpus, create_state, retire_state
from tests.plant.nvml_bench import H100, Bench, NvmlProcess, NvmlRefusedError

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="setting limits and changing the user need root")


@needs_root
def test_cap_is_seen_by_another_process(bench: Bench) -> None:
    bench.train()
    with bench.process() as setter, bench.process() as reader:
        bench.gpus.pass_time(5.0)
        assert reader.number("nvmlDeviceGetPowerUsage", 0) == pytest.approx(650_000, rel=1e-6)
        setter.call("nvmlDeviceSetPowerManagementLimit", 0, 400_000)
        assert reader.number("nvmlDeviceGetPowerManagementLimit", 0) == 400_000
        assert reader.number("nvmlDeviceGetEnforcedPowerLimit", 0) == 400_000
        bench.gpus.pass_time(3.0)
        assert reader.number("nvmlDeviceGetPowerUsage", 0) == pytest.approx(0.97 * 400_000, rel=1e-6)
        assert reader.field(0, 186) == pytest.approx(0.97 * 400_000, rel=1e-6)
        assert reader.number("nvmlDeviceGetPowerManagementLimit", 1) == 700_000


def test_names_and_addresses(bench: Bench) -> None:
    with bench.process() as process:
        assert process.call("nvmlSystemGetDriverVersion") == H100.driver_version
        assert process.call("nvmlSystemGetNVMLVersion") == H100.nvml_version
        assert process.call("nvmlSystemGetCudaDriverVersion") == 13000
        assert process.call("nvmlDeviceGetCount") == 2
        uuids = [process.call("nvmlDeviceGetUUID", gpu) for gpu in (0, 1)]
        assert uuids == [bench.gpus.uuid(0), bench.gpus.uuid(1)]
        assert len(set(uuids)) == 2
        assert process.call("nvmlDeviceGetIndex", bench.gpus.uuid(1)) == 1
        assert process.call("nvmlDeviceGetMinorNumber", 1) == 1
        assert process.call("nvmlDeviceGetName", 0) == H100.model_name
        assert process.call("nvmlDeviceGetSerial", 0) != process.call("nvmlDeviceGetSerial", 1)
        pci = process.call("nvmlDeviceGetPciInfo", 1)
        assert isinstance(pci, dict)
        assert pci["busId"] == f"00000000:{pci['bus']:02X}:00.0"
        assert process.refusal("nvmlDeviceGetHandleByPciBusId", None, pci["busId"]) is None
        assert process.refusal("nvmlDeviceGetHandleByPciBusId", None, "0000:ff:00.0") == "NVMLError_NotFound"
        serial = process.call("nvmlDeviceGetSerial", 1)
        assert process.refusal("nvmlDeviceGetHandleBySerial", None, serial) is None
        assert process.refusal("nvmlDeviceGetHandleByUUID", None, "GPU-0") == "NVMLError_NotFound"
        assert process.refusal("nvmlDeviceGetHandleByIndex", None, 2) == "NVMLError_InvalidArgument"


def test_uuids_outlive_a_new_state_and_differ_between_nodes(nvml_library: Path, tmp_path: Path) -> None:
    uuids = []
    for name in ("c1", "c1", "c2"):
        create_state(nvml_library, tmp_path / "state", name, 1, H100)
        with NodeGpus(nvml_library, tmp_path / "state") as gpus:
            uuids.append(gpus.uuid(0))
        retire_state(nvml_library, tmp_path / "state")
    assert uuids[0] == uuids[1] != uuids[2]


def test_modes_clocks_and_fields(bench: Bench) -> None:
    with bench.process() as process:
        assert process.call("nvmlDeviceGetPowerManagementMode", 0) == 1
        assert process.call("nvmlDeviceGetMigMode", 0) == [0, 0]
        assert process.call("nvmlDeviceGetPowerManagementLimitConstraints", 0) == [200_000, 700_000]
        assert process.call("nvmlDeviceGetPowerManagementDefaultLimit", 0) == 700_000
        assert process.call("nvmlDeviceGetMaxClockInfo", 0, 1) == 1980
        assert process.call("nvmlDeviceGetClockInfo", 0, 1) == 345
        assert process.call("nvmlDeviceGetClockInfo", 0, 2) == 2619
        clocks = process.call("nvmlDeviceGetSupportedGraphicsClocks", 0, 2619)
        assert isinstance(clocks, list)
        assert (clocks[0], clocks[-1], len(clocks)) == (1980, 210, 119)
        assert process.call("nvmlDeviceGetTemperature", 0, 0) == 34
        assert process.call("nvmlDeviceGetTemperatureV", 0, 0) == 34
        fields = process.call("nvmlDeviceGetFieldValues", 0, [187, 188, 189, 190, 192, 12345])
        limits = [[187, 0, 200_000], *([number, 0, 700_000] for number in (188, 189, 190, 192))]
        assert fields == [*limits, [12345, 3, 0]]
        assert process.call("nvmlDeviceGetFieldValues", 0, [[186, 1]]) == [[186, 3, 70_000]]


def test_memory_processes_and_utilization(bench: Bench) -> None:
    bench.train()
    bench.gpus.add_process(0, 4242, memory_bytes=30 * 2**30)
    with bench.process() as process:
        running = process.call("nvmlDeviceGetComputeRunningProcesses", 0)
        assert isinstance(running, list)
        assert [(item["pid"], item["usedGpuMemory"]) for item in running] == [(4242, 30 * 2**30)]
        assert process.call("nvmlDeviceGetComputeRunningProcesses", 1) == []
        memory = process.call("nvmlDeviceGetMemoryInfo", 0)
        assert memory == {"total": 80 * 2**30, "free": 50 * 2**30, "used": 30 * 2**30}
        assert process.call("nvmlDeviceGetUtilizationRates", 0) == {"gpu": 100, "memory": 50}
        assert process.call("nvmlDeviceGetUtilizationRates", 1) == {"gpu": 0, "memory": 0}
        bench.gpus.remove_process(0, 4242)
        assert process.call("nvmlDeviceGetComputeRunningProcesses", 0) == []


def test_missing_function_looks_like_an_old_driver(bench: Bench) -> None:
    with bench.process() as process:
        assert process.refusal("nvmlDeviceGetFanSpeed", 0) == "NVMLError_FunctionNotFound"


@needs_root
def test_limits_outside_the_constraints_are_refused(bench: Bench) -> None:
    with bench.process() as process:
        for milliwatts in (199_999, 700_001, 0):
            assert (
                process.refusal("nvmlDeviceSetPowerManagementLimit", 0, milliwatts)
                == "NVMLError_InvalidArgument"
            )
        assert process.refusal("nvmlDeviceSetGpuLockedClocks", 0, 900, 800) == "NVMLError_InvalidArgument"
        assert process.number("nvmlDeviceGetPowerManagementLimit", 0) == 700_000
    assert bench.gpus.truth(0).set_count == 0


@needs_root
def test_a_user_reads_and_loads_but_sets_nothing(bench: Bench) -> None:
    bench.train()
    with bench.process(user=NOBODY) as user:
        for call, arguments in (
            ("nvmlDeviceSetPowerManagementLimit", (300_000,)),
            ("nvmlDeviceSetGpuLockedClocks", (500, 900)),
            ("nvmlDeviceResetGpuLockedClocks", ()),
            ("nvmlDeviceSetPersistenceMode", (1,)),
        ):
            assert user.refusal(call, 0, *arguments) == "NVMLError_NoPermission"
        bench.gpus.pass_time(2.0)
        assert user.number("nvmlDeviceGetPowerUsage", 0) == pytest.approx(650_000, rel=1e-6)
    child = os.fork()
    if child == 0:
        os.setuid(NOBODY)
        with NodeGpus(bench.library, bench.state) as mine:
            mine.set_load(
                1, demand_watts=300.0, static_watts=50.0, compute_bound_ratio=0.5, lease_seconds=None
            )
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    bench.gpus.pass_time(2.0)
    assert bench.gpus.truth(1).instant_watts == pytest.approx(300.0)


@needs_root
def test_persistence_mode_is_kept(bench: Bench) -> None:
    with bench.process() as process:
        assert process.call("nvmlDeviceGetPersistenceMode", 0) == 0
        process.call("nvmlDeviceSetPersistenceMode", 0, 1)
        assert process.call("nvmlDeviceGetPersistenceMode", 0) == 1
        assert process.call("nvmlDeviceGetPersistenceMode", 1) == 0


def test_no_state_is_no_driver(nvml_library: Path, tmp_path: Path) -> None:
    with NvmlProcess(nvml_library, tmp_path / "missing", start=False) as process:
        assert process.refusal("nvmlInit") == "NVMLError_DriverNotLoaded"
        assert process.refusal("nvmlDeviceGetCount") == "NVMLError_Uninitialized"
    (tmp_path / "torn").write_bytes(b"x" * 100)
    with NvmlProcess(nvml_library, tmp_path / "torn", start=False) as process:
        assert process.refusal("nvmlInit") == "NVMLError_DriverNotLoaded"


def test_retired_state_is_an_unloaded_driver_and_a_new_one_can_be_entered(bench: Bench) -> None:
    with bench.process() as process:
        uuid = process.call("nvmlDeviceGetUUID", 0)
        with pytest.raises(FileExistsError):
            create_state(bench.library, bench.state, "c1", 2, H100)
        retire_state(bench.library, bench.state)
        assert process.refusal("nvmlDeviceGetPowerUsage", 0) == "NVMLError_DriverNotLoaded"
        create_state(bench.library, bench.state, "c1", 2, H100)
        process.call("nvmlShutdown")
        assert process.refusal("nvmlDeviceGetPowerUsage", 0) == "NVMLError_Uninitialized"
        process.call("nvmlInit")
        assert process.call("nvmlDeviceGetUUID", 0) == uuid
        with NodeGpus(bench.library, bench.state) as gpus:
            gpus.set_load(0, demand_watts=500.0, static_watts=0.0, compute_bound_ratio=1.0)
            assert process.call("nvmlDeviceGetUtilizationRates", 0) == {"gpu": 100, "memory": 0}


def test_v2_setter_refuses_what_it_cannot_do(bench: Bench) -> None:
    """nvidia-ml-py drops the return code of this call, so only the read-back can tell."""
    with bench.process() as process:
        process.call("nvmlDeviceSetPowerManagementLimit_v2", 0, 1, 300_000)
        process.call("nvmlDeviceSetPowerManagementLimit_v2", 0, 0, 1)
        assert process.number("nvmlDeviceGetPowerManagementLimit", 0) == 700_000
        process.call("nvmlDeviceSetPowerManagementLimit_v2", 0, 0, 300_000)
        expected = 300_000 if os.geteuid() == 0 else 700_000
        assert process.number("nvmlDeviceGetPowerManagementLimit", 0) == expected


def test_bad_arguments_of_the_control_side(bench: Bench) -> None:
    with pytest.raises(OSError, match="plant_truth"):
        bench.gpus.truth(2)
    with pytest.raises(OSError, match="plant_set_load"):
        bench.gpus.set_load(0, demand_watts=100.0, static_watts=101.0, compute_bound_ratio=0.5)
    with pytest.raises(OSError, match="plant_order"):
        bench.gpus.order_indices([0, 0])
    with pytest.raises(ValueError, match="below zero"):
        bench.gpus.add_process(0, 1, lease_seconds=-1.0)


def test_constants_that_contradict_each_other_are_refused(nvml_library: Path, tmp_path: Path) -> None:
    values = {name: getattr(H100, name) for name in H100.__dataclass_fields__}
    for name, value, problem in (
        ("limit_min_watts", 800.0, "limit_min_watts <= limit_default_watts"),
        ("idle_watts", -1.0, "idle_watts=-1.0"),
        ("cap_time_constant_seconds", 0.0, "time constant is zero"),
        ("model_name", "x" * 64, "model_name"),
    ):
        wrong = type(H100)(**(values | {name: value}))
        with pytest.raises(ValueError, match=problem):
            create_state(nvml_library, tmp_path / "state", "c1", 1, wrong)
        assert list(tmp_path.iterdir()) == []


def test_error_carries_its_code(bench: Bench) -> None:
    with bench.process() as process, pytest.raises(NvmlRefusedError) as refused:
        process.call("nvmlDeviceGetHandleByIndex", None, 7)
    assert refused.value.code == 2
