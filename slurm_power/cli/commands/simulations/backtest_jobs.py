"""``slurm-power backtest-jobs``: what knowing jobs is worth for the next hour, on anybody's own log."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurm_power import clock
from slurm_power.cli.commands.connection import print_json
from slurm_power.cli.commands.progress_bar import progress_bar
from slurm_power.cli.commands.quantities import Duration, duration_text, percent_text, range_problems
from slurm_power.cli.commands.simulations.jobs_file import JobRow, read_jobs
from slurm_power.cli.commands.table_file import TableFileError

if TYPE_CHECKING:
    from slurm_power.forecast.backtest_job_power import SubmittedJob
    from slurm_power.forecast.backtest_jobs import LoggedJob

_EXIT_BAD_INPUT = 2
_MOST_HOURS = 24.0
_JOBS_BEFORE = {0: "no", 1: "1 to 4", 5: "5 to 19", 20: "20 or more"}


@click.command("backtest-jobs")
@click.argument("jobs_file", metavar="JOBS.csv[.gz]", type=click.Path(path_type=Path))
@click.option("--horizon", type=Duration(), default="30m", show_default=True, help="How far to look ahead.")
@click.option("--origins", type=click.IntRange(1, 10_000), default=400, show_default=True)
@click.option(
    "--gpus",
    type=float,
    help="How many there are (default: the most in use at once up to each origin).",
)
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON.")
def backtest_jobs(jobs_file: Path, horizon: float, origins: int, gpus: float | None, as_json: bool) -> None:
    """Measure how well the draw of jobs would have been forecast.

    Within the next minutes, and of each job at its submission.

    JOBS has the columns submit, start, end (epoch seconds), reqt (time limit in seconds), gpus, kw_per_gpu
    and user, and may have account, name, workload, tier and gpu_type.

    The next minutes: from an origin only jobs submitted by then are visible; starts within the horizon are
    taken as planned by the controller, ends are drawn from how long earlier jobs ran. Origins lie in the last
    40 % of the log. Errors are ratios to those of "as now".

    At submission: watts per GPU, from jobs that had ended by then. Errors are ratios to those of the mean of
    the user's own.
    """
    problems = []
    if not 60.0 <= horizon <= 3600.0 * _MOST_HOURS:
        problems.append(f"--horizon: has to be 1m to {_MOST_HOURS:.0f}h")
    problems += range_problems({"--gpus": (gpus, 0.001, 1e9)})
    try:
        rows = read_jobs(jobs_file)
    except TableFileError as error:
        problems += error.problems
    if problems:
        _refuse(problems)
    from slurm_power.forecast.backtest_job_power import judge_power  # noqa: PLC0415  # numpy
    from slurm_power.forecast.backtest_jobs import judge  # noqa: PLC0415  # as above

    jobs = [logged_job(row) for row in rows]
    try:
        with progress_bar("forecasting from each origin"):
            found = judge(
                jobs, horizon_seconds=horizon, origins=origins, total_gpus=gpus, clock=clock.monotonic
            )
    except ValueError as error:
        _refuse([f"{jobs_file}: {error}"])
    at_submission = judge_power([submitted_job(row) for row in rows])
    if as_json:
        rows_of_power = [{**asdict(score), "ratio": score.ratio} for score in at_submission]
        print_json({"jobs": len(jobs), **asdict(found), "power_at_submission": rows_of_power})
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
    click.echo("watts per GPU at submission; mean error over that of the user's mean:")
    for score in at_submission:
        who = f"{score.workload or 'all'}, users with {_JOBS_BEFORE[score.from_jobs]} jobs before"
        ratio = "the user's mean is exact" if score.ratio is None else f"{score.ratio:.3f}"
        click.echo(f"  {who:<42} {ratio} ({score.mae_watts:.0f} W, {score.jobs} jobs)")


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


def submitted_job(row: JobRow) -> "SubmittedJob":
    """A row as what job power is judged on."""
    from slurm_power.forecast.backtest_job_power import SubmittedJob  # noqa: PLC0415  # numpy
    from slurm_power.forecast.job_power import Submission  # noqa: PLC0415  # as above

    told = Submission(
        user=row.user,
        account=row.account,
        name=row.name,
        workload=row.workload,
        tier=row.tier,
        gpu_type=row.gpu_type,
        gpus=row.gpus,
    )
    return SubmittedJob(told, row.watts_per_gpu, row.submit_seconds, row.end_seconds)


def _ratio_text(ratio: float | None) -> str:
    return "\N{EN DASH}" if ratio is None else f"{ratio:.3f}"


def _refuse(problems: list[str]) -> Any:
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(_EXIT_BAD_INPUT)
