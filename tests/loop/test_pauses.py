"""A job paused below the cliff on a live lab: seen at the meter, and it goes on, controller or none."""

import json
import time

import pytest

from tests.loop.bed import Bed

# One training at the floor of its promise leaves the site near 12 kW: this is out of reach of any cap.
CLIFF_WATTS = 9_500
pytestmark = pytest.mark.timeout(300)
LEASE_SECONDS = 10
LEAST_SECONDS = 5
# A cap at its floor takes almost all that flex3 promises: what may be stopped is what ran fast before.
FULL_SPEED_SECONDS = 20
POLICY = f"""
pause_flex = "flex3"
pause_least_seconds = {LEAST_SECONDS}
pause_cost_seconds = 1
"""


@pytest.fixture
def pausing(bed: Bed) -> Bed:
    """The bed with pauses allowed, and leases that are short enough to wait for."""
    text = bed.site_toml.replace("[policy]\n", f"[policy]{POLICY}")
    text = text.replace("[controller]\n", f"[controller]\nhold_lease_seconds = {LEASE_SECONDS}\n")
    bed.site_file.write_text(text)
    bed.lab.restart("powerctld")
    # What little there is in the battery is its reserve.
    bed.plant("set_soc", soc_ratio=0.10)
    return bed


def state(bed: Bed, job: str) -> str:
    return bed.lab.run(
        ["squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T"]
    ).stdout.strip()


def idle(bed: Bed) -> bool:
    return all(gpu["instant_watts"] < 250.0 for gpu in bed.truth()["nodes"]["c1"]["gpus"])


def at_work(bed: Bed) -> bool:
    return all(gpu["instant_watts"] > 250.0 for gpu in bed.truth()["nodes"]["c1"]["gpus"])


def leased(bed: Bed) -> list[str]:
    file = bed.run / "state" / "powerd.c1" / "paused_jobs.json"
    return [row["job_id"] for row in json.loads(file.read_text())["paused"]] if file.exists() else []


def paused(bed: Bed) -> tuple[str, str]:
    """A job that an event has stopped, and the event's name."""
    job = bed.submit(seconds=100)
    bed.run_full(job)
    time.sleep(FULL_SPEED_SECONDS)
    event = bed.announce(CLIFF_WATTS, 300)
    bed.until(lambda: state(bed, job) == "SUSPENDED", "the pause", 60)
    assert leased(bed) == [job]
    bed.until(lambda: idle(bed), "GPUs at rest", 10)
    bed.until(lambda: bed.grid_watts() <= CLIFF_WATTS, "the level at the meter", 10)
    bed.until(lambda: bed.power_job(job).get("paused_seconds") is not None, "its row", 5)
    return job, event


def test_a_job_is_paused_in_an_event_and_goes_on_after_it(pausing: Bed) -> None:
    bed = pausing
    job, event = paused(bed)
    (entry,) = bed.entries("pause", job)
    assert "caps are at their floors" in entry["reason"]
    assert bed.entries("hold", job) == []
    bed.until(lambda: bed.ask("job", job_id=job)["record"].get("paused_seconds"), "its record", 5)
    bed.lab.run(["slurm-power", "cancel-event", event])
    bed.until(lambda: state(bed, job) == "RUNNING", "the job to go on", LEAST_SECONDS + 30)
    bed.until(lambda: at_work(bed), "GPUs at work", 15)
    bed.until(lambda: leased(bed) == [], "no lease", 5)
    assert bed.entries("resume", job)[-1]["actor"] == "guard"


def test_a_paused_job_goes_on_by_itself_when_the_controller_is_killed(pausing: Bed) -> None:
    bed = pausing
    job, _ = paused(bed)
    bed.lab.kill("powerctld")
    seconds = bed.until(lambda: state(bed, job) == "RUNNING", "the job to go on", LEASE_SECONDS + 10)
    assert seconds <= LEASE_SECONDS + 5
    bed.until(lambda: at_work(bed), "GPUs at work", 15)
    bed.until(lambda: leased(bed) == [], "no lease", 5)
