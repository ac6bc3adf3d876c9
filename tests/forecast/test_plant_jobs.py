"""Jobs on the simulated plant: drawn as its physics draws, named with noise, and judged."""

from dataclasses import replace
from pathlib import Path

import pytest

from containers.bench import plant_jobs
from containers.bench.plant_jobs import PLANT_FILE, PlantJob, run_seeds
from slurm_power.cli.commands.simulations.backtest_jobs import submitted_job
from slurm_power.cli.commands.simulations.jobs_file import read_jobs
from slurm_power.forecast.backtest_job_power import judge_power
from slurm_power.simulate.constants import load_constants

PLANT = load_constants(PLANT_FILE)


@pytest.fixture(scope="module")
def jobs() -> list[PlantJob]:
    """A few users of each class; a whole seed takes a minute."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plant_jobs, "_USERS_OF_A_CLASS", 1)
        patched.setattr(plant_jobs, "_JOBS_OF_A_USER", 12)
        patched.setattr(plant_jobs, "_LONGEST_SECONDS", 100.0)
        return run_seeds([5], PLANT)[5]


def test_jobs_are_measured_as_the_plant_draws(jobs: list[PlantJob]) -> None:
    assert len(jobs) == 36
    limit = PLANT.gpu.limit_max_watts
    for job in jobs:
        shape = job.shape
        assert PLANT.gpu.idle_watts < shape.mean_watts <= shape.p95_watts <= 1.1 * limit
        assert shape.start_step_watts > 0.0 and shape.swing_watts > 0.0
    means = {job.submission.workload: job.shape.mean_watts for job in jobs}
    assert means["generation"] < means["training"]
    trainings = [job for job in jobs if job.submission.workload == "training"]
    assert len({round(job.shape.mean_watts, 1) for job in trainings}) > 6, "no constant per user or code"


def test_names_carry_noise_and_the_log_is_one_that_backtest_jobs_reads(
    jobs: list[PlantJob], tmp_path: Path
) -> None:
    assert len({job.submission.name for job in jobs}) > 12
    file = tmp_path / "jobs.csv"
    plant_jobs.write_csv(jobs, file)
    read = [submitted_job(row) for row in read_jobs(file)]
    assert [job.submission for job in read] == [job.submission for job in jobs]
    assert read[0].watts_per_gpu == pytest.approx(jobs[0].shape.mean_watts, abs=0.1)


def test_figures_miss_what_is_no_better_than_the_users_mean(jobs: list[PlantJob]) -> None:
    same = [replace(job.submission, name="x", gpus=1.0) for job in jobs]
    known = [replace(job, submission=one).submitted() for job, one in zip(jobs, same, strict=True)]
    scores = judge_power(known * 3)
    found = plant_jobs.figures({1: scores})
    assert len(found) == 6
    assert any(not least <= value <= most for _, value, least, most in found)
