"""``slurm-power simulate jobs``: a job log on a site, with the levers and without."""

import math
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

import click

from slurm_power.cli.commands.connection import print_json
from slurm_power.cli.commands.out_file import out_problems, whole_file
from slurm_power.cli.commands.progress_bar import progress_bar
from slurm_power.cli.commands.quantities import Duration, Watts, percent_text, range_problems, watts_text
from slurm_power.cli.commands.simulations.ess_size import EssSize, EssSizeType
from slurm_power.cli.commands.simulations.job_log_file import read_log
from slurm_power.cli.commands.simulations.jobs_words import EventType, LeversType, MixType
from slurm_power.cli.commands.table_file import TableFileError
from slurm_power.config import ConfigError, load_site
from slurm_power.model.billing_rules import BillingRules
from slurm_power.model.job import Flex
from slurm_power.plan.billing_period import billing_period
from slurm_power.signals.billing_file import read_billing_rules
from slurm_power.signals.held_file import SupplyFileError
from slurm_power.simulate.cluster import Hardware
from slurm_power.simulate.flex_mix import DEFAULT_MIX, Mix, mix_text
from slurm_power.simulate.job_logs import JobLogError
from slurm_power.simulate.jobs_case import Levers, Population, populate, run_case
from slurm_power.simulate.jobs_level import LevelSettings
from slurm_power.simulate.jobs_planner import Cut
from slurm_power.simulate.jobs_result import JsonObject, result, write_jobs, write_power
from slurm_power.simulate.jobs_run import RunRecord, Window

_EXIT_BAD_INPUT = 2
_DAY_SECONDS = 86_400.0
_MOST_STEPS = 2_000_000
_MOST_DAYS = 20_000.0
_Read = TypeVar("_Read")


