"""Slurm keeps the power budget: a window now, one in the future, and what holds when all of ours is dead."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.loop.bed import Bed

# A training on one node adds 8 x (650 - 75 + 225) W with the losses on the way; the idle lab draws 8.1 kW.
NODE_JOB_WATTS = 7_832
IDLE_WATTS = 8_100
TOTAL_WATTS = 52_000
BELOW_ONE_JOB_WATTS = 14_000


@pytest.fixture
def admitting(bed: Bed) -> Iterator[Bed]:
    """The lab with admission on and no contract below its rating: nothing is kept while there is no event."""
    text = bed.site_toml.replace("[admission]\nenabled = false", "[admission]\nenabled = true")
    assert text != bed.site_toml
    bed.site_file.write_text(text.replace("limit_watts = 32000\n", ""))
    bed.lab.restart("powerctld")
    bed.until((bed.run / "state/admission/expected_watts").exists, "the file for job_submit", 20)
    bed.until(lambda: admission(bed).get("other_watts"), "a known load without licences", 20)
    yield bed
    if bed.lab.is_running("powerctld"):
        for event in bed.glance()["events"]:
            # One that is recovering may be over by itself meanwhile.
            bed.lab.run(["slurm-power", "cancel-event", event["event_id"]], check=False)
    bed.site_file.write_text(bed.site_toml)
    bed.lab.restart("powerctld")
    bed.until(lambda: not windows(bed), "the end of all windows", 10)
    bed.until(lambda: not (bed.run / "state/admission/expected_watts").exists(), "no file", 5)


def admission(bed: Bed) -> dict[str, Any]:
    found: dict[str, Any] = bed.glance()["admission"] or {}
    return found


def windows(bed: Bed) -> dict[str, dict[str, str]]:
    """Our reservations, as Slurm has them; for some seconds it lists what is over as well."""
    lines = bed.lab.run(["scontrol", "-o", "show", "reservation"]).stdout.splitlines()
    rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    return {
        row["ReservationName"]: row
        for row in rows
        if row.get("ReservationName", "").startswith("slurmpower_")
        and slurm_seconds(row["EndTime"]) > time.time()
    }


def laid(bed: Bed) -> bool:
    """All that is wanted is there, one window after the other."""
    wanted = admission(bed)["windows"]
    return bool(wanted) and len(windows(bed)) == len(wanted)


def kept_watts(bed: Bed) -> int:
    return sum(int(row["Licenses"].partition(":")[2]) for row in windows(bed).values())


def window_ends(bed: Bed) -> tuple[float, float]:
    """When the deepest window ends, and when the last of the limit's recovery does."""
    ends = [slurm_seconds(row["EndTime"]) for row in windows(bed).values()]
    return min(ends), max(ends)


def submit(bed: Bed, *options: str, minutes: int = 10, seconds: int = 90, flex: str = "flex0") -> str:
    return bed.submit(f"--time={minutes}", *options, seconds=seconds, flex=flex)


