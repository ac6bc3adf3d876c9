"""The NVML driver on a real GPU: reads only, nothing is ever set. Run with ``-m hardware`` where one is."""

import time
from collections.abc import Iterator

import pytest

from slurm_power.devices.nvml import NvmlGpus
from slurm_power.ports import DeviceError

pytestmark = pytest.mark.hardware


@pytest.fixture
def gpus() -> Iterator[NvmlGpus]:
    found = NvmlGpus()
    found.open()
    yield found
    found.close()


def test_readings_are_plausible(gpus: NvmlGpus) -> None:
    uuids = gpus.uuids()
    assert uuids
    for uuid in uuids:
        reading = gpus.read(uuid)
        assert reading.uuid == uuid
        assert uuid.startswith("GPU-")
        assert 5.0 < reading.power_watts < 1.5 * reading.max_cap_watts
        assert 0.0 < reading.min_cap_watts <= reading.default_cap_watts <= reading.max_cap_watts
        assert reading.enforced_cap_watts <= reading.requested_cap_watts <= reading.max_cap_watts
        assert 0.0 <= reading.utilization_ratio <= 1.0
        assert 100e6 < reading.sm_clock_hertz < 4e9
        assert 10.0 < reading.temperature_celsius < 110.0


def test_cap_reads_agree_with_the_whole_reading(gpus: NvmlGpus) -> None:
    for uuid in gpus.uuids():
        reading, cap = gpus.read(uuid), gpus.read_cap(uuid)
        assert (cap.requested_watts, cap.enforced_watts) == (
            reading.requested_cap_watts,
            reading.enforced_cap_watts,
        )


def test_energy_counter_agrees_with_power(gpus: NvmlGpus) -> None:
    """Joules of five seconds against the mean of the averaged power: the units of both are right."""
    uuid = gpus.uuids()[0]
    first, began = gpus.read_energy_joules(uuid), time.monotonic()
    watts = []
    while time.monotonic() - began < 5.0:
        watts.append(gpus.read(uuid).power_watts)
        time.sleep(0.1)
    last, seconds = gpus.read_energy_joules(uuid), time.monotonic() - began
    assert first is not None
    assert last is not None
    assert (last - first) / seconds == pytest.approx(sum(watts) / len(watts), rel=0.15)


def test_an_unknown_gpu_is_an_error_of_its_own(gpus: NvmlGpus) -> None:
    with pytest.raises(DeviceError):
        gpus.read("GPU-00000000-0000-0000-0000-000000000000")
    assert gpus.read(gpus.uuids()[0]).power_watts > 0.0


def test_released_handles_can_be_opened_again(gpus: NvmlGpus) -> None:
    uuid = gpus.uuids()[0]
    gpus.close()
    with pytest.raises(DeviceError, match="not open"):
        gpus.read(uuid)
    gpus.open()
    assert gpus.read(uuid).uuid == uuid
