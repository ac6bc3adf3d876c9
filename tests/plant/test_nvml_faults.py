"""Each injected fault, as nvidia-ml-py sees it from another process and as it is in truth."""

import os
import time

import pytest

from containers.plant.nvml_control import FaultKind
from tests.plant.nvml_bench import Bench

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root set limits")

READS = (
    ("nvmlDeviceGetPowerUsage", ()),
    ("nvmlDeviceGetTotalEnergyConsumption", ()),
    ("nvmlDeviceGetPowerManagementLimit", ()),
    ("nvmlDeviceGetEnforcedPowerLimit", ()),
    ("nvmlDeviceGetUUID", ()),
    ("nvmlDeviceGetIndex", ()),
    ("nvmlDeviceGetUtilizationRates", ()),
    ("nvmlDeviceGetClockInfo", (1,)),
    ("nvmlDeviceGetTemperature", (0,)),
    ("nvmlDeviceGetComputeRunningProcesses", ()),
    ("nvmlDeviceGetCurrentClocksEventReasons", ()),
    ("nvmlDeviceGetFieldValues", ([186],)),
    ("nvmlDeviceSetPowerManagementLimit", (300_000,)),
    ("nvmlDeviceResetGpuLockedClocks", ()),
)


def test_lost_gpu_answers_nothing_and_comes_back(bench: Bench) -> None:
    bench.train()
    with bench.process() as process:
        process.call("nvmlDeviceSetPowerManagementLimit", 0, 500_000)
        bench.gpus.pass_time(3.0)
        bench.gpus.set_fault(0, FaultKind.LOST, duration_seconds=10.0)
        for name, arguments in READS:
            assert process.refusal(name, 0, *arguments) == "NVMLError_GpuIsLost", name
        uuid = bench.gpus.uuid(0)
        assert process.refusal("nvmlDeviceGetHandleByIndex", None, 0) == "NVMLError_GpuIsLost"
        assert process.refusal("nvmlDeviceGetHandleByUUID", None, uuid) == "NVMLError_GpuIsLost"
        assert process.number("nvmlDeviceGetPowerUsage", 1) == 70_000
        bench.gpus.pass_time(10.0)
        assert process.number("nvmlDeviceGetPowerUsage", 0) == pytest.approx(485_000, rel=1e-6)


@pytest.mark.parametrize(
    ("code", "name"),
    [(4, "NVMLError_NoPermission"), (3, "NVMLError_NotSupported"), (999, "NVMLError_Unknown")],
)
def test_refused_write(bench: Bench, code: int, name: str) -> None:
    bench.gpus.set_fault(0, FaultKind.SET_ERROR, value=code)
    with bench.process() as process:
        assert process.refusal("nvmlDeviceSetPowerManagementLimit", 0, 300_000) == name
        assert process.refusal("nvmlDeviceSetGpuLockedClocks", 0, 500, 900) == name
        assert process.number("nvmlDeviceGetPowerManagementLimit", 0) == 700_000
        process.call("nvmlDeviceSetPowerManagementLimit", 1, 300_000)
        bench.gpus.clear_fault(0, FaultKind.SET_ERROR)
        process.call("nvmlDeviceSetPowerManagementLimit", 0, 300_000)
        assert process.number("nvmlDeviceGetPowerManagementLimit", 0) == 300_000


def test_write_that_is_accepted_and_ignored(bench: Bench) -> None:
    bench.gpus.set_fault(0, FaultKind.SET_IGNORED)
    with bench.process() as process:
        process.call("nvmlDeviceSetPowerManagementLimit", 0, 300_000)
        process.call("nvmlDeviceSetGpuLockedClocks", 0, 500, 900)
        assert process.number("nvmlDeviceGetPowerManagementLimit", 0) == 700_000
    truth = bench.gpus.truth(0)
    assert (truth.set_count, truth.limit_requested_watts, truth.lock_high_megahertz) == (2, 700.0, None)


def test_out_of_band_limit_binds_below_the_requested_one(bench: Bench) -> None:
    bench.train()
    with bench.process() as process:
        bench.gpus.set_fault(0, FaultKind.OUT_OF_BAND_LIMIT, value=400.0, duration_seconds=60.0)
        assert process.field(0, 192) == process.number("nvmlDeviceGetPowerManagementLimit", 0) == 700_000
        assert process.field(0, 190) == process.number("nvmlDeviceGetEnforcedPowerLimit", 0) == 400_000
        bench.gpus.pass_time(5.0)
        assert process.field(0, 186) == pytest.approx(388_000, rel=1e-6)
        process.call("nvmlDeviceSetPowerManagementLimit", 0, 300_000)
        assert process.number("nvmlDeviceGetEnforcedPowerLimit", 0) == 300_000
        process.call("nvmlDeviceSetPowerManagementLimit", 0, 600_000)
        assert process.number("nvmlDeviceGetEnforcedPowerLimit", 0) == 400_000
        bench.gpus.pass_time(60.0)
        assert process.number("nvmlDeviceGetEnforcedPowerLimit", 0) == 600_000
        assert process.field(0, 186) == pytest.approx(582_000, rel=1e-6)


