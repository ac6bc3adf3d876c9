"""Jobs moved to a lighter model tier on a live lab: saved, queued again on half the GPUs, labelled."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.layout import CHECKOUT
from tests.loop.bed import Bed

pytestmark = pytest.mark.timeout(300)
# Eight GPUs at work leave the site near 16 kW: out of reach for it, within reach of half of them.
SHORT_WATTS = 13_500
# The checkout under test, whatever is installed.
ENVIRONMENT = {"PYTHONPATH": str(CHECKOUT)}
POLICY = """
tier_move_least_seconds = 10
tier_move_cost_seconds = 5
tier_checkpoint_seconds = 30
start_expected_seconds = 5
"""
QUALITY = (
    "quality = { value = %s, ci95 = 0.01, samples = 500 }\napproved = { by = 'mlops', date = 2026-01-02 }\n"
)
CATALOG = (
    """
[family.digits]
task = "image-classification"
class = "inference"
metric = "accuracy"
higher_is_better = true
floor = 0.9

[[family.digits.tier]]
name = "full"
method = "none"
model = "/models/digits/full"
gpus = 8
watts_per_gpu = 690.0
power_source = "nvml"
items_per_second = 100.0
"""
    + QUALITY % 0.98
    + """
[[family.digits.tier]]
name = "int8"
method = "int8"
parent = "full"
model = "/models/digits/int8"
gpus = 4
watts_per_gpu = 690.0
power_source = "nvml"
items_per_second = 100.0
"""
    + QUALITY % 0.97
)
# Counts its steps in a file, and goes on from there; its power is the plant's.
PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
from slurm_power.advice import Advice
count = Path(sys.argv[1])
load = subprocess.Popen(["plant-load", "--workload", "training", "--seconds", "600"])
step = int(count.read_text()) if count.exists() else 0
tier, model = os.environ.get("SLURM_POWER_TIER"), os.environ.get("SLURM_POWER_MODEL")
print("begins at", step, "with", tier, model, flush=True)
with Advice(ranks="alone") as advice:
    while not count.with_suffix(".stop").exists():
        time.sleep(0.2)
        step += 1
        if advice.step(samples=10):
            count.write_text(str(step))
            advice.saved(step)
            load.terminate()
            advice.requeue()
load.terminate()
print("ends at", step, flush=True)
"""
SCRIPT = """#!/bin/bash
srun {python} {program} {count}
status=$?
[ "$status" != 85 ] || {{ scontrol requeue "$SLURM_JOB_ID"; sleep 60; }}
exit "$status"
"""


class Serving:
    """A bed with a catalog, and jobs that save themselves when asked."""

    def __init__(self, bed: Bed, folder: Path) -> None:
        self.bed, self.folder = bed, folder
        (folder / "program.py").write_text(PROGRAM)

    def submit(self, name: str, *options: str) -> str:
        script = self.folder / f"{name}.sh"
        words = {"python": sys.executable, "program": self.folder / "program.py", "count": self.folder / name}
        script.write_text(SCRIPT.format(**words))
        common = ["psbatch", "--parsable", "--workload=inference", "--flex=flex0", "--requeue", "--time=10"]
        common += ["--open-mode=append", f"--output={self.folder}/{name}.out", f"--job-name={name}"]
        done = self.bed.lab.run([*common, *options, str(script)], user="alice", environment=ENVIRONMENT)
        return done.stdout.strip()

    def printed(self, name: str) -> str:
        file = self.folder / f"{name}.out"
        return file.read_text() if file.exists() else ""

    def begins(self, name: str) -> list[str]:
        return [line for line in self.printed(name).splitlines() if line.startswith("begins at")]

    def gpus(self, job: str) -> int:
        return int(self.bed.power_job(job).get("gpu_count") or 0)

    def moves(self, job: str) -> list[str]:
        kinds = ("change tier", "tier changed", "tier started", "tier given up")
        return [row["kind"] for row in self.bed.ledger(300.0, job_id=job) if row["kind"] in kinds]


@pytest.fixture
def serving(bed: Bed) -> Iterator[Serving]:
    catalog = bed.lab.layout.etc / "tiers.toml"
    catalog.write_text(CATALOG)
    text = bed.site_toml.replace("[policy]\n", f"[policy]{POLICY}")
    text = text.replace("[controller]\n", f'[controller]\ntiers_path = "{catalog}"\n')
    bed.site_file.write_text(text)
    bed.lab.restart("powerctld")
    bed.until_all_nodes_report()
    bed.plant("set_soc", soc_ratio=0.10)
    folder = bed.run / "home/alice/serving"
    folder.mkdir()
    folder.chmod(0o777)
    yield Serving(bed, folder)
    shutil.rmtree(folder)
    catalog.unlink()


def told(bed: Bed, job: str) -> bool:
    """Whether a job has said that it saves itself."""
    return bool(bed.ask("lineage", job_id=job)["runs"]) and bool(bed.power_job(job).get("progress"))


