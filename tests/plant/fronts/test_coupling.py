"""One closed loop: a job's load and a cap written through NVML show at the PDU and at the meter."""

import json
import signal
import time

import pytest

from tests.plant.fronts.lab import PlantLab, SunSpec, eventually

ALL = "0,1,2,3,4,5,6,7"
POWER = ".1.3.6.1.4.1.318.1.1.26.4.3.1.5.1"


def working(lab: PlantLab, node: str) -> bool:
    """Tell whether a node's GPUs are past their job's start-up."""
    gpus = lab.truth()["nodes"][node]["gpus"]
    return all(gpu["instant_watts"] > 300.0 for gpu in gpus)


def test_load_and_cap_show_at_pdu_and_meter(lab: PlantLab, meter: SunSpec) -> None:
    idle_meter, idle_pdu = meter.get(203, "W"), lab.pdu_value("rack1", POWER) * 10
    other_rack = lab.pdu_value("rack2", POWER) * 10
    job = lab.job("c1", ALL, "--workload", "training", "--seconds", "100", "--seed", "3")
    eventually(lambda: working(lab, "c1"), 15.0)
    eventually(lambda: lab.pdu_value("rack1", POWER) * 10 > idle_pdu + 5000, 5.0)
    eventually(lambda: meter.get(203, "W") > idle_meter + 6500.0, 5.0)
    assert lab.pdu_value("rack2", POWER) * 10 == pytest.approx(other_rack, abs=20)
    full = meter.get(203, "W")
    before = time.monotonic()
    lab.cap("c1", range(8), 300)
    written = time.monotonic()
    # Two GPU-kilowatts less, times losses and overhead; swings of the load make less than half of that.
    eventually(lambda: meter.get(203, "W") < full - 2000.0, 5.0)
    assert time.monotonic() - written < 2.0
    eventually(lambda: lab.pdu_value("rack1", POWER) * 10 < idle_pdu + 4500, 5.0)
    assert time.monotonic() - before < 5.0
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=10)
    lab.cap("c1", range(8), 700)
    assert job.returncode == 143
    last = json.loads(output)
    assert not last["finished"]
    assert last["gpu_slots"] == list(range(8))
    assert len(last["joules_per_gpu"]) == 8
    eventually(lambda: lab.truth()["nodes"]["c1"]["gpus"][0]["process_count"] == 0, 3.0)
    assert not lab.truth()["nodes"]["c1"]["gpus"][0]["load_active"]


def test_a_cap_makes_the_same_work_take_longer(lab: PlantLab) -> None:
    arguments = ("--workload", "training", "--work-units", "3", "--seed", "3", "--name", "work")
    lab.cap("c3", range(4), 250)
    capped, free = lab.job("c3", "0,1,2,3", *arguments), lab.job("c3", "4,5,6,7", *arguments)
    results = [json.loads(job.communicate(timeout=40)[0]) for job in (capped, free)]
    lab.cap("c3", range(4), 700)
    assert [job.returncode for job in (capped, free)] == [0, 0]
    slow, fast = results
    assert slow["work_units"] == pytest.approx(3.0, abs=0.15)
    assert fast["throughput_ratio"] == pytest.approx(1.0, abs=0.03)
    assert 0.3 < slow["throughput_ratio"] < 0.8
    assert slow["seconds"] > fast["seconds"] + 1.0
    assert slow["mean_watts"] < fast["mean_watts"]
    assert slow["name"] == "work"


def test_a_killed_job_leaves_no_load_behind(lab: PlantLab) -> None:
    job = lab.job("c4", "2", "--workload", "inference", "--seconds", "60")
    eventually(lambda: lab.truth()["nodes"]["c4"]["gpus"][2]["process_count"] == 1)
    job.kill()
    job.communicate()
    eventually(lambda: lab.truth()["nodes"]["c4"]["gpus"][2]["process_count"] == 0, 4.0)
    assert not lab.truth()["nodes"]["c4"]["gpus"][2]["load_active"]


@pytest.mark.parametrize(
    ("slots", "arguments", "words"),
    [
        ("", ("--seconds", "1"), "no GPUs"),
        ("8", ("--seconds", "1"), "the node has 8 GPUs"),
        ("GPU-nonsense", ("--seconds", "1"), "names no GPUs of this node"),
        ("0", (), "one of --seconds and --work-units"),
        ("0", ("--seconds", "-1"), "must be above 0"),
        ("0", ("--seconds", "1", "--batch", "0"), "at least 1"),
    ],
)
def test_a_load_that_cannot_run_says_why(
    lab: PlantLab, slots: str, arguments: tuple[str, ...], words: str
) -> None:
    job = lab.job("c1", slots, "--workload", "training", *arguments)
    output, errors = job.communicate(timeout=10)
    assert job.returncode == 2
    assert words in errors
    assert output == ""


def test_energy_balances(lab: PlantLab) -> None:
    truth = lab.truth()
    energy = truth["energy_joules"]
    ess = truth["ess"]
    overhead = lab.ask("constants")["constants"]["site"]["overhead_ratio"]
    assert energy["load"] >= overhead * sum(energy["racks"].values()) - 1.0
    grid = energy["grid_import"] - energy["grid_export"]
    auxiliary = grid + energy["ess_discharge"] - energy["load"]
    assert auxiliary > 0.0
    assert energy["ess_discharge"] == pytest.approx(ess["injected_joules"] - ess["absorbed_joules"], abs=1.0)


def test_gpu_faults_reach_nvml(lab: PlantLab) -> None:
    lab.fault("gpu.c2.5", "out_of_band_limit", value=250.0)
    assert lab.truth()["nodes"]["c2"]["gpus"][5]["limit_enforced_watts"] == 250.0
    lab.ask("clear_faults", target="gpu.c2.5")
    assert lab.truth()["nodes"]["c2"]["gpus"][5]["limit_enforced_watts"] == 700.0
    lab.fault("gpu.c2.5", "foreign_limit", value=400.0)
    assert lab.truth()["nodes"]["c2"]["gpus"][5]["limit_requested_watts"] == 400.0
    lab.fault("gpu.c2.5", "counter_reset")
    after = lab.truth()["nodes"]["c2"]["gpus"][5]
    assert after["counter_joules"] < after["energy_joules"]
    assert after["limit_requested_watts"] == 700.0


def test_the_control_socket_explains_itself(lab: PlantLab) -> None:
    assert "known: truth" in lab.ask("nonsense")["error"]
    assert "no target 'toaster'" in lab.ask("fault", target="toaster", fault="x")["error"]
    assert "unknown fault" in lab.ask("fault", target="meter", fault="explode")["error"]
    assert "is not within" in lab.ask("fault", target="pcs", fault="hot", value=1e9)["error"]
    assert "'target' is missing" in lab.ask("fault", fault="freeze")["error"]
    assert "outside" in lab.ask("set_soc", soc_ratio=1.5)["error"]
    assert "is not between" in lab.ask("base_load", watts=-5.0)["error"]
    assert "freeze" in lab.ask("targets")["targets"]["meter"]
