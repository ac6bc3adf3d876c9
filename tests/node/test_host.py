"""Host power on a tree that looks like sysfs, and its split among jobs."""

from pathlib import Path

import pytest

from slurm_power.node.energy import EnergyAccount
from slurm_power.node.host import HostMeter
from slurm_power.node.jobs import NodeJob, NodeJobs


def rapl(sysfs: Path, microjoules: int) -> None:
    folder = sysfs / "class/powercap/intel-rapl:0"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("name", "package-0"),
        ("max_energy_range_uj", "1000000000"),
        ("energy_uj", microjoules),
    ):
        (folder / name).write_text(f"{text}\n")


def board(sysfs: Path, watts: int) -> None:
    folder = sysfs / "class/hwmon/hwmon0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text("power_meter\n")
    (folder / "power1_average").write_text(f"{watts}000000\n")


def test_rapl_gives_energy_and_its_mean_power(tmp_path: Path) -> None:
    rapl(tmp_path, 100_000_000)
    meter = HostMeter(tmp_path)
    first = meter.read(10.0)
    assert (first.source, first.watts, first.energy_joules) == ("rapl", None, 0.0)
    rapl(tmp_path, 700_000_000)
    second = meter.read(15.0)
    assert (second.watts, second.energy_joules) == (120.0, 600.0)
    assert second.cpu_utilization_ratio is not None
    assert 0.0 <= second.cpu_utilization_ratio <= 1.0


def test_the_board_s_sensor_comes_first_since_it_sees_more(tmp_path: Path) -> None:
    rapl(tmp_path, 0)
    board(tmp_path, 300)
    meter = HostMeter(tmp_path)
    meter.read(0.0)
    board(tmp_path, 500)
    reading = meter.read(10.0)
    assert (reading.source, reading.watts, reading.energy_joules) == ("hwmon", 500.0, 4000.0)


def test_a_host_without_sensors_is_unknown_and_says_why(tmp_path: Path) -> None:
    reading = HostMeter(tmp_path).read(0.0)
    assert (reading.watts, reading.energy_joules, reading.source) == (None, None, "")
    assert "hwmon" in reading.error
    assert "RAPL" in reading.error


def test_how_busy_it_is_is_read_seldom_what_it_draws_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def cpu_percent(interval: float | None) -> float:
        looks.append(interval)
        return 7.0

    monkeypatch.setattr("slurm_power.node.host.psutil.cpu_percent", cpu_percent)
    meter = HostMeter(tmp_path)
    for second in range(11):
        board(tmp_path, 300 + second)
        reading = meter.read(float(second))
        assert (reading.watts, reading.cpu_utilization_ratio) == (300.0 + second, 0.07)
    assert reading.energy_joules == 3050.0
    assert len(looks) == 3, "at 0, 5 and 10 s"


def job(job_id: str, *uuids: str) -> NodeJob:
    made = NodeJob(job_id=job_id, user="a", uid=1, gpu_slots=(), workload=None, flex=None)
    made.energy = {uuid: EnergyAccount() for uuid in uuids}
    return made


def test_the_host_is_split_by_gpus_and_from_the_start_of_each_job_on(tmp_path: Path) -> None:
    jobs = NodeJobs(tmp_path, "boot")
    first, second = job("1", "a", "b"), job("2", "c")
    jobs.start(first)
    jobs.lead_on(first, 100.0)
    jobs.take_host(1000.0, 100.0, 8)
    jobs.take_host(1000.0 + 800.0, 105.0, 8)
    jobs.start(second)
    jobs.lead_on(second, 107.0)
    jobs.take_host(1800.0 + 1600.0, 109.0, 8)
    assert first.host_joules == pytest.approx(800.0 * 2 / 8 + 1600.0 * 2 / 8)
    assert second.host_joules == pytest.approx(400.0 * 2.0 * 1 / 8)
    jobs.take_host(None, 110.0, 8)
    jobs.take_host(9000.0, 120.0, 8)
    assert second.host_joules == pytest.approx(100.0), "nothing is made up over a gap"


def test_a_rack_that_was_read_for_a_part_of_the_time_is_unknown(tmp_path: Path) -> None:
    jobs = NodeJobs(tmp_path, "boot")
    mine = job("1", "a")
    jobs.take_power("a", 500.0, 100.0)
    jobs.start(mine)
    jobs.lead_on(mine, 100.0)
    jobs.take_rack(1_000.0, 100.0)
    for second in range(101, 201):
        jobs.take_power("a", 500.0, float(second))
        jobs.take_rack(None if 150 <= second < 153 else 1_000.0, float(second))
    told = mine.energy_message()
    assert told["pdu_joules"] == pytest.approx(97_000.0)
    assert told["residual_joules"] == pytest.approx(47_000.0)
    for second in range(201, 211):  # the controller is away
        jobs.take_power("a", 500.0, float(second))
        jobs.take_rack(None, float(second))
    told = mine.energy_message()
    assert (told["pdu_joules"], told["residual_joules"]) == (None, None)
    jobs.save_if_changed(1e9)
    again = NodeJobs(tmp_path, "boot")
    again.load()
    (kept,) = again.all()
    assert (kept.pdu_read_seconds, kept.pdu_due_seconds) == (97.0, 110.0)
