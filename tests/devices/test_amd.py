"""The AMD driver on a stand-in for amdsmi: the units, what is unknown, and what goes wrong."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_power.devices import driver, gpu_driver_name
from slurm_power.devices.amd import AmdGpus
from slurm_power.model.reading import CapReading
from slurm_power.ports import DeviceError


class SmiError(Exception):
    """The stand-in's AmdSmiException."""


class Smi(SimpleNamespace):
    """A module like amdsmi 7.0.2 with two GPUs, of which the second does not answer."""

    AmdSmiException = SmiError
    AmdSmiClkType = SimpleNamespace(GFX="gfx", MEM="mem")
    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def __init__(self) -> None:
        super().__init__()
        self.cap_microwatts = 750_000_000
        self.power: dict[str, Any] = {"average_socket_power": "N/A", "current_socket_power": 412}
        self.running = False

    def amdsmi_init(self) -> None:
        self.running = True

    def amdsmi_shut_down(self) -> None:
        self.running = False

    def amdsmi_get_processor_handles(self) -> list[str]:
        return ["first", "second"]

    def amdsmi_get_gpu_device_uuid(self, handle: str) -> str:
        if handle == "second":
            raise SmiError("no answer")
        return "uuid-first"

    def amdsmi_get_gpu_asic_info(self, _handle: str) -> dict[str, str]:
        return {"market_name": "AMD Instinct MI300X"}

    def amdsmi_get_power_info(self, _handle: str) -> dict[str, Any]:
        return self.power

    def amdsmi_get_power_cap_info(self, _handle: str) -> dict[str, int]:
        bounds = {"default_power_cap": 750_000_000, "min_power_cap": 0, "max_power_cap": 750_000_000}
        return {"power_cap": self.cap_microwatts, **bounds}

    def amdsmi_set_power_cap(self, _handle: str, sensor: int, cap: int) -> None:
        assert type(cap) is int
        if cap > 750_000_000:
            raise SmiError("invalid")
        assert sensor == 0
        self.cap_microwatts = cap

    def amdsmi_get_clock_info(self, _handle: str, kind: str) -> dict[str, Any]:
        return {"clk": 2100 if kind == "gfx" else "N/A"}

    def amdsmi_get_gpu_activity(self, _handle: str) -> dict[str, Any]:
        return {"gfx_activity": 75}

    def amdsmi_get_temp_metric(self, *_arguments: object) -> int:
        return 61

    def amdsmi_get_energy_count(self, _handle: str) -> dict[str, Any]:
        return {"energy_accumulator": 2_000_000, "counter_resolution": 15.3, "timestamp": 0}

    def amdsmi_get_gpu_process_list(self, _handle: str) -> list[dict[str, Any]]:
        return [{"pid": 9}, {"pid": 7}]


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch) -> Smi:
    made = Smi()
    monkeypatch.setitem(sys.modules, "amdsmi", made)
    return made


@pytest.fixture
def gpus(smi: Smi) -> AmdGpus:
    made = AmdGpus()
    made.open()
    assert made.uuids() == ["uuid-first"]
    return made


def test_readings_are_in_our_units(gpus: AmdGpus) -> None:
    reading = gpus.read("uuid-first")
    assert (reading.power_watts, reading.power_average_watts, reading.power_instant_watts) == (412, None, 412)
    assert (reading.sm_clock_hertz, reading.memory_clock_hertz) == (2.1e9, None)
    assert (reading.utilization_ratio, reading.temperature_celsius) == (0.75, 61.0)
    assert (reading.min_cap_watts, reading.max_cap_watts, reading.enforced_cap_watts) == (0.0, 750.0, 750.0)
    assert gpus.read_energy_joules("uuid-first") == pytest.approx(30.6)
    assert gpus.process_ids("uuid-first") == [7, 9]


def test_caps_go_out_in_microwatts(gpus: AmdGpus, smi: Smi) -> None:
    gpus.set_cap_watts("uuid-first", 400.5)
    assert smi.cap_microwatts == 400_500_000
    assert gpus.read_cap("uuid-first") == CapReading(requested_watts=400.5, enforced_watts=400.5)
    with pytest.raises(DeviceError, match="uuid-first"):
        gpus.set_cap_watts("uuid-first", 5000.0)


def test_what_cannot_be_undone_or_is_not_told_is_refused(gpus: AmdGpus, smi: Smi) -> None:
    with pytest.raises(DeviceError, match="undone"):
        gpus.lock_clock("uuid-first", 1e9)
    smi.power = {"average_socket_power": "N/A", "current_socket_power": "N/A"}
    with pytest.raises(DeviceError, match="no power"):
        gpus.read("uuid-first")
    with pytest.raises(DeviceError, match="uuid-second"):
        gpus.read("uuid-second")


def test_closed_it_refuses(gpus: AmdGpus, smi: Smi) -> None:
    gpus.close()
    assert not smi.running
    with pytest.raises(DeviceError, match="not open"):
        gpus.uuids()


def test_without_rocm_opening_fails_as_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with pytest.raises(DeviceError, match="amdsmi"):
        driver("amdsmi")().open()


@pytest.mark.parametrize(
    ("modules", "name"),
    [((), "nvml"), (("nvidia",), "nvml"), (("amdgpu",), "amdsmi"), (("amdgpu", "nvidia"), "nvml")],
)
def test_the_kernel_s_modules_choose_the_driver(tmp_path: Path, modules: tuple[str, ...], name: str) -> None:
    for module in modules:
        (tmp_path / module).mkdir()
    assert gpu_driver_name("auto", tmp_path) == name
    assert gpu_driver_name("amdsmi", tmp_path) == "amdsmi"
