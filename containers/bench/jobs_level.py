"""``python -m containers.bench.jobs_level --data DIR``: the peak that ESS, caps and holds take from job logs.

Every log in DIR/jobs, in windows of 14 days after 28 days of history, and re-samplings of it: weeks of
submissions drawn at random, put on the machine by its own scheduler. Beside each stands the combined bound of
perfect foresight. Exits with 1 when less is reached than is promised.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path

import numpy as np

from slurm_power.cli.commands.simulations.job_log_file import read_log
from slurm_power.model.site import Circuit, LimitKind, Site
from slurm_power.plan.policy import Policy
from slurm_power.simulate.cluster import Hardware
from slurm_power.simulate.flex_mix import DEFAULT_MIX, Mix, mix_text, parse_mix
from slurm_power.simulate.job_logs import JobLog, JobLogError, LoggedJob
from slurm_power.simulate.jobs_case import DAY_SECONDS, LEVERS, Levers, populate, run_case
from slurm_power.simulate.jobs_level import LevelSettings
from slurm_power.simulate.jobs_result import result
from slurm_power.simulate.jobs_run import Window

_STEP_SECONDS = 300.0
_WINDOW_DAYS, _HISTORY_DAYS = 14, 28
_WEEK_SECONDS = 7 * DAY_SECONDS
# One week for the machine to fill, four of history, two that count.
_WEEKS = 7
_ESS_RATIO, _ESS_HOURS = 0.15, 2.0
PROMISED_SHARE, PROMISED_DELAY_HOURS, PROMISED_LOST_RATIO = 0.60, 0.75, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One window: shares are ratios."""

    name: str
    share: float
    cut_ratio: float
    bound_cut_ratio: float
    delay_hours: float
    lost_ratio: float
    jain: float


def machine(nodes: int = 100, overhead_ratio: float = 1.15) -> Site:
    """The site that the log's watts belong to: 10 nodes a rack."""
    racks = {
        f"rack{first // 10:02}": Circuit(
            name=f"rack{first // 10:02}",
            parent="grid",
            rating_watts=1e6,
            limit_kind=LimitKind.SAFETY,
            nodes=tuple(f"node{number:03}" for number in range(first, min(nodes, first + 10))),
        )
        for first in range(0, nodes, 10)
    }
    grid = Circuit(
        name="grid", rating_watts=1e7, limit_kind=LimitKind.ECONOMIC, overhead_ratio=overhead_ratio
    )
    return Site(name="bench", circuits={"grid": grid, **racks}, ess={})


