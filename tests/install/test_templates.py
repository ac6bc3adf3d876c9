"""The templates of batch_templates/, as they are: with psbatch and plain sbatch, stopped, started again."""

import json
import re
import shutil
import urllib.request
from pathlib import Path

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT
from slurm_power.tiers.catalog import read_catalog
from slurm_power.tiers.model_sum import file_sha256
from tests.cluster.lab import await_job

pytestmark = pytest.mark.slurm
TEMPLATES = CHECKOUT / "batch_templates"
NAMES = sorted(file.stem for file in TEMPLATES.glob("*.sbatch"))
CHOICES: dict[str, dict[str, str | int]] = {
    "training": {"workload": "training", "flex": "flex2"},
    "elastic-training": {"workload": "training", "flex": "flex2"},
    "sweep": {"workload": "training", "flex": "flex3", "max_hold_seconds": 3600},
    "inference": {"workload": "inference", "flex": "flex1"},
    "batch-inference": {"workload": "inference", "flex": "flex3"},
    "generation": {"workload": "generation", "flex": "flex3"},
    "simulation": {"flex": "flex1"},
    "tiers": {"workload": "training", "flex": "flex3"},
    "service": {"workload": "inference", "flex": "flex1"},
}
# A service ends when it is told (tests/gateway has the gateway's); tiers take long to train.
UNTIL_DONE = [name for name in NAMES if name not in {"inference", "service", "tiers"}]


class Folder:
    """A folder of alice's with a copy of one template in it."""

    def __init__(self, lab: Lab, name: str, label: str) -> None:
        self.lab, self.name = lab, name
        self.path = lab.run_directory / "home" / "alice" / f"{label}-{name}"
        self.lab.run(["mkdir", "-p", str(self.path)], user="alice")
        shutil.copyfile(TEMPLATES / f"{name}.sbatch", self.path / f"{name}.sbatch")

    def submit(self, command: str, *options: str, **environment: str) -> str:
        done = self.lab.run(
            [command, "--parsable", *options, f"{self.name}.sbatch"],
            user="alice",
            directory=self.path,
            environment={"PYTHONPATH": str(CHECKOUT), **environment},
        )
        assert done.stderr == ""
        return done.stdout.strip()

    def printed(self, job: str) -> str:
        files = sorted(self.path.glob(f"{self.name}-{job}*.out"))
        return "".join(file.read_text() for file in files)

    def until_printed(self, job: str, text: str, seconds: float = 20.0) -> None:
        self.lab.wait_until(lambda: text in self.printed(job), f"{text!r} of job {job}", seconds=seconds)


def test_every_template_is_here() -> None:
    assert set(NAMES) == set(CHOICES)


@pytest.mark.parametrize("command", ["psbatch", "sbatch"])
@pytest.mark.parametrize("name", UNTIL_DONE)
def test_a_template_runs_as_it_is(power_lab: Lab, name: str, command: str) -> None:
    folder = Folder(power_lab, name, command)
    job = folder.submit(command, STEPS="2", ITEMS="2")
    parts = 6 if name == "sweep" else 1
    done = {
        "training": "trained 2 steps on 2 computers",
        "elastic-training": "rank 1 trained 2 steps",
        "sweep": "would train with rate 0.001 and seed 2",
        "batch-inference": "answered 2 items",
        "generation": "All 4 parts are in",
        "simulation": "process 7 of 8 on c2",
    }[name]
    folder.until_printed(job, done, 40.0)
    for part in range(parts):
        await_job(power_lab, f"{job}_{part}" if parts > 1 else job)
    assert len(set(re.findall("would train with .*", folder.printed(job)))) in {0, 6}
    comment = power_lab.job(job).get("AdminComment", "")
    power = json.loads(comment)["power"] if comment.startswith("{") else {}
    for key, chosen in CHOICES[name].items():
        assert power.get(key) == (chosen if command == "psbatch" else None)