@click.command("jobs")
@click.argument("jobs_file", metavar="JOBS", type=click.Path(path_type=Path))
@click.option("--site", "site_file", required=True, type=click.Path(path_type=Path), help="A site.toml.")
@click.option(
    "--ess", type=EssSizeType(), default="none", help="Battery: 15%/2h (of the highest load), 120kW/2h."
)
@click.option("--round-trip", type=float, default=0.88, show_default=True)
@click.option("--limit", "limit_watts", type=Watts(), help="What the grid connection may draw, e.g. 650kW.")
@click.option("--event", "events", type=EventType(), multiple=True, help="A cut of the load just before.")
@click.option(
    "--flex-mix", "mix", type=MixType(), default=mix_text(DEFAULT_MIX), show_default=True,
    help="Shares of the GPU-hours by flex class, for jobs of which the log says nothing.",
)  # fmt: skip
@click.option("--levers", "names", type=LeversType(), default="ess,cap,hold,gate", show_default=True)
@click.option("--from", "from_text", metavar="DATE", help="Begin (ISO 8601, or an offset such as 28d).")
@click.option("--days", type=float, help="How many days (default: to the end).")
@click.option(
    "--step", type=Duration(), default="5m", show_default=True, help="How finely results are written."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws who has which flex class.")
@click.option(
    "--tariff",
    "tariff_file",
    type=click.Path(path_type=Path),
    help="For the bill and a peak's price: URDB JSON (FILE#label to choose), ACN JSON or our TOML.",
)
@click.option("--gpus-per-node", type=click.IntRange(1, 1024), default=8, show_default=True)
@click.option(
    "--idle-watts", type=Watts(), default="250W", show_default=True, help="Per GPU slot, host included."
)
@click.option(
    "--gpus-per-processor", type=float, default=1.0, show_default=True,
    help="GPUs for each processor of an SWF log.",
)  # fmt: skip
@click.option(
    "--longest-hold", type=Duration(), default="4h", show_default=True, help="Beside each job's promise."
)
@click.option(
    "--quick", is_flag=True, help="The level by its rule alone, without the planner: 10 times as fast."
)
@click.option("--no-bound", is_flag=True, help="Leave out the bound of perfect foresight.")
@click.option("--out", type=click.Path(path_type=Path), help="Write time,circuit,power_watts here.")
@click.option("--out-jobs", type=click.Path(path_type=Path), help="Write what happened to each job here.")
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON.")
def command(  # noqa: PLR0917  # click gives them by name
    jobs_file: Path,
    site_file: Path,
    ess: EssSize,
    round_trip: float,
    limit_watts: float | None,
    events: tuple[tuple[str, float, float, float], ...],
    mix: Mix,
    names: frozenset[str],
    from_text: str | None,
    days: float | None,
    step: float,
    seed: int,
    tariff_file: Path | None,
    gpus_per_node: int,
    idle_watts: float,
    gpus_per_processor: float,
    longest_hold: float,
    quick: bool,
    no_bound: bool,
    out: Path | None,
    out_jobs: Path | None,
    as_json: bool,
) -> None:
    """Run recorded jobs on a site in virtual time.

    With the levers, without them, and at best.

    JOBS is a CSV (submit, start, end in epoch seconds, reqt, gpus, kw_per_gpu, user; also account, workload,
    flex), what sacct --parsable2 prints, or a log in the Standard Workload Format; each plain or .gz.

    With --limit or --event the planner holds those. Without, the aim is the peak of each billing period: the
    window if it has up to 31 days, else calendar months (UTC). Days of the log before --from are the history.
    The planner holds it, as the controller would.
    See docs/simulate-jobs.md.
    """
    problems = range_problems(
        {
            "--round-trip": (round_trip, 0.05, 1.0),
            "--days": (days, 1.0 / _DAY_SECONDS, _MOST_DAYS),
            "--gpus-per-processor": (gpus_per_processor, 1e-6, 1e6),
        }
    )
    problems += out_problems({"--out": out, "--out-jobs": out_jobs}, [jobs_file, site_file, tariff_file])
    site = _try(problems, lambda: load_site(site_file))
    zone: tzinfo = UTC if site is None else site.zone
    # With a share that cannot be, the log is read for what else is wrong.
    per_processor = gpus_per_processor if 0.0 < gpus_per_processor < math.inf else 1.0
    log = _try(problems, lambda: read_log(jobs_file, zone, per_processor))
    tariff = None if tariff_file is None else _try(problems, lambda: _read_tariff(tariff_file))
    if not 1.0 <= step <= _DAY_SECONDS or not step.is_integer():
        problems.append("--step: has to be whole seconds, 1s to 1d")
    population: Population | None = None
    if site is not None and log is not None and not problems:
        hardware = Hardware(
            gpus_per_node=gpus_per_node,
            idle_watts=idle_watts,
            board_idle_watts=min(site.policy.idle_gpu_watts, idle_watts),
        )
        population = _try(problems, lambda: populate(log, site.site, site.policy, hardware, mix, seed))
    if problems or population is None or site is None:
        _refuse(problems)
    window = _window(population, from_text, days, step, problems)
    cuts = [_cut(event, window, problems) for event in events]
    reference = population.most_watts()
    try:
        ess_watts = ess.power_watts(reference)
    except ValueError as error:
        problems.append(f"--ess: {error}")
        ess_watts = 0.0
    price = None if tariff is None else _try(problems, lambda: _demand_price(tariff, window, zone))
    if problems:
        _refuse(problems)
    levers = Levers(
        names=names,
        ess_watts=ess_watts,
        ess_kwh=ess_watts * ess.hours / 1000.0,
        round_trip_ratio=round_trip,
        limit_watts=limit_watts,
        cuts=tuple(cut for cut in cuts if cut is not None),
        settings=LevelSettings(planner=not quick, most_hold_seconds=longest_hold, demand_price_per_kw=price),
    )
    try:
        with progress_bar("running the window without, with, and with perfect foresight"):
            outcome = run_case(population, site.policy, window, levers, bound=not no_bound)
    except ValueError as error:
        _refuse([f"{jobs_file}: {error}"])
    found = {"seed": seed, "repeat": _repeat(), "settings": _settings(population, window, levers, mix)}
    try:
        found |= result(outcome, site.site, tariff, zone)
    except ValueError as error:
        _refuse([f"--tariff: {error}"])
    _write(out, outcome.controlled, write_power)
    _write(out_jobs, outcome.controlled, write_jobs)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _read_tariff(path: Path) -> BillingRules:
    rules = read_billing_rules(path)
    if not rules.energy:
        raise SupplyFileError(
            [f"{path}: no energy prices; a bill needs a [[season]] beside its demand charges"]
        )
    return rules


def _try(problems: list[str], read: Callable[[], _Read]) -> _Read | None:
    try:
        return read()
    except ConfigError as error:
        problems += [f"{error.file}: {problem}" for problem in error.problems]
    except (TableFileError, SupplyFileError, JobLogError) as error:
        problems += error.problems
    return None


def _moment(text: str, origin_seconds: float, what: str, problems: list[str]) -> float | None:
    """ISO 8601 (UTC where it does not say), or an offset from ``origin_seconds``."""
    try:
        return origin_seconds + Duration().convert(text, None, None)
    except click.BadParameter:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        problems.append(f"{what}: {text!r} is no time; write 2026-01-31, 2026-01-31T18:00 or an offset: 2d")
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _window(
    population: Population, from_text: str | None, days: float | None, step: float, problems: list[str]
) -> Window:
    """Whole steps; offsets count from the first midnight (UTC) of the log."""
    first = population.first_seconds // _DAY_SECONDS * _DAY_SECONDS
    begin = first if from_text is None else _moment(from_text, first, "--from", problems)
    begin = first if begin is None else begin // step * step
    last = population.last_seconds
    if not first <= begin < last:
        problems.append(
            f"--from: {from_text} is not inside the log,"
            f" {datetime.fromtimestamp(first, UTC):%Y-%m-%d} to {datetime.fromtimestamp(last, UTC):%Y-%m-%d}"
        )
        begin = first
    end = last if days is None else begin + days * _DAY_SECONDS
    steps = max(1, math.ceil(round((end - begin) / step, 6)))
    if steps > _MOST_STEPS:
        problems.append(
            f"--step: that makes {steps} steps, more than {_MOST_STEPS}; a longer step or fewer days"
        )
        steps = 1
    return Window(begin_seconds=begin, step_seconds=step, steps=steps)


def _cut(event: tuple[str, float, float, float], window: Window, problems: list[str]) -> Cut | None:
    start = _moment(event[0], window.begin_seconds, "--event", problems)
    if start is None:
        return None
    if not window.begin_seconds <= start < window.end_seconds:
        problems.append(f"--event: {event[0]} is not inside the simulated window")
    return Cut(start_seconds=start, duration_seconds=event[1], cut_ratio=event[2], cut_watts=event[3])


def _repeat() -> str:
    return shlex.join(["slurm-power", *sys.argv[1:]])


def _demand_price(tariff: BillingRules, window: Window, zone: tzinfo) -> float | None:
    """The dearest demand charge of the month that the window begins in, per kW."""
    charges = billing_period(tariff, window.begin_seconds, zone, {}).charges
    return max((charge.price_per_kw for charge in charges), default=None)


def _settings(population: Population, window: Window, levers: Levers, mix: Mix) -> JsonObject:
    return {
        "from": datetime.fromtimestamp(window.begin_seconds, UTC).isoformat().replace("+00:00", "Z"),
        "days": window.steps * window.step_seconds / _DAY_SECONDS,
        "step_seconds": window.step_seconds,
        "jobs_in_log": len(population.jobs),
        "gpus": population.layout.gpus,
        "flex_mix": {flex.value: mix.get(flex, 0.0) for flex in Flex},
        "levers": sorted(levers.names),
        "ess_power_watts": levers.ess_watts,
        "ess_energy_kwh": levers.ess_kwh,
        "round_trip_ratio": levers.round_trip_ratio,
        "limit_watts": levers.limit_watts,
        "longest_hold_seconds": levers.settings.most_hold_seconds,
        "most_lost_ratio": levers.settings.most_lost_ratio,
        "demand_price_per_kw": levers.settings.demand_price_per_kw,
        "quick": not levers.settings.planner,
    }


def _write(path: Path | None, record: RunRecord, write: Callable[[RunRecord, TextIO], None]) -> None:
    if path is None:
        return
    try:
        with whole_file(path) as file:
            write(record, file)
    except OSError as error:
        _refuse([f"{path}: {error.strerror}"])


def _print(found: JsonObject) -> None:
    without, controlled = found["without"], found["controlled"]
    settings = found["settings"]
    click.echo(
        f"{settings['jobs_in_log']} jobs on {settings['gpus']} GPUs,"
        f" {settings['days']:.1f} days from {settings['from']}; seed {found['seed']}"
    )
    click.echo(f"repeat: {found['repeat']}")
    for note in found["notes"]:
        click.echo(f"note: {note}")
    click.echo(f"{'circuit':<16} {'peak without':>14} {'with':>12}")
    for name, watts in without["peak_watts"].items():
        click.echo(f"{name:<16} {watts_text(watts):>14} {watts_text(controlled['peak_watts'][name]):>12}")
    for period in found["periods"]:
        if period["peak_bound_watts"] is not None:
            click.echo(
                f"period from {period['begin']}: {watts_text(period['peak_without_watts'])} without,"
                f" {watts_text(period['peak_controlled_watts'])} with,"
                f" {watts_text(period['peak_bound_watts'])} at best:"
                f" {percent_text(period['peak_share'])} of it"
            )
    for event in found["events"]:
        click.echo(
            f"event {event['start']} to {event['end']}: limit {watts_text(event['limit_watts'])},"
            f" highest {watts_text(event['highest_watts'])}, {event['steps_above']} steps above"
        )
    for label, run in (("without", without), ("with", controlled)):
        for name, seen in run["violations"].items():
            click.echo(
                f"{label}: {name} above its limit {seen['count']} times, {seen['seconds']:.0f} s,"
                f" at worst by {watts_text(seen['worst_watts'])}"
            )
    lost = controlled["gpu_hours_lost_ratio"]
    click.echo(
        f"GPU-hours lost: {controlled['gpu_hours_lost']:.0f} of {without['gpu_hours']:.0f} ({lost:.2%})"
    )
    for flex, seen in controlled["by_class"].items():
        if seen["jobs"]:
            click.echo(
                f"  {flex}: {seen['jobs']} jobs, mean delay {seen['delay_mean_hours']:.2f} h"
                f" (95 % below {seen['delay_p95_hours']:.1f} h), mean slowdown"
                f" {seen['slowdown_mean_ratio']:.1%}, longest hold {seen['hold_most_hours']:.1f} h"
            )
    fair = controlled["fairness"]
    worst = (
        ""
        if fair["worst_user"] is None
        else f", worst: {fair['worst_user']} {fair['worst_user_lost_ratio']:.1%}"
    )
    click.echo(f"fairness: Jain {fair['jain_index']:.3f} over {fair['users']} users{worst}")
    if "ess" in controlled:
        click.echo(
            f"battery: {controlled['ess']['cycles']:.1f} cycles,"
            f" lowest charge {percent_text(controlled['ess']['lowest_soc_ratio'])}"
        )
    if "bill" in without:
        click.echo(f"bill: {without['bill']:.2f} without, {controlled['bill']:.2f} with")


def _refuse(problems: list[str]) -> NoReturn:
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(_EXIT_BAD_INPUT)
