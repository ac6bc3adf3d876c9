"""The NVML driver, through the unmodified binding, on simulated GPUs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.faults.node import NodeBench, wait_until
from containers.plant.nvml_control import FaultKind
from slurm_power.devices import driver
from slurm_power.devices.nvml import NvmlGpus
from slurm_power.model.reading import CapReading
from slurm_power.ports import DeviceError
from tests.node.conftest import bench, node_folder, nvml_library  # noqa: F401 - fixtures of the node's tests


@pytest.fixture
def gpus(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> Iterator[NvmlGpus]:  # noqa: F811 - a fixture
    # The binding finds the library because the bench has loaded one of that name.
    monkeypatch.setenv("PLANT_NVML_STATE", bench.environment["PLANT_NVML_STATE"])
    made = NvmlGpus()
    made.open()
    yield made
    made.close()


def test_reads_in_watts_joules_hertz_and_ratios(bench: NodeBench, gpus: NvmlGpus) -> None:  # noqa: F811
    bench.gpus.set_load(
        1, demand_watts=500.0, static_watts=100.0, compute_bound_ratio=0.5, lease_seconds=None
    )
    bench.gpus.stop_clock()
    bench.gpus.pass_time(5.0)
    reading = gpus.read(bench.uuids[1])
    truth = bench.gpus.truth(1)
    assert reading.power_watts == pytest.approx(truth.average_watts, abs=1.0)
    assert gpus.read_energy_joules(bench.uuids[1]) == pytest.approx(truth.counter_joules, abs=0.01)
    assert reading.sm_clock_hertz == pytest.approx(truth.clock_megahertz * 1e6, rel=0.02)
    assert reading.temperature_celsius == pytest.approx(truth.temperature_celsius, abs=1.0)
    assert (reading.utilization_ratio, reading.slot) == (1.0, 1)
    limits = (reading.min_cap_watts, reading.default_cap_watts, reading.max_cap_watts)
    assert limits == (200.0, 700.0, 700.0)
    assert (reading.requested_cap_watts, reading.enforced_cap_watts, reading.error) == (700.0, 700.0, "")


def test_gpus_keep_their_names_when_the_index_order_changes(
    bench: NodeBench,  # noqa: F811
    gpus: NvmlGpus,
) -> None:
    assert gpus.uuids() == bench.uuids
    bench.gpus.order_indices([3, 1, 0, 2])
    assert gpus.uuids() == bench.uuids
    gpus.set_cap_watts(bench.uuids[0], 412.345)
    assert bench.caps() == [412.345, 700.0, 700.0, 700.0]
    assert gpus.read(bench.uuids[3]).slot == 3


def test_requested_and_enforced_are_told_apart(bench: NodeBench, gpus: NvmlGpus) -> None:  # noqa: F811
    bench.gpus.set_fault(0, FaultKind.OUT_OF_BAND_LIMIT, value=300.0)
    gpus.set_cap_watts(bench.uuids[0], 400.0)
    assert gpus.read_cap(bench.uuids[0]) == CapReading(requested_watts=400.0, enforced_watts=300.0)


@pytest.mark.parametrize("cap_watts", [1.0, 5000.0])
def test_a_refused_write_is_an_error(bench: NodeBench, gpus: NvmlGpus, cap_watts: float) -> None:  # noqa: F811
    with pytest.raises(DeviceError, match=bench.uuids[0]):
        gpus.set_cap_watts(bench.uuids[0], cap_watts)
    assert bench.cap(0) == 700.0


def test_a_lost_gpu_fails_alone_and_comes_back(bench: NodeBench, gpus: NvmlGpus) -> None:  # noqa: F811
    bench.gpus.set_fault(2, FaultKind.LOST)
    with pytest.raises(DeviceError, match=bench.uuids[2]):
        gpus.read(bench.uuids[2])
    assert gpus.uuids() == [uuid for slot, uuid in enumerate(bench.uuids) if slot != 2]
    assert gpus.read(bench.uuids[3]).uuid == bench.uuids[3]
    bench.gpus.clear_fault(2, FaultKind.LOST)
    wait_until(lambda: bench.uuids[2] in gpus.uuids(), "the GPU's return", seconds=12.0)


def test_an_unknown_gpu_is_an_error(gpus: NvmlGpus) -> None:
    with pytest.raises(DeviceError, match="GPU-none"):
        gpus.read_cap("GPU-none")


def test_closed_it_refuses_and_may_be_opened_again(bench: NodeBench, gpus: NvmlGpus) -> None:  # noqa: F811
    gpus.close()
    with pytest.raises(DeviceError, match="not open"):
        gpus.uuids()
    gpus.close()
    gpus.open()
    assert gpus.uuids() == bench.uuids


def test_without_a_driver_library_opening_fails_as_a_device(tmp_path: Path) -> None:
    code = (
        "from slurm_power.devices import driver\nfrom slurm_power.ports import DeviceError\n"
        "try: driver('nvml')().open()\nexcept DeviceError as error: print('refused', error)"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("refused NVML")


def test_the_table_knows_its_drivers() -> None:
    assert driver("nvml") is NvmlGpus
    with pytest.raises(KeyError):
        driver("abacus")