def resampled(log: JobLog, seed: int) -> JobLog:
    """Weeks of submissions drawn with replacement; who starts when is left to the machine."""
    chance = random.Random(seed)  # noqa: S311  # a repeatable sequence is wanted
    first = min(job.submit_seconds for job in log.jobs)
    whole = int((max(job.submit_seconds for job in log.jobs) - first) // _WEEK_SECONDS)
    by_week: dict[int, list[LoggedJob]] = {}
    for job in log.jobs:
        by_week.setdefault(int((job.submit_seconds - first) // _WEEK_SECONDS), []).append(job)
    jobs = []
    for place in range(_WEEKS):
        # The first week of the log is the machine being opened.
        week = chance.randrange(1, whole)
        shift = (place - week) * _WEEK_SECONDS
        jobs += [
            replace(
                job,
                job_id=f"{place}.{job.job_id}",
                submit_seconds=job.submit_seconds + shift,
                start_seconds=None,
            )
            for job in by_week.get(week, [])
        ]
    return JobLog(jobs=tuple(sorted(jobs, key=lambda job: job.submit_seconds)))


def judge(
    log: JobLog, name: str, begins: Sequence[float] | None, *, mix: Mix, seed: int, settings: LevelSettings
) -> Iterator[Row]:
    """One row a window; ``begins`` None: the last two whole weeks of the log."""
    policy = Policy()
    site = machine()
    population = populate(log, site, policy, Hardware(), mix, seed)
    ess_watts = _ESS_RATIO * population.most_watts()
    if begins is None:
        first = min(job.submit_seconds for job in population.jobs)
        begins = [first // DAY_SECONDS * DAY_SECONDS + (_WEEKS - 2) * _WEEK_SECONDS]
    for begin in begins:
        window = Window(
            begin_seconds=begin,
            step_seconds=_STEP_SECONDS,
            steps=round(_WINDOW_DAYS * DAY_SECONDS / _STEP_SECONDS),
        )
        levers = Levers(
            names=LEVERS, ess_watts=ess_watts, ess_kwh=ess_watts * _ESS_HOURS / 1000.0, settings=settings
        )
        found = result(run_case(population, policy, window, levers), site, None, UTC)
        period, controlled = found["periods"][0], found["controlled"]
        before = period["peak_without_watts"]
        yield Row(
            name=name,
            share=found["peak_share"],
            cut_ratio=1.0 - period["peak_controlled_watts"] / before,
            bound_cut_ratio=1.0 - period["peak_bound_watts"] / before,
            delay_hours=controlled["flexible"]["delay_mean_hours"],
            lost_ratio=controlled["gpu_hours_lost_ratio"],
            jain=controlled["fairness"]["jain_index"],
        )


def main() -> int:
    """Returns 0, 1 when a figure is missed, 2 without data."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.jobs_level", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with jobs/*.csv[.gz]")
    parser.add_argument("--flex-mix", type=parse_mix, default=DEFAULT_MIX, help=mix_text(DEFAULT_MIX))
    parser.add_argument("--seeds", type=int, default=20, help="re-samplings")
    parser.add_argument("--first-seed", type=int, default=100, help="those below 100 were used for tuning")
    parser.add_argument("--flex-seeds", type=int, default=5, help="draws of the users' classes, log as it is")
    parser.add_argument("--windows", type=int, default=20, help="windows of the log as it is, at most")
    parser.add_argument("--quick", action="store_true", help="the level's rule alone, not the planner")
    arguments = parser.parse_args()
    files = sorted((arguments.data / "jobs").glob("*.csv*"))
    if not files:
        print(f"jobs_level: {arguments.data}/jobs has no *.csv or *.csv.gz", file=sys.stderr)
        return 2
    good = True
    for path in files:
        try:
            log = read_log(path)
            rows = list(_rows(log, arguments))
        except (ValueError, JobLogError) as error:
            print(f"jobs_level: {path}: {error}", file=sys.stderr)
            return 2
        print(f"{path.name}, mix {mix_text(arguments.flex_mix)}, ESS {_ESS_RATIO:.0%} / {_ESS_HOURS:g} h")
        for kind in dict.fromkeys(row.name for row in rows):
            good &= _print(kind, [row for row in rows if row.name == kind])
    return 0 if good else 1


def _rows(log: JobLog, arguments: argparse.Namespace) -> Iterator[Row]:
    settings = LevelSettings(planner=not arguments.quick)
    first = min(job.start_seconds or job.submit_seconds for job in log.jobs) // DAY_SECONDS * DAY_SECONDS
    last = max((job.start_seconds or job.submit_seconds) for job in log.jobs)
    count = int((last - first - _HISTORY_DAYS * DAY_SECONDS) // (_WINDOW_DAYS * DAY_SECONDS))
    begins = [
        first + (_HISTORY_DAYS + _WINDOW_DAYS * number) * DAY_SECONDS
        for number in range(min(count, arguments.windows))
    ]
    for seed in range(arguments.flex_seeds):
        name = f"as it is, seed {'0' if seed == 0 else f'1 to {arguments.flex_seeds - 1}'}"
        yield from judge(log, name, begins, mix=arguments.flex_mix, seed=seed, settings=settings)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        again = resampled(log, seed)
        yield from judge(again, "re-sampled", None, mix=arguments.flex_mix, seed=seed, settings=settings)


def _print(kind: str, rows: Sequence[Row]) -> bool:
    """A table of one kind; returns whether its means keep what is promised."""
    share = np.array([row.share for row in rows])
    delay = np.array([row.delay_hours for row in rows])
    lost = np.array([row.lost_ratio for row in rows])
    print(f"{kind}: {len(rows)} windows of {_WINDOW_DAYS} days")
    print("  cut   bound   share   delay h   lost    Jain")
    for row in rows:
        print(
            f"  {row.cut_ratio:5.1%} {row.bound_cut_ratio:6.1%} {row.share:7.2f} {row.delay_hours:8.2f}"
            f" {row.lost_ratio:8.2%} {row.jain:7.3f}"
        )
    kept = (
        share.mean() >= PROMISED_SHARE
        and delay.mean() <= PROMISED_DELAY_HOURS
        and lost.mean() <= PROMISED_LOST_RATIO
    )
    print(
        f"  mean share {share.mean():.3f} (median {np.median(share):.2f}, worst {share.min():.2f},"
        f" {np.mean(share >= PROMISED_SHARE):.0%} of windows >= {PROMISED_SHARE:g}),"
        f" delay {delay.mean():.2f} h (worst {delay.max():.2f}), lost {lost.mean():.2%}"
        f" (worst {lost.max():.2%}): {'ok' if kept else 'MISSED'}"
    )
    return bool(kept)


if __name__ == "__main__":
    sys.exit(main())