def test_a_consenting_job_goes_on_with_its_light_tier_and_another_is_not_touched(serving: Serving) -> None:
    bed = serving.bed
    moved = serving.submit("moved", "--tier=digits/full", "--tiers-ok=int8", "--gres=gpu:8", "--nodelist=c1")
    other = serving.submit("other", "--tier=digits/full", "--gres=gpu:1", "--nodelist=c2")
    bed.run_full(moved)
    bed.until(lambda: told(bed, moved), "its progress", 20)
    before_watts = bed.grid_watts()
    event = bed.announce(SHORT_WATTS, 400)
    bed.until(lambda: serving.moves(moved)[-1:] == ["tier started"], "the job on its light tier", 90)
    bed.until(lambda: bed.grid_watts() < SHORT_WATTS, "the level at the meter", 30)
    assert bed.grid_watts() < before_watts - 2_000.0
    assert serving.gpus(moved) == 4
    assert "int8" in bed.power_job(moved)["tier"]
    shown = bed.lab.run(["squeue", "--noheader", f"--jobs={moved}", "--format=%T"]).stdout.strip()
    assert shown == "RUNNING"
    assert serving.moves(other) == []
    assert "begins at" in serving.printed("other")
    bed.until(lambda: len(serving.begins("moved")) == 2, "its second begin", 20)
    first, second = serving.begins("moved")
    assert first.startswith("begins at 0 with digits/full /models/digits/full")
    assert "with digits/int8 /models/digits/int8" in second
    assert int(second.split()[2]) > 0, "it has gone on where it was"
    assert bed.entries("cap", moved) == [], "flex0 is not slowed"
    saved = next(row for row in bed.ledger(300.0, job_id=moved) if row["kind"] == "change tier")
    assert saved["user"] == "alice"
    assert saved["saved_watts"] > 2_000.0

    (serving.folder / "moved.stop").touch()
    (serving.folder / "other.stop").touch()
    bed.until(lambda: "ends at" in serving.printed("moved"), "its end", 20)
    words = ["slurm-power", "jobs", "--lineage", moved]

    def ended() -> str:
        return bed.lab.run(words, user="alice", environment=ENVIRONMENT).stdout

    bed.until(lambda: "Its result is of digits/int8." in ended(), "its label", 20)
    lines = ended().splitlines()
    assert "digits/full on 8 GPUs" in lines[1]
    assert "digits/int8 on 4 GPUs" in lines[2]
    assert "moved because grid must stay below" in lines[2]
    runs = json.loads(bed.lab.run([*words, "--json"], user="alice", environment=ENVIRONMENT).stdout)["runs"]
    assert [run["tier"] for run in runs] == ["digits/full", "digits/int8"]
    assert all(run["joules"] > 0.0 for run in runs)
    record = bed.ask("job", job_id=moved)["record"]
    assert record["tier"] == "digits/int8"
    bed.lab.run(["slurm-power", "cancel-event", event])


def test_a_job_that_waits_is_changed_in_place(serving: Serving) -> None:
    bed = serving.bed
    first = serving.submit("first", "--tier=digits/full", "--gres=gpu:8", "--nodelist=c1")
    bed.run_full(first)
    bed.until(lambda: told(bed, first), "its progress", 20)
    bed.announce(SHORT_WATTS, 400)
    waits = ["--tier=digits/full", "--tiers-ok=any", "--flex=flex3", "--gres=gpu:8"]
    second = serving.submit("second", *waits)
    bed.until(lambda: "tier" in str(serving.moves(second)), "its new tier", 60)
    bed.until(lambda: serving.gpus(second) == 4, "its GPUs", 10)
    asked = bed.lab.job(second)
    assert "digits/int8" in asked["AdminComment"]


@pytest.mark.parametrize("moment", ["saving", "queued"])
def test_a_controller_that_dies_in_a_move_leaves_a_job_that_runs(serving: Serving, moment: str) -> None:
    bed = serving.bed
    job = serving.submit("moved", "--tier=digits/full", "--tiers-ok=int8", "--gres=gpu:8", "--nodelist=c1")
    bed.run_full(job)
    bed.until(lambda: told(bed, job), "its progress", 20)
    bed.announce(SHORT_WATTS, 400)
    bed.until(lambda: serving.moves(job)[:1] == ["change tier"], "the move to begin", 30)
    if moment == "queued":
        bed.until(lambda: bed.lab.job(job)["JobState"] == "PENDING", "the job to wait", 30)
    bed.lab.kill("powerctld")
    bed.lab.start("powerctld")
    bed.until(lambda: serving.moves(job)[-1:] == ["tier started"], "the rest of the move", 90)
    bed.until(lambda: len(serving.begins("moved")) == 2, "its second begin", 20)
    assert "digits/int8" in serving.begins("moved")[1]
