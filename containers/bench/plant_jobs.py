"""``python -m containers.bench.plant_jobs``: how well the power of the plant's jobs is known at submission.

Users run codes of their own on the simulated plant's GPUs: each code is the power shape of its class with
constants varied around the class's, run with one of some batches, for some time, on some GPUs. Each job is
stepped through the shape, the GPU's physics and one-second readings, as a node would see it, and measured by
the profile that the controller keeps. Its submission is judged against the mean of the user's jobs before,
and against an oracle: the mean of the same code and batch over jobs nobody has seen.

A user's codes are drawn once; a code's constants change now and then, as code does. Nothing is one constant
per user, per code or per run: even the same code and batch differ by their swing and their pauses.
"""

import argparse
import csv
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path

from slurm_power.forecast.backtest_job_power import CURVE_JOBS, PowerScore, SubmittedJob, judge_power
from slurm_power.forecast.job_power import Submission
from slurm_power.forecast.job_profile import JobProfile
from slurm_power.model.expected_power import PowerShape
from slurm_power.simulate.constants import GpuConstants, PlantConstants, WorkloadConstants, load_constants
from slurm_power.simulate.gpu import Gpu, GpuLoad
from slurm_power.simulate.workload import Shape, Workload

PLANT_FILE = Path(__file__).parents[1] / "plant" / "plant.toml"
SEEDS = (1, 2, 3, 4)
# What is asked for: the error over that of the user's mean, of users with 20 jobs before.
MOST_RATIO = 0.7
_USERS_OF_A_CLASS, _JOBS_OF_A_USER = 6, 45
_TICK_SECONDS = 0.1
_SHORTEST_SECONDS, _LONGEST_SECONDS = 80.0, 300.0
# So many users call everything the same.
_SAME_NAME_RATIO = 0.2
_WORDS = (
    "bert",
    "llama",
    "gnn",
    "unet",
    "resnet",
    "vit",
    "moe",
    "clip",
    "speech",
    "ranker",
    "nerf",
    "chat",
    "rag",
)
# How a code's people name its runs; the words stay, the rest changes.
_STYLES = (
    "{word}_run{run}",
    "{word}-{size}-bs{batch}-{run}",
    "{word}_{date}",
    "{word}.batch{batch}.{hash}",
    "train_{word}_{size}_{run}",
    "{word}",
    "job-{word}-v{run}-b{batch}",
)


@dataclass(frozen=True, slots=True)
class Code:
    """One program of one user: its constants, its batches, its sizes and its way of naming runs."""

    word: str
    size: str
    style: str
    constants: WorkloadConstants
    batches: tuple[int, ...]
    gpus: tuple[int, ...]
    typical_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantJob:
    """A job that has run on the plant. ``truth``: an identity of code and batch, for the oracle only."""

    submission: Submission
    shape: PowerShape
    submit_seconds: float
    start_seconds: float
    end_seconds: float
    truth: tuple[object, ...]

    def submitted(self) -> SubmittedJob:
        """As what is judged."""
        return SubmittedJob(self.submission, self.shape.mean_watts, self.submit_seconds, self.end_seconds)


def run_seeds(seeds: Sequence[int], plant: PlantConstants) -> dict[int, list[PlantJob]]:
    """All jobs of each seed, in order of submission; users do not depend on each other."""
    asked = [
        (seed, workload, number)
        for seed in seeds
        for workload in Workload
        for number in range(_USERS_OF_A_CLASS)
    ]
    with ProcessPoolExecutor() as pool:
        runs = list(pool.map(_jobs_of_user, *zip(*asked, strict=True), [plant] * len(asked)))
    found: dict[int, list[PlantJob]] = {seed: [] for seed in seeds}
    for (seed, _, _), jobs in zip(asked, runs, strict=True):
        found[seed] += jobs
    return {seed: sorted(jobs, key=lambda job: job.submit_seconds) for seed, jobs in found.items()}


def _jobs_of_user(seed: int, workload: Workload, number: int, plant: PlantConstants) -> list[PlantJob]:
    chance = random.Random(f"{seed}/{workload.value}/{number}")  # noqa: S311  # a repeatable sequence
    base: WorkloadConstants = getattr(plant, workload.value)
    codes = [_code(base, chance) for _ in range(chance.randint(1, 5))]
    weights = [chance.uniform(0.3, 1.0) for _ in codes]
    if chance.random() < _SAME_NAME_RATIO:
        codes = [replace(code, word="run", style="{word}.sh") for code in codes]
    user, account = f"{workload.value[:3]}{number}", f"acc{chance.randint(1, 4)}"
    now = chance.uniform(0.0, 3600.0)
    jobs = []
    for run in range(_JOBS_OF_A_USER):
        (which,) = chance.choices(range(len(codes)), weights)
        if chance.random() < 0.03:
            codes[which] = _changed(codes[which], chance)
        elif chance.random() < 0.015:
            codes[which] = _code(base, chance)
        code, batch = codes[which], chance.choice(codes[which].batches)
        gpus = chance.choice(code.gpus)
        seconds = min(max(code.typical_seconds * chance.lognormvariate(0.0, 0.4), 60.0), 500.0)
        course = Shape(workload, code.constants, plant.gpu.limit_max_watts, chance.getrandbits(32), batch)
        start = now + chance.expovariate(1.0 / 120.0)
        jobs.append(
            PlantJob(
                submission=Submission(
                    user=user,
                    account=account,
                    name=_name(code, batch, run, chance),
                    workload=workload.value,
                    gpus=float(gpus),
                ),
                shape=_measured(course, plant.gpu, seconds),
                submit_seconds=now,
                start_seconds=start,
                end_seconds=start + seconds,
                truth=(user, code, batch),
            )
        )
        now += chance.expovariate(1.0 / 600.0)
    return jobs


