"""RAPL and hwmon on trees that look like sysfs."""

from pathlib import Path

import pytest

from slurm_power.devices.hwmon import Hwmon
from slurm_power.devices.rapl import Rapl
from slurm_power.ports import DeviceError

RANGE = 262_143_328_850


def zone(root: Path, folder: str, name: str, microjoules: int) -> Path:
    (root / folder).mkdir()
    (root / folder / "name").write_text(f"{name}\n")
    (root / folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    file = root / folder / "energy_uj"
    file.write_text(f"{microjoules}\n")
    return file


@pytest.fixture
def packages(tmp_path: Path) -> list[Path]:
    """Two sockets with memory, and zones that must not be counted again."""
    found = [
        zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_000_000),
        zone(tmp_path, "intel-rapl:0:1", "dram", 0),
        zone(tmp_path, "intel-rapl:1", "package-1", 5_000_000),
    ]
    zone(tmp_path, "intel-rapl:0:0", "core", 10**9)
    zone(tmp_path, "intel-rapl:2", "psys", 10**9)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", RANGE - 1_000_000)
    return found


def test_packages_and_memory_add_up_across_a_wrap(tmp_path: Path, packages: list[Path]) -> None:
    rapl = Rapl(tmp_path)
    rapl.open()
    assert rapl.read_joules() == 0.0
    for file, microjoules in zip(packages, (2_000_000, 500_000, 6_000_000), strict=True):
        file.write_text(f"{microjoules}\n")
    assert rapl.read_joules() == pytest.approx(3.0 + 0.5 + 1.0)


def test_a_host_without_counters_or_without_the_right_to_read_them_says_so(
    tmp_path: Path, packages: list[Path]
) -> None:
    with pytest.raises(DeviceError, match="no counter"):
        Rapl(tmp_path / "nowhere").open()
    packages[1].write_text("not a number")
    with pytest.raises(DeviceError, match="intel-rapl:0:1"):
        Rapl(tmp_path).open()
    packages[1].unlink()
    with pytest.raises(DeviceError, match="intel-rapl:0:1"):
        Rapl(tmp_path).open()


def test_a_counter_that_goes_away_later_is_an_error(tmp_path: Path, packages: list[Path]) -> None:
    rapl = Rapl(tmp_path)
    rapl.open()
    packages[2].unlink()
    with pytest.raises(DeviceError, match="energy_uj"):
        rapl.read_joules()


def sensor(root: Path, folder: str, name: str, **files: int) -> None:
    (root / folder).mkdir()
    (root / folder / "name").write_text(f"{name}\n")
    for file, microwatts in files.items():
        (root / folder / file).write_text(f"{microwatts}\n")


def test_the_board_s_meter_is_read_and_no_part_s(tmp_path: Path) -> None:
    sensor(tmp_path, "hwmon0", "nvme", power1_input=5_000_000)
    sensor(tmp_path, "hwmon1", "power_meter", power1_average=412_000_000, power1_input=500_000_000)
    hwmon = Hwmon(tmp_path)
    hwmon.open()
    assert hwmon.read_watts() == 412.0


def test_a_sensor_may_be_named_and_may_be_missing(tmp_path: Path) -> None:
    sensor(tmp_path, "hwmon0", "ina226", power1_input=90_000_000)
    with pytest.raises(DeviceError, match="power_meter"):
        Hwmon(tmp_path).open()
    named = Hwmon(tmp_path, "ina226")
    named.open()
    assert named.read_watts() == 90.0
    (tmp_path / "hwmon0" / "power1_input").write_text("?")
    with pytest.raises(DeviceError, match="power1_input"):
        named.read_watts()
