"""A node's power counters, as Slurm's plugin reads them, over a restart of the plant."""

from pathlib import Path

from containers.plant.pm_counters import PmCounters
from slurm_power.devices.hwmon import Hwmon


def shown(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().split()


def test_they_read_as_slurm_wants_them(tmp_path: Path) -> None:
    counters = PmCounters(tmp_path)
    counters.take(5432.6, 1000.4, 900.0)
    counters.take(5432.6, 1234.4, 912.5)
    assert shown(tmp_path, "power")[:2] == ["5433", "W"]
    assert shown(tmp_path, "energy")[:2] == ["1235", "J"]
    assert shown(tmp_path, "freshness") == ["2"]
    assert {file.name for file in tmp_path.iterdir()} == {
        *("energy", "power", "power_cap", "freshness", "generation", "startup", "version", "hwmon")
    }
    sensor = Hwmon(tmp_path / "hwmon")
    sensor.open()
    assert sensor.read_watts() == 912.5


def test_a_counter_never_reads_zero_which_slurm_takes_for_none(tmp_path: Path) -> None:
    PmCounters(tmp_path).take(0.0, 0.0, 0.0)
    assert shown(tmp_path, "energy")[0] == "1"


def test_a_plant_that_starts_anew_goes_on(tmp_path: Path) -> None:
    PmCounters(tmp_path).take(100.0, 5000.0, 50.0)
    again = PmCounters(tmp_path)
    again.take(100.0, 10.0, 50.0)
    assert shown(tmp_path, "energy")[0] == "5011"
    (tmp_path / "energy").write_text("")
    PmCounters(tmp_path).take(100.0, 10.0, 50.0)
    assert shown(tmp_path, "energy")[0] == "11"