def test_slow_call_delays_its_caller_and_nobody_else(bench: Bench) -> None:
    bench.gpus.set_fault(0, FaultKind.SLOW_CALL, value=0.3)
    with bench.process() as process, bench.process() as other:
        begin = time.monotonic()
        other.call("nvmlDeviceGetUUID", 1)
        for _ in range(20):
            bench.gpus.truth(0)
            other.call("nvmlDeviceGetPowerUsage", 1)
        assert time.monotonic() - begin < 0.25
        begin = time.monotonic()
        process.call("nvmlDeviceGetUUID", 1)
        process.call("nvmlDeviceGetCount")
        quick = time.monotonic() - begin
        begin = time.monotonic()
        process.call("nvmlDeviceGetHandleByIndex", None, 0)
        assert time.monotonic() - begin > 0.3 > quick


def test_driver_reload_resets_the_counter_the_limit_and_the_locks(bench: Bench) -> None:
    bench.train()
    with bench.process() as process:
        process.call("nvmlDeviceSetPowerManagementLimit", 0, 400_000)
        process.call("nvmlDeviceSetGpuLockedClocks", 0, 210, 1500)
        process.call("nvmlDeviceSetPersistenceMode", 0, 1)
        bench.gpus.pass_time(10.0)
        assert process.number("nvmlDeviceGetTotalEnergyConsumption", 0) > 3_000_000
        before = bench.gpus.truth(0).energy_joules
        bench.gpus.reload_driver(0)
        assert process.number("nvmlDeviceGetTotalEnergyConsumption", 0) == 0
        assert process.number("nvmlDeviceGetPowerManagementLimit", 0) == 700_000
        assert process.number("nvmlDeviceGetPersistenceMode", 0) == 0
        bench.gpus.pass_time(5.0)
        truth = bench.gpus.truth(0)
        assert truth.lock_high_megahertz is None
        assert truth.instant_watts == pytest.approx(650.0)
        assert truth.energy_joules == pytest.approx(before + truth.counter_joules)


def test_index_order_changes_under_a_running_process(bench: Bench) -> None:
    uuids = [bench.gpus.uuid(slot) for slot in (0, 1)]
    bench.train()
    bench.gpus.pass_time(3.0)
    with bench.process() as old:
        assert old.call("nvmlDeviceGetUUID", 0) == uuids[0]
        bench.gpus.order_indices([1, 0])
        assert old.call("nvmlDeviceGetUUID", 0) == uuids[0]  # a handle stays with its GPU
        assert old.call("nvmlDeviceGetIndex", 0) == 1
        with bench.process() as new:
            assert [new.call("nvmlDeviceGetUUID", index) for index in (0, 1)] == uuids[::-1]
            assert new.number("nvmlDeviceGetPowerUsage", uuids[0]) == pytest.approx(650_000, rel=1e-6)
            assert new.call("nvmlDeviceGetMinorNumber", uuids[0]) == 0


def test_foreign_write(bench: Bench) -> None:
    with bench.process() as process:
        process.call("nvmlDeviceSetPowerManagementLimit", 0, 400_000)
        bench.gpus.write_foreign_limit(0, 650.0)
        assert process.number("nvmlDeviceGetPowerManagementLimit", 0) == 650_000
    assert bench.gpus.truth(0).set_count == 1
    with pytest.raises(OSError, match="plant_foreign_limit"):
        bench.gpus.write_foreign_limit(0, 100.0)


@pytest.mark.parametrize(
    ("kind", "bit", "field"),
    [
        (FaultKind.HARDWARE_SLOWDOWN, 0x8, None),
        (FaultKind.HARDWARE_THERMAL, 0x48, 270),
        (FaultKind.POWER_BRAKE, 0x88, 271),
    ],
)
def test_hardware_slows_the_clock(bench: Bench, kind: FaultKind, bit: int, field: int | None) -> None:
    bench.train()
    bench.gpus.pass_time(5.0)
    bench.gpus.set_fault(0, kind, value=0.5, duration_seconds=4.0)
    bench.gpus.pass_time(3.0)
    with bench.process() as process:
        assert process.number("nvmlDeviceGetCurrentClocksEventReasons", 0) == bit
        assert process.number("nvmlDeviceGetClockInfo", 0, 1) == 990
        bench.gpus.pass_time(5.0)
        assert process.number("nvmlDeviceGetCurrentClocksEventReasons", 0) == 0
        assert process.number("nvmlDeviceGetClockInfo", 0, 1) == 1980
        if field is not None:
            assert process.field(0, field) == pytest.approx(4e9, rel=1e-6)
