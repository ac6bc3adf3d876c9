"""``slurm-power backtest-jobs``: what knowing jobs is worth for the next hour, on anybody's own log."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurm_power import clock
from slurm_power.cli.commands.connection import print_json
from slurm_power.cli.commands.jobs_file import JobRow, read_jobs
from slurm_power.cli.commands.quantities import Duration, duration_text, percent_text
from slurm_power.cli.commands.table_file import TableFileError

if TYPE_CHECKING:
    from slurm_power.forecast.backtest_jobs import LoggedJob

_EXIT_BAD_INPUT = 2
_MOST_HOURS = 24.0


@click.command("backtest-jobs")
@click.argument("jobs_file", metavar="JOBS.csv[.gz]", type=click.Path(path_type=Path))
@click.option("--horizon", type=Duration(), default="30m", show_default=True, help="How far to look ahead.")
@click.option("--origins", type=click.IntRange(1, 10_000), default=400, show_default=True)
@click.option(
    "--gpus",
    type=click.FloatRange(min=0.0, min_open=True),
    help="How many there are (default: the most in use at once up to each origin).",
)
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON.")
def backtest_jobs(jobs_file: Path, horizon: float, origins: int, gpus: float | None, as_json: bool) -> None:
    """Forecast what known jobs will draw within the next minutes, and say how good that was.

    JOBS has the columns submit, start, end (epoch seconds), reqt (time limit in seconds), gpus, kw_per_gpu
    and user. From an origin only jobs submitted by then are visible; starts within the horizon are taken as
    planned by the controller, ends are drawn from how long earlier jobs ran. Origins lie in the last 40 % of
    the log. Errors are ratios to those of "as now".
    """
    problems = []
    if not 60.0 <= horizon <= 3600.0 * _MOST_HOURS:
        problems.append(f"--horizon: has to be 1m to {_MOST_HOURS:.0f}h")
    try:
        rows = read_jobs(jobs_file)
    except TableFileError as error:
        problems += error.problems
    if problems:
        _refuse(problems)
    from slurm_power.forecast.backtest_jobs import judge  # noqa: PLC0415  # numpy

    jobs = [logged_job(row) for row in rows]
    try:
        found = judge(jobs, horizon_seconds=horizon, origins=origins, total_gpus=gpus, clock=clock.monotonic)
    except ValueError as error:
        _refuse([f"{jobs_file}: {error}"])
    if as_json:
        print_json({"jobs": len(jobs), **asdict(found)})
        return
    ahead = duration_text(horizon)
    click.echo(f"{len(jobs)} jobs, {found.origins} origins, {ahead} ahead; mean error over that of 'as now':")
    click.echo(
        f"  planned starts known   {_ratio_text(found.planned)} (at {ahead}: {_ratio_text(found.at_end)})"
    )
    click.echo(f"  nothing planned        {_ratio_text(found.nothing_planned)}")
    click.echo(f"  ends known too         {_ratio_text(found.true_ends)} (a bound: nobody knows them)")
    covers = percent_text(found.coverage_ratio)
    click.echo(f"80 % of paths cover {covers}; {found.milliseconds:.1f} ms a forecast")


def logged_job(row: JobRow) -> "LoggedJob":
    """A row as what is judged."""
    from slurm_power.forecast.backtest_jobs import LoggedJob  # noqa: PLC0415  # numpy
    from slurm_power.forecast.run_times import JobKind  # noqa: PLC0415  # as above

    return LoggedJob(
        JobKind(row.user, row.gpus, row.limit_seconds),
        row.watts_per_gpu * row.gpus,
        row.submit_seconds,
        row.start_seconds,
        row.end_seconds,
    )


def _ratio_text(ratio: float | None) -> str:
    return "\N{EN DASH}" if ratio is None else f"{ratio:.3f}"


def _refuse(problems: list[str]) -> Any:
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(_EXIT_BAD_INPUT)