def test_a_training_goes_on_where_it_was(power_lab: Lab) -> None:
    folder = Folder(power_lab, "training", "stopped")
    job = folder.submit("psbatch", "--nodes=1", STEPS="6")
    checkpoint = folder.path / f"checkpoint-{job}"
    power_lab.wait_until(checkpoint.exists, "a checkpoint", seconds=30)

    # What Slurm does two minutes before the time is over: it writes a checkpoint and queues itself again.
    power_lab.run(["scancel", "--signal=USR1", "--batch", job])
    folder.until_printed(job, "Not done yet: queued again", 30.0)
    reached = int(checkpoint.read_text())
    assert 0 < reached < 6

    def queued() -> bool:
        fields = power_lab.job(job)
        waits = fields.get("JobState") == "PENDING" and fields.get("Reason") == "BeginTime"
        return waits and power_lab.idle_nodes() == 2

    power_lab.wait_until(queued, "the job in the queue again", seconds=60)
    # Slurm lets a requeued job wait two minutes. What starts in the second of its requeue, the node refuses.
    power_lab.run(["scontrol", "update", f"JobId={job}", "StartTime=now+3"])
    try:
        await_job(power_lab, job, seconds=60)
    except AssertionError as error:
        raise AssertionError(f"{power_lab.job(job)}\n{folder.printed(job)}") from error
    text = folder.printed(job)
    assert "start 0" in text
    assert "start 1" in text
    assert "trained 6 steps on 1 computers" in text
    comment = json.loads(power_lab.job(job)["AdminComment"])
    assert comment["power"]["flex"] == "flex2"


def test_a_service_says_where_it_is_answers_and_ends_when_told(power_lab: Lab) -> None:
    folder = Folder(power_lab, "inference", "told")
    job = folder.submit("psbatch")
    address = folder.path / f"inference-{job}.address"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{address.read_text().strip().rpartition(':')[2]}", timeout=2
            ) as answer:
                return bool(answer.read() == f"answered by job {job}\n".encode())
        except OSError:
            return False

    power_lab.wait_until(answers, "an answer", seconds=30)
    assert json.loads(power_lab.job(job)["AdminComment"])["power"]["workload"] == "inference"
    power_lab.run(["scancel", "--signal=TERM", "--batch", job], user="alice")
    await_job(power_lab, job)
    assert "the last answer is given" in folder.printed(job)
    assert not address.exists()


def test_generation_does_each_part_once(power_lab: Lab) -> None:
    folder = Folder(power_lab, "generation", "again")
    results = folder.path / "results"
    power_lab.run(["mkdir", str(results)], user="alice")
    power_lab.run(["sh", "-c", f"echo mine > {results}/part-1"], user="alice")
    job = folder.submit("sbatch", PARTS="3")
    await_job(power_lab, job)
    texts = [Path(results / f"part-{part}").read_text() for part in range(3)]
    assert texts == ["part 0, by start 0\n", "mine\n", "part 2, by start 0\n"]


@pytest.mark.slow
def test_an_array_builds_tiers(power_lab: Lab) -> None:
    pytest.importorskip("torch", reason="the extra tiers is not installed")
    folder = Folder(power_lab, "tiers", "array")
    words = {
        "TASK": str(CHECKOUT / "tests" / "tiers" / "building" / "blobs.py:blobs"),
        "FAMILY": "blobs",
        "FLOOR": "0.5",
        "STUDENT": "--shape width=6 --batch-size 16",
        "OMP_NUM_THREADS": "1",
    }
    full = folder.submit("psbatch", "--cpus-per-task=1", **words)
    others = folder.submit(
        "psbatch", "--cpus-per-task=1", f"--dependency=afterok:{full}", "--array=1-5", **words
    )
    for job in (f"{full}_0", *(f"{others}_{task}" for task in range(1, 6))):
        await_job(power_lab, job, seconds=100)
    text = folder.printed(others)
    catalog = folder.path / "models" / "tiers.toml"
    assert catalog.is_file(), text
    tiers = {tier.name: tier for tier in read_catalog(catalog).families["blobs"].tiers}
    assert set(tiers) == {"full", "int8", "pruned", "distilled", "nas"}, text
    assert all(file_sha256(Path(tier.model_path)) == tier.sha256 for tier in tiers.values())
    assert text.count("the last process at work trains the result") + text.count("is in ") == 1
