"""The energy of a tier's items, measured in a job: by powerd's account, against what the plant knows."""

import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.layout import CHECKOUT
from tests.cluster.lab import await_job
from tests.loop.bed import Bed

pytest.importorskip("torch", reason="the extra tiers is not installed")
pytest.importorskip("fairlearn", reason="the extra evaluation is not installed")

# A job and its lab for one number: `make check-all` runs it.
pytestmark = pytest.mark.slow

SPEC = f"{CHECKOUT}/tests/tiers/evaluating/tasks.py:signs"
GPUS = 2
MEASURED_SECONDS = 8


@pytest.fixture
def tier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tier in a folder that users may read."""
    from tests.tiers.evaluating.tasks import signs, tier_of

    folder = tmp_path_factory.mktemp("tier")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    yield tier_of(signs, folder / "full", spec=SPEC)


def test_in_a_job_the_energy_is_the_jobs_by_powerd(bed: Bed, tier: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "slurm_power.cli.slurm_power",
        "tiers",
        "evaluate",
        SPEC,
        "--tier",
        str(tier),
    ]
    words += ["--seconds", str(MEASURED_SECONDS / 0.75), "--output", "evaluation.json"]
    # The GPUs, which only the plant has, are kept at work meanwhile.
    script = (
        f"export PYTHONPATH={CHECKOUT} OMP_NUM_THREADS=1; plant-load --workload training --seconds 100 &"
        f" {shlex.join(words)}; status=$?; kill %1; exit $status"
    )
    submit = ["psbatch", "--parsable", "--workload=inference", "--nodes=1", f"--gres=gpu:{GPUS}"]
    submit += ["--nodelist=c2", "--time=5", "--output=%j.out", f"--wrap={script}"]
    job = bed.lab.run(submit, user="alice").stdout.strip()

    def gpus() -> list[dict[str, float]]:
        found: list[dict[str, float]] = bed.truth()["nodes"]["c2"]["gpus"]
        return found

    bed.until(lambda: sum(gpu["instant_watts"] > 500.0 for gpu in gpus()) == GPUS, "its draw", 40)
    drawing = [slot for slot, gpu in enumerate(gpus()) if gpu["instant_watts"] > 500.0]
    joules, began = sum(gpus()[slot]["energy_joules"] for slot in drawing), time.monotonic()
    home = bed.lab.run_directory / "home" / "alice"
    last = (joules, began)

    def done() -> bool:
        nonlocal last
        now = gpus()
        if all(now[slot]["instant_watts"] > 300.0 for slot in drawing):
            last = (sum(now[slot]["energy_joules"] for slot in drawing), time.monotonic())
        return (home / "evaluation.json").exists()

    bed.until(done, "the evaluation", 60)
    watts = (last[0] - joules) / (last[1] - began)
    await_job(bed.lab, job)

    energy = json.loads((home / "evaluation.json").read_text())["energy"]
    assert (energy["source"], energy["covers"]) == ("nvml", "the job's GPUs, all they draw")
    assert energy["joules"] / energy["seconds"] == pytest.approx(watts, rel=0.15)
    assert energy["joules_per_item"] == pytest.approx(energy["joules"] / energy["items"])
    assert energy["seconds"] > 0.5 * MEASURED_SECONDS
    assert energy["resolution_joules"] < 0.2 * energy["joules"]
    assert energy["watts_per_gpu"] is None
    assert "computed none of it" in energy["note"]
    told = f"{energy['joules']:.0f} +- {energy['resolution_joules']:.0f} J"
    print(f"{told}, {energy['joules'] / energy['seconds']:.0f} W by powerd; plant: {watts:.0f} W")