def slurm_seconds(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


def expected_start(bed: Bed, job: str) -> float:
    """When Slurm itself expects a job to start, by squeue --start; 0 while it does not say."""
    words = ["squeue", "--start", "--noheader", "--jobs", job, "--format=%S"]
    text = bed.lab.run(words).stdout.strip()
    return 0.0 if text in ("", "N/A") else slurm_seconds(text)


def waits_for_licences(bed: Bed, job: str) -> bool:
    row = bed.lab.job(job)
    return row.get("JobState") == "PENDING" and row.get("Reason") == "Licenses"


def licence_watts(bed: Bed, job: str) -> int:
    name, _, count = bed.lab.job(job)["Licenses"].partition(":")
    assert name == "watts"
    return int(count)


def runs(bed: Bed, job: str) -> bool:
    return bed.lab.job(job).get("JobState") == "RUNNING"


def test_a_window_below_use(admitting: Bed) -> None:
    """Running jobs go on, pending ones wait, one that is larger than the room is taken and waits, too.

    The running job is capped meanwhile: its licence follows, and is given back before the cap goes.
    """
    bed = admitting
    bed.plant("set_soc", soc_ratio=0.12)
    running = submit(bed, flex="flex3", seconds=120)
    bed.run_full(running)
    first = licence_watts(bed, running)
    assert first == pytest.approx(NODE_JOB_WATTS, rel=0.2), "or what earlier tests have taught of such jobs"
    bed.announce(BELOW_ONE_JOB_WATTS, 35)
    bed.until(lambda: laid(bed), "windows", 4)
    kept = kept_watts(bed)
    assert TOTAL_WATTS - kept < first, "below what already runs"
    assert kept == pytest.approx(TOTAL_WATTS - (0.99 * BELOW_ONE_JOB_WATTS - IDLE_WATTS), abs=700)
    small = submit(bed, "--nodelist=c2")
    large = submit(bed, "--nodes=2", "--nodelist=c3,c4")
    bed.until(lambda: waits_for_licences(bed, small), "a job that waits for watts", 10)
    assert licence_watts(bed, large) > TOTAL_WATTS - kept, "more than there is room for, and it was taken"
    ends, _ = window_ends(bed)
    bed.until(lambda: expected_start(bed, small) >= ends - 1.0, "Slurm's own plan after the window", 10)
    bed.until(lambda: expected_start(bed, large) >= ends - 1.0, "the same for the large one", 10)
    bed.until(lambda: bed.entries("licence", running), "a licence that follows the cap", 30)
    lowered = licence_watts(bed, running)
    assert lowered < 0.9 * first
    assert runs(bed, running)
    assert not bed.entries("hold", small), "a job that waits for watts needs no hold"
    bed.until(lambda: runs(bed, small) and runs(bed, large), "both start once it is over", 60)
    assert time.time() >= ends - 2.0
    bed.until(
        lambda: len(bed.entries("licence", running)) >= 2 and bed.entries("uncap", running), "all back", 30
    )
    said = [f"{row['sequence']} {row['kind']}: {row['reason']}" for row in bed.ledger(180.0, job_id=running)]
    uncapped = bed.entries("uncap", running)[-1]["sequence"]
    before = [row for row in bed.entries("licence", running) if row["sequence"] < uncapped]
    assert before[-1]["details"]["watts"] > lowered, f"given back before the cap is lifted: {said}"
    bed.until(lambda: bed.entries("window over"), "a window that is over, in the ledger", 10)


def test_a_window_in_the_future_and_one_without_us(admitting: Bed) -> None:
    """It delays the jobs that would run into it, no others; cancelled, it is gone at once.

    Then all of ours is killed in an event: its window ends on time, the jobs start, and the safety budget
    holds for new jobs all the while.
    """
    bed = admitting
    words = ["slurm-power", "event", "grid", f"--limit-watts={BELOW_ONE_JOB_WATTS}", "--in=90s", "--for=60s"]
    bed.lab.run([*words, "--reason=announced"])
    bed.until(lambda: laid(bed), "windows", 4)
    rows = windows(bed).values()
    assert {row["State"] for row in rows} == {"INACTIVE"}
    assert min(slurm_seconds(row["StartTime"]) for row in rows) > time.time() + 60.0
    ends, recovered = window_ends(bed)
    short = submit(bed, minutes=1, seconds=5)
    meets = submit(bed, "--nodelist=c2", minutes=10)
    bed.until(lambda: bed.lab.job(short)["JobState"] in ("RUNNING", "COMPLETED"), "the short job", 15)
    bed.until(lambda: expected_start(bed, meets) >= ends - 1.0, "Slurm's plan for the other", 15)
    assert expected_start(bed, meets) <= recovered + 60.0
    bed.until(lambda: waits_for_licences(bed, meets), "the same as its reason", 10)
    bed.lab.run(["slurm-power", "cancel-event", bed.glance()["events"][0]["event_id"]])
    bed.until(lambda: not windows(bed), "its end", 4)
    bed.until(lambda: runs(bed, meets), "the job that met it", 15)

    # All of ours dead in the next event: its window ends on time all the same.
    bed.lab.run(["scancel", meets])
    bed.announce(BELOW_ONE_JOB_WATTS, 25)
    bed.until(lambda: laid(bed), "windows", 4)
    ends, recovered = window_ends(bed)
    for name in bed.lab.daemon_names:
        if name == "powerctld" or name.startswith("powerd."):
            bed.lab.kill(name)
    waiting = bed.lab.run(
        ["sbatch", "--parsable", "--gres=gpu:8", "--time=2", "--output=/dev/null", "--wrap=sleep 20"],
        user="alice",
    ).stdout.strip()
    bed.until(lambda: waits_for_licences(bed, waiting), "a job that waits", 10)
    assert licence_watts(bed, waiting) == pytest.approx(NODE_JOB_WATTS, rel=0.2), (
        "plain sbatch, by the file that stays"
    )
    bed.until(lambda: runs(bed, waiting), "its start", 60)
    assert ends - 1.0 <= time.time() <= recovered + 15.0
    bed.until(lambda: not windows(bed), "the end of all windows", recovered - time.time() + 5.0)
    # What is left of the rating, and no more: two jobs that want 30 kW each do not both fit.
    big = [
        bed.lab.run(
            [
                "sbatch",
                "--parsable",
                "--licenses=watts:30000",
                "--time=2",
                "--output=/dev/null",
                "--wrap=sleep 60",
            ],
            user="bob",
        ).stdout.strip()
        for _ in range(2)
    ]
    bed.until(lambda: runs(bed, big[0]), "the first large job", 15)
    bed.until(lambda: waits_for_licences(bed, big[1]), "the second waits", 15)
    bed.lab.run(["scancel", big[0]])
    bed.until(lambda: runs(bed, big[1]), "its turn", 15)
