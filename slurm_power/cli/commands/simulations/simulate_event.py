"""``slurm-power simulate event``: what a cut in power would cost a mix of jobs, minute by minute."""

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from slurm_power import clock
from slurm_power.cli.commands.connection import print_json
from slurm_power.cli.commands.out_file import out_problems, whole_file
from slurm_power.cli.commands.quantities import (
    Duration,
    duration_text,
    plain_text,
    range_problems,
    watts_text,
)
from slurm_power.cli.commands.simulations.ess_size import EssSize, EssSizeType
from slurm_power.cli.commands.table_file import TableFileError, opened

if TYPE_CHECKING:
    from slurm_power.plan.response import CapCurve
    from slurm_power.simulate.event_files import MixJob

_EXIT_BAD_INPUT = 2
_MOST_MINUTES = 7 * 24 * 60


@click.command("event")
@click.option("--mix", "mix_file", type=click.Path(path_type=Path), required=True, help="The jobs, as CSV.")
@click.option(
    "--curves", "curves_file", type=click.Path(path_type=Path), required=True, help="What caps do, as CSV."
)
@click.option("--cut", type=float, required=True, help="Share of the uncapped GPU power: 0.25.")
@click.option("--duration", type=Duration(), required=True, help="How long: 3h; whole minutes.")
@click.option(
    "--ess", type=EssSizeType(), default="none", help="A battery: 1h at the cut's power, 120kW/2h, 15%/2h."
)
@click.option(
    "--round-trip",
    type=float,
    default=0.88,
    show_default=True,
    help="Share of the charged energy that comes back.",
)
@click.option(
    "--ramp-seconds",
    type=float,
    default=0.0,
    show_default=True,
    help="The target falls over this, from the start of the event.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Noted down; nothing here is random.")
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON.")
@click.option(
    "--out", "out_file", type=click.Path(path_type=Path, dir_okay=False), help="Each job and minute as CSV."
)
def command(  # noqa: PLR0917  # click gives them by name
    mix_file: Path,
    curves_file: Path,
    cut: float,
    duration: float,
    ess: EssSize,
    round_trip: float,
    ramp_seconds: float,
    seed: int,
    as_json: bool,
    out_file: Path | None,
) -> None:
    """Cut the power of a mix of jobs, and see what each loses.

    MIX has the columns job, workload, gpus, flex (flex0 to flex3) and priority. CURVES has Workload, GPU
    power cap, throughput, normalized throughput and power per GPU: what a GPU draws and does under each
    cap. The cut is of what the mix draws under the highest caps. Beside the result stands what a linear
    program could reach at best.
    """
    problems = _problems(cut, duration, round_trip, ramp_seconds)
    problems += out_problems({"--out": out_file}, [mix_file, curves_file])
    jobs, curves = _read(mix_file, curves_file, problems)
    if problems:
        _refuse(problems)
    from slurm_power.simulate.event import EventSpec, responses_of, simulate_event  # noqa: PLC0415  # solver
    from slurm_power.simulate.event_result import CSV_COLUMNS, csv_rows, summary  # noqa: PLC0415  # as above

    began = clock.monotonic()
    uncapped_watts = sum(
        response.uncapped().gpu_watts * response.gpus for response in responses_of(jobs, curves)
    )
    ess_watts = ess.power_watts(uncapped_watts, cut * uncapped_watts)
    event = simulate_event(
        jobs,
        curves,
        EventSpec(
            cut_ratio=cut,
            minutes=round(duration / 60.0),
            ramp_seconds=ramp_seconds,
            ess_watts=ess_watts,
            ess_watt_hours=ess_watts * ess.hours,
            ess_round_trip_ratio=round_trip,
        ),
    )
    figures: dict[str, Any] = {
        "seed": seed,
        "mix": str(mix_file),
        "curves": str(curves_file),
        "round_trip_ratio": round_trip,
        **summary(event),
        "run_seconds": clock.monotonic() - began,
    }
    if out_file is not None:
        try:
            with whole_file(out_file) as lines:
                table = csv.writer(lines, lineterminator="\n")
                table.writerow(CSV_COLUMNS)
                table.writerows(csv_rows(event))
        except OSError as error:
            _refuse([f"--out: {out_file}: {error.strerror}"])
    if as_json:
        print_json(figures)
    else:
        _print(figures)


