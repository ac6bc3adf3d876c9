"""``python -m containers.bench.forecast --data DIR``: every series there, forecast as `backtest` does.

Prints tables and the figures that the project wants to keep; exits with 1 when one is missed. Where
statsforecast is installed (slurm-power[peers]) its models forecast as well, from a few origins. DIR has CSV
files, or has them in ``series/``; a name tells the step (``*_15min.csv``, ``*_1min.csv.gz``). Logs of jobs
lie in ``jobs/``.
"""

import argparse
import math
import re
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from containers.bench import forecast_peers, plant_jobs
from containers.bench.forecast_peers import COMPARED, PeerRow
from slurm_power.cli.commands.simulations.backtest_jobs import logged_job
from slurm_power.cli.commands.simulations.jobs_file import read_jobs
from slurm_power.cli.commands.simulations.series_file import read_series
from slurm_power.cli.commands.table_file import TableFileError
from slurm_power.forecast.backtest import Origin, Score, model_named, pick_origins, run, score
from slurm_power.forecast.backtest_jobs import JobsScore, judge
from slurm_power.forecast.experts import Seasons, Values
from slurm_power.forecast.grid import on_grid

_NAMED = re.compile(r"(?P<name>.+)_(?P<minutes>\d+)min\.csv(\.gz)?")
_HOUR_ORIGINS, _DAY_ORIGINS, _PEER_ORIGINS = 60, 60, 3
_HALF_HOUR_MINUTES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One series and one horizon; ratios are to persistence over the first hour or half hour."""

    name: str
    ahead: str
    origins: int
    score: Score
    soon_to_persistence: float
    milliseconds: float


def main() -> int:
    """Returns 0, 1 when a figure is missed, 2 without data."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.forecast", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of series")
    parser.add_argument("--origins", type=int, default=_DAY_ORIGINS, help="per series, 24 h ahead")
    parser.add_argument("--peer-origins", type=int, default=_PEER_ORIGINS, help="beside peers; 0 for none")
    parser.add_argument(
        "--plant-seeds", type=int, default=0, help="and jobs on the simulated plant, so many seeds of them"
    )
    arguments = parser.parse_args()
    folder = arguments.data / "series" if (arguments.data / "series").is_dir() else arguments.data
    files = [path for path in sorted(folder.glob("*.csv*")) if _NAMED.fullmatch(path.name)]
    days = [path for path in files if "_15min." in path.name]
    minutes = [path for path in files if "_1min." in path.name]
    if not days and not minutes:
        print(f"bench-forecast: {folder} has no *_15min.csv or *_1min.csv[.gz]", file=sys.stderr)
        return 2
    try:
        with ProcessPoolExecutor() as pool:
            ahead = [pool.submit(_measure, path, 1440, arguments.origins) for path in days]
            soon = [pool.submit(_measure, path, _HALF_HOUR_MINUTES, _HOUR_ORIGINS) for path in minutes]
            beside = [
                pool.submit(_compare, path, model, arguments.peer_origins)
                for path in days
                for model in (COMPARED if arguments.peer_origins and find_spec("statsforecast") else ())
            ]
            day_rows, soon_rows = [job.result() for job in ahead], [job.result() for job in soon]
            peer_rows = [job.result() for job in beside]
        logs = [(path.name, _judge_log(path)) for path in sorted((arguments.data / "jobs").glob("*.csv*"))]
    except ValueError as error:
        print(f"bench-forecast: {error}", file=sys.stderr)
        return 2
    _print_rows(day_rows + soon_rows)
    forecast_peers.print_rows(peer_rows)
    _print_logs(logs)
    wanted = (
        _day_figures(day_rows)
        + forecast_peers.figures_of(peer_rows)
        + [(f"30 min, {row.name}: MAE / persistence", row.soon_to_persistence, 0.0, 1.0) for row in soon_rows]
    )
    for name, found in logs:
        if found.planned is not None and found.nothing_planned is not None:
            wanted.append((f"30 min by jobs, {name}: / persistence", found.planned, 0.0, 0.8))
            wanted.append((f"the same, nothing planned, {name}", found.nothing_planned, 0.0, 1.0))
    if arguments.plant_seeds > 0:
        powers = plant_jobs.judge_seeds(range(1, arguments.plant_seeds + 1))
        plant_jobs.print_table(powers)
        wanted += plant_jobs.figures(powers)
    print()
    for what, value, least, most in wanted:
        print(
            f"{'ok    ' if least <= value <= most else 'MISSED'} {what}: {value:.3f} ({least:g} to {most:g})"
        )
    return 0 if all(least <= value <= most for _, value, least, most in wanted) else 1