def _code(base: WorkloadConstants, chance: random.Random) -> Code:
    """A program like others of its class: what people run differs in how hard it drives a GPU."""
    high = base.high_demand_ratio * chance.uniform(0.55, 1.05)
    low = min(high, base.low_demand_ratio * chance.uniform(0.7, 1.2))
    period = base.pause_period_seconds * chance.uniform(0.7, 4.0)
    constants = replace(
        base,
        high_demand_ratio=min(high, 1.0),
        low_demand_ratio=low,
        startup_seconds=base.startup_seconds * chance.uniform(0.5, 6.0),
        startup_demand_ratio=base.startup_demand_ratio * chance.uniform(0.8, 1.3),
        swing_low_share_ratio=min(0.9, base.swing_low_share_ratio * chance.uniform(0.5, 2.5)),
        pause_period_seconds=period,
        pause_seconds=min(base.pause_seconds * chance.uniform(0.5, 4.0), 0.5 * period),
        static_ratio=min(0.9, base.static_ratio * chance.uniform(0.6, 1.6)),
        compute_bound_ratio=min(1.0, base.compute_bound_ratio * chance.uniform(0.6, 1.4)),
        batch_power_exponent=base.batch_power_exponent * chance.uniform(0.5, 1.5),
    )
    reference = base.batch_reference_count
    batches = chance.sample([reference // 8, reference // 4, reference // 2, reference], chance.randint(1, 3))
    return Code(
        word=chance.choice(_WORDS),
        size=chance.choice(("1b", "7b", "13b", "70b")),
        style=chance.choice(_STYLES),
        constants=constants,
        batches=tuple(max(1, batch) for batch in batches),
        gpus=tuple(chance.sample((1, 2, 4, 8, 16), chance.randint(1, 2))),
        typical_seconds=chance.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS),
    )


def _changed(code: Code, chance: random.Random) -> Code:
    """The same program, made faster or slower: its name stays."""
    high = min(1.0, code.constants.high_demand_ratio * chance.uniform(0.85, 1.12))
    low = min(high, code.constants.low_demand_ratio * chance.uniform(0.9, 1.1))
    return replace(code, constants=replace(code.constants, high_demand_ratio=high, low_demand_ratio=low))


def _name(code: Code, batch: int, run: int, chance: random.Random) -> str:
    return code.style.format(
        word=code.word,
        size=code.size,
        batch=batch,
        run=run,
        date=f"2026-{1 + run // 28 % 12:02d}-{1 + run % 28:02d}",
        hash=f"{chance.getrandbits(36):09x}",
    )


def _measured(course: Shape, constants: GpuConstants, seconds: float) -> PowerShape:
    """Run one GPU through a course in virtual time and measure it second by second, as a node does."""
    gpu = Gpu(constants, 0.0)
    gpu.set_resident(True)
    profile = JobProfile(idle_watts=constants.idle_watts)
    joules, steps = 0.0, round(1.0 / _TICK_SECONDS)
    for tick in range(round(seconds)):
        for part in range(steps):
            at = tick + part * _TICK_SECONDS
            demand = course.demand(at)
            gpu.set_load(
                GpuLoad(
                    demand_watts=demand.demand_watts,
                    static_watts=demand.static_watts,
                    compute_bound_ratio=demand.compute_bound_ratio,
                )
            )
            gpu.advance(at + _TICK_SECONDS)
        profile.tick(tick + 1.0, gpu.energy_joules - joules)
        joules = gpu.energy_joules
    shape = profile.shape()
    assert shape is not None
    return shape


def oracle_errors(jobs: list[PlantJob], plant: PlantConstants) -> dict[str, float]:
    """By class, the error in watts that is left to who knows the true mean of the job's code and batch.

    The truth is taken from three other runs of it, so it is the oracle's, up to its own chance.
    """
    known: dict[tuple[object, ...], float] = {}
    misses: dict[str, list[float]] = defaultdict(list)
    chance = random.Random(0)  # noqa: S311  # repeatable
    for job in jobs:
        if job.truth not in known:
            _, code, batch = job.truth
            assert isinstance(code, Code) and isinstance(batch, int)
            workload = Workload(job.submission.workload)
            runs = [
                _measured(
                    Shape(workload, code.constants, plant.gpu.limit_max_watts, chance.getrandbits(32), batch),
                    plant.gpu,
                    code.typical_seconds,
                ).mean_watts
                for _ in range(3)
            ]
            known[job.truth] = sum(runs) / len(runs)
        misses[job.submission.workload].append(abs(known[job.truth] - job.shape.mean_watts))
    return {workload: sum(all_) / len(all_) for workload, all_ in misses.items()}


def judge_seeds(seeds: Sequence[int] = SEEDS) -> dict[int, list[PowerScore]]:
    """The learning curves of several seeds."""
    plant = load_constants(PLANT_FILE)
    runs = run_seeds(seeds, plant)
    return {seed: judge_power([job.submitted() for job in jobs]) for seed, jobs in runs.items()}


def figures(found: dict[int, list[PowerScore]]) -> list[tuple[str, float, float, float]]:
    """What is wanted: name, value, least and most, over all seeds of a class."""
    wanted = []
    for workload in Workload:
        ratio = pooled_ratio(found, workload.value, CURVE_JOBS[-1])
        worst = max(
            (
                score.ratio
                for scores in found.values()
                for score in scores
                if score.workload == workload.value and score.from_jobs == CURVE_JOBS[-1]
                if score.ratio is not None
            ),
            default=float("inf"),
        )
        name = f"job power, {workload.value}, from {CURVE_JOBS[-1]} jobs on: MAE / user's mean"
        wanted.append((name, float("inf") if ratio is None else ratio, 0.0, MOST_RATIO))
        wanted.append((f"the same, the worst of {len(found)} seeds", worst, 0.0, MOST_RATIO))
    return wanted


def pooled_ratio(found: dict[int, list[PowerScore]], workload: str, from_jobs: int) -> float | None:
    """The errors of all seeds together, over those of the users' means."""
    scores = [
        score
        for scores in found.values()
        for score in scores
        if (score.workload, score.from_jobs) == (workload, from_jobs)
    ]
    ours = sum(score.mae_watts * score.jobs for score in scores)
    theirs = sum(score.user_mean_mae_watts * score.jobs for score in scores)
    return ours / theirs if theirs > 0.0 else None


def print_table(found: dict[int, list[PowerScore]], oracles: dict[str, float] | None = None) -> None:
    """The learning curve by class, all seeds pooled: ratio to the user's mean, and watts."""
    headings = ["0 jobs before", "1 to 4", "5 to 19", "20 and more"]
    print(f"\n| job power, {len(found)} seeds | {' | '.join(headings)} |", end="")
    print(" oracle |" if oracles else "")
    print(f"|{'---|' * (len(headings) + 1 + bool(oracles))}")
    for workload in Workload:
        cells = []
        for from_jobs in CURVE_JOBS:
            ratio = pooled_ratio(found, workload.value, from_jobs)
            scores = [s for all_ in found.values() for s in all_]
            here = [s for s in scores if (s.workload, s.from_jobs) == (workload.value, from_jobs)]
            jobs = sum(score.jobs for score in here)
            watts = sum(score.mae_watts * score.jobs for score in here) / jobs if jobs else 0.0
            cells.append("-" if ratio is None else f"{ratio:.3f} ({watts:.0f} W)")
        bound = f" {oracles[workload.value]:.0f} W |" if oracles else ""
        print(f"| {workload.value} | {' | '.join(cells)} |{bound}")


def write_csv(jobs: list[PlantJob], path: Path) -> None:
    """As `slurm-power backtest-jobs` reads it; the time limit is one that a cautious user would ask for."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        told = [field.name for field in fields(Submission) if field.name not in ("user", "gpus")]
        table.writerow(["submit", "start", "end", "reqt", "gpus", "kw_per_gpu", "user", *told])
        for job in jobs:
            limit = 2.0 * (job.end_seconds - job.start_seconds)
            times = [
                f"{value:.1f}" for value in (job.submit_seconds, job.start_seconds, job.end_seconds, limit)
            ]
            who = job.submission
            table.writerow(
                [*times, f"{who.gpus:g}", f"{job.shape.mean_watts / 1000.0:.4f}", who.user]
                + [getattr(who, name) for name in told]
            )


def main() -> int:
    """Returns 0, or 1 when a figure is missed."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.plant_jobs", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--csv", type=Path, help="write the first seed's jobs there, for `backtest-jobs`")
    parser.add_argument("--oracle", action="store_true", help="and the error that nobody can go below")
    arguments = parser.parse_args()
    plant = load_constants(PLANT_FILE)
    runs = run_seeds(arguments.seeds, plant)
    first = runs[arguments.seeds[0]]
    if arguments.csv is not None:
        write_csv(first, arguments.csv)
    found = {seed: judge_power([job.submitted() for job in jobs]) for seed, jobs in runs.items()}
    print_table(found, oracle_errors(first, plant) if arguments.oracle else None)
    print()
    missed = False
    for what, value, least, most in figures(found):
        met = least <= value <= most
        missed = missed or not met
        print(f"{'ok    ' if met else 'MISSED'} {what}: {value:.3f} ({least:g} to {most:g})")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