def _problems(cut: float, duration: float, round_trip: float, ramp_seconds: float) -> list[str]:
    problems = range_problems({"--round-trip": (round_trip, 0.01, 1.0)})
    if not 0.0 < cut < 1.0:
        problems.append(f"--cut: {cut:g} has to be more than 0 and less than 1")
    if not ramp_seconds >= 0.0:
        problems.append(f"--ramp-seconds: {ramp_seconds:g} has to be 0 or more")
    if not 60.0 <= duration <= 60.0 * _MOST_MINUTES or duration % 60.0:
        problems.append("--duration: has to be whole minutes, 1m to 7d")
    elif ramp_seconds >= duration:
        problems.append("--ramp-seconds: has to be shorter than the event")
    return problems


def _read(
    mix_file: Path, curves_file: Path, problems: list[str]
) -> "tuple[list[MixJob], dict[str, CapCurve]]":
    """Both tables; what is wrong with either goes to ``problems``."""
    from slurm_power.simulate.event_files import (  # noqa: PLC0415  # numpy
        EventTableError,
        read_curves,
        read_mix,
    )

    jobs: list[MixJob] = []
    curves: dict[str, CapCurve] = {}
    try:
        with opened(curves_file) as lines:
            curves = read_curves(lines, str(curves_file))
    except (TableFileError, EventTableError) as error:
        problems += error.problems
    try:
        with opened(mix_file) as lines:
            jobs = read_mix(lines, str(mix_file), curves or None)
    except (TableFileError, EventTableError) as error:
        problems += error.problems
    return jobs, curves


def _refuse(problems: list[str]) -> NoReturn:
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(_EXIT_BAD_INPUT)


def _print(figures: dict[str, Any]) -> None:
    table = Table("job", "flex", box=None, header_style="dim")
    for heading in ("GPUs", "cap", "paused", "draws", "performance", "floor"):
        table.add_column(heading, justify="right")
    for job in figures["jobs"]:
        table.add_row(
            plain_text(job["job"]),
            job["flex"],
            str(job["gpus"]),
            watts_text(job["cap_watts"]) + ("~" if job["alternates"] else ""),
            f"{job['paused_gpus']:.3g}",
            watts_text(job["power_watts"]),
            f"{job['performance_ratio']:.3f}",
            f"{job['floor_ratio']:.2f}",
        )
    Console().print(table)
    click.echo(
        f"uncapped {watts_text(figures['uncapped_watts'])}, target {watts_text(figures['target_watts'])}"
        f" for {duration_text(figures['duration_seconds'])}"
    )
    if figures["feasible"]:
        click.echo(
            f"on target within {figures['time_to_target_seconds']:.1f} s;"
            f" over-curtailed by {100 * figures['over_curtailment_ratio']:.2f} % of the uncapped power,"
            f" never more than {100 * figures['worst_above_target_ratio']:.2f} % above target"
        )
    else:
        click.echo(
            f"NOT FEASIBLE: {watts_text(figures['shortfall_watts'])} short of the target"
            " with every job at its floor"
        )
    click.echo(
        f"weighted performance {figures['weighted_performance']:.4f}"
        f" (at best {figures['bound_weighted_performance']:.4f}; weights are GPUs x priority),"
        f" {figures['lost_gpu_hours']:.1f} GPU-hours lost"
    )
    ess = figures["ess"]
    if ess is not None:
        click.echo(
            f"battery: {ess['discharged_kwh']:.1f} of {ess['usable_kwh']:.1f} kWh, at most"
            f" {watts_text(ess['highest_discharge_watts'])}, down to {100 * ess['lowest_soc_ratio']:.0f} %;"
            f" {ess['recharge_kwh']:.1f} kWh to recharge"
        )
    if figures["alternating_jobs"]:
        names = ", ".join(plain_text(name) for name in figures["alternating_jobs"])
        click.echo(f"~ changes between two settings within each minute: {names}")
    click.echo(
        f"back after {duration_text(figures['recovery_seconds'])}, at most"
        f" {100 * figures['largest_rise_ratio']:.1f} % a minute; seed {figures['seed']}"
    )