def _read(path: Path, ahead_minutes: int) -> tuple[str, int, Values, Seasons]:
    match = _NAMED.fullmatch(path.name)
    assert match is not None
    step_minutes = int(match["minutes"])
    times, read = read_series(path, None)
    values = on_grid(np.asarray(times), np.asarray(read), 60.0 * step_minutes).values
    return match["name"], step_minutes, values, Seasons(1440 // step_minutes, ahead_minutes // step_minutes)


def _compare(path: Path, model: str, origins: int) -> PeerRow:
    name, _, values, seasons = _read(path, 1440)
    return forecast_peers.compare(name, values, seasons, model, origins)


def _measure(path: Path, ahead_minutes: int, origins: int) -> Row:
    name, step_minutes, values, seasons = _read(path, ahead_minutes)
    try:
        chosen = pick_origins(len(values), seasons, origins)
    except ValueError as error:
        raise TableFileError([f"{path}: {error}"]) from None
    found = list(run(values, seasons, chosen, model_named("blend", seasons, time.monotonic), time.monotonic))
    soon_minutes = min(60, ahead_minutes)
    return Row(
        name=name,
        ahead=f"{ahead_minutes // 60} h" if ahead_minutes >= 60 else f"{ahead_minutes} min",
        origins=len(found),
        score=score(values, seasons, found),
        soon_to_persistence=_to_persistence(values, found, soon_minutes // step_minutes),
        milliseconds=1000.0 * statistics.median(origin.seconds for origin in found),
    )


def _judge_log(path: Path) -> JobsScore:
    return judge(
        [logged_job(row) for row in read_jobs(path)],
        horizon_seconds=60.0 * _HALF_HOUR_MINUTES,
        origins=400,
        total_gpus=None,
        clock=time.monotonic,
    )


def _print_logs(logs: list[tuple[str, JobsScore]]) -> None:
    if logs:
        print(
            "\n| jobs, 30 min | origins | planned | at 30 min | nothing planned | true ends | covers | ms |"
        )
        print(f"|{'---|' * 8}")
    for name, found in logs:
        ratios = (found.planned, found.at_end, found.nothing_planned, found.true_ends)
        print(
            f"| {name} | {found.origins} |"
            + "".join(" - |" if ratio is None else f" {ratio:.3f} |" for ratio in ratios)
            + f" {found.coverage_ratio:.2f} | {found.milliseconds:.1f} |"
        )


def _to_persistence(values: Values, found: list[Origin], steps: int) -> float:
    ours = np.stack([origin.actual[:steps] - origin.forecast.p50[:steps] for origin in found])
    naive = np.stack([origin.actual[:steps] - values[origin.index - 1] for origin in found])
    return float(np.nanmean(np.abs(ours)) / np.nanmean(np.abs(naive)))


def _day_figures(rows: list[Row]) -> list[tuple[str, float, float, float]]:
    """What is wanted of 24 h ahead: name, value, least and most."""
    if not rows:
        return []
    to_day = [row.score.to_day_naive or math.inf for row in rows]
    to_best = [row.score.to_best_naive or math.inf for row in rows]
    soon = [row.soon_to_persistence for row in rows]
    origins = sum(row.origins for row in rows)
    covered = sum(row.score.coverage_ratio * row.origins for row in rows) / origins
    return [
        ("24 h, geometric mean of MAE / daily naive", statistics.geometric_mean(to_day), 0.0, 0.77),
        ("24 h, geometric mean of MAE / best naive", statistics.geometric_mean(to_best), 0.0, 0.95),
        ("24 h, worst MAE / best naive", max(to_best), 0.0, 1.15),
        (f"24 h, 80 % bands over {origins} origins cover", covered, 0.75, 0.85),
        ("1 h, geometric mean of MAE / persistence", statistics.geometric_mean(soon), 0.0, 1.05),
        ("1 h, worst MAE / persistence", max(soon), 0.0, 1.20),
        ("milliseconds per forecast (median)", max(row.milliseconds for row in rows), 0.0, 20.0),
    ]


def _print_rows(rows: list[Row]) -> None:
    headings = ("series", "ahead", "origins", "MASE", "to day naive", "to best naive", "soon to persistence")
    print(f"| {' | '.join(headings)} | covers | ms |")
    print(f"|{'---|' * (len(headings) + 2)}")
    for row in rows:
        figures = row.score
        ratios = (figures.mase, figures.to_day_naive, figures.to_best_naive, row.soon_to_persistence)
        print(
            f"| {row.name} | {row.ahead} | {row.origins} |"
            + "".join(" - |" if ratio is None else f" {ratio:.3f} |" for ratio in ratios)
            + f" {figures.coverage_ratio:.2f} | {row.milliseconds:.1f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
