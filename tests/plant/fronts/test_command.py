"""`python -m containers.plant run`: what it refuses, how it ends, and that a scenario happens."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plant.fronts.lab import ROOT, PlantLab, SunSpec, eventually

SCENARIO = """
[[entry]]
at_seconds = 0.6
kind = "grid_event"
circuit = "grid"
limit_watts = 20000
duration_seconds = 60
reason = "demand response"

[[entry]]
at_seconds = 0.2
kind = "load"
watts = 4000

[[entry]]
at_seconds = 0.4
kind = "fault"
target = "pcs"
fault = "local"

[[entry]]
at_seconds = 0.8
kind = "clear_faults"
"""


@pytest.fixture
def own_lab() -> Iterator[PlantLab]:
    made = PlantLab()
    yield made
    made.close()


def outcome(lab: PlantLab, *more: str) -> tuple[int, str]:
    """Run the plant until it ends by itself."""
    done = subprocess.run(
        lab.command(*more), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stderr


def test_a_scenario_happens(own_lab: PlantLab) -> None:
    file = own_lab.run / "scenario.toml"
    file.write_text(SCENARIO)
    own_lab.start("--scenario", str(file))
    eventually(lambda: own_lab.truth()["base_load_watts"] == 4000.0, 5.0)
    eventually(lambda: len(own_lab.ask("events")["events"]) == 1, 5.0)
    event = own_lab.ask("events")["events"][0]
    assert (event["sequence"], event["circuit"], event["limit_watts"]) == (1, "grid", 20000.0)
    assert own_lab.ask("events", after_sequence=1)["events"] == []
    eventually(lambda: not own_lab.truth()["ess"]["local"], 5.0)
    assert own_lab.ask("start_scenario")["entries"] == 4
    eventually(lambda: own_lab.truth()["ess"]["local"], 5.0)
    eventually(lambda: len(own_lab.ask("events")["events"]) == 2, 5.0)
    assert own_lab.stop() == (0, "")
    assert not (own_lab.run / "run" / "plant.ready").exists()
    assert not (own_lab.run / "run" / "plant.sock").exists()


def test_all_problems_of_a_scenario_are_named_at_once(own_lab: PlantLab) -> None:
    file = own_lab.run / "scenario.toml"
    entries = [
        'at_seconds = 1\nkind = "lode"',
        'at_seconds = -1\nkind = "load"\nwatts = 5',
        'at_seconds = 1\nkind = "load"\nwats = 5',
        'at_seconds = 1\nkind = "fault"\ntarget = "toaster"\nfault = "freeze"',
        'at_seconds = 1\nkind = "fault"\ntarget = "pdu.rack1"\nfault = "local"',
        'at_seconds = 1\nkind = "clear_faults"\ntarget = "gpu.c1.8"',
    ]
    file.write_text("".join(f"[[entry]]\n{entry}\n" for entry in entries))
    status, errors = outcome(own_lab, "--scenario", str(file))
    assert status == 2
    for words in (
        "entry[0].kind: 'lode' is not one of",
        "entry[1].at_seconds: -1 is below 0",
        "entry[2].wats: unknown key; did you mean watts?",
        "entry[2].watts: missing",
        "entry[3].target: there is no 'toaster'",
        "entry[4].fault: pdu.rack1 has no 'local'",
        "entry[5].target: there is no 'gpu.c1.8'",
    ):
        assert words in errors


def test_a_wrong_testbed_is_refused(own_lab: PlantLab) -> None:
    file = own_lab.run / "etc" / "testbed.json"
    record = json.loads(file.read_text())
    del record["ports"]["meter"]
    file.write_text(json.dumps(record))
    status, errors = outcome(own_lab)
    assert status == 2
    assert "'meter' is missing" in errors
    file.unlink()
    assert outcome(own_lab)[0] == 2


def test_a_front_that_cannot_listen_ends_the_plant(own_lab: PlantLab) -> None:
    with socket.create_server(("127.0.0.1", own_lab.pcs_port)):
        status, errors = outcome(own_lab)
    assert status == 1
    assert "listen" in errors
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", own_lab.pdu_ports["rack2"]))
        status, errors = outcome(own_lab)
    assert status == 1
    assert "Address already in use" in errors


def test_a_front_that_breaks_ends_the_plant(own_lab: PlantLab) -> None:
    own_lab.start()
    process = own_lab.process
    assert process is not None
    # The state file is the GPUs' memory: a node without it is broken hardware that nobody scripted.
    (own_lab.run / "nvml" / "c2.state").write_bytes(b"")
    process.wait(timeout=20)
    assert process.returncode != 0


def test_two_plants_do_not_share_a_lab_and_a_restart_finds_its_gpus(own_lab: PlantLab) -> None:
    own_lab.start()
    status, errors = outcome(own_lab)
    assert status == 2
    assert "another plant serves this lab" in errors
    own_lab.cap("c1", [0], 333)
    process = own_lab.process
    assert process is not None
    process.kill()
    process.communicate()
    own_lab.start()
    assert own_lab.truth()["nodes"]["c1"]["gpus"][0]["limit_requested_watts"] == 333.0
    SunSpec(own_lab.pcs_port).close()


def test_each_front_can_have_its_own_address(own_lab: PlantLab) -> None:
    own_lab.start("--bind", "127.0.0.2", "--bind", "pcs=127.0.0.1")
    SunSpec(own_lab.pcs_port).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", own_lab.meter_port), timeout=2)
    socket.create_connection(("127.0.0.2", own_lab.meter_port), timeout=2).close()
    status, errors = outcome(own_lab, "--bind", "toaster=127.0.0.1")
    assert status == 2
    assert "the fronts are" in errors


def test_wrong_constants_are_refused(own_lab: PlantLab, tmp_path: Path) -> None:
    wrong = tmp_path / "plant.toml"
    wrong.write_text(own_lab.plant_file.read_text().replace("[pcs.rated_watts]", "[pcs.rated_wats]"))
    own_lab.plant_file = wrong
    status, errors = outcome(own_lab)
    assert status == 2
    assert "pcs.rated_wats: unknown key" in errors
