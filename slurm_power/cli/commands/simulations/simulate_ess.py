"""``slurm-power simulate ess``: what a battery would have saved a recorded load, month by month."""

import csv
import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from slurm_power.cli.commands.out_file import out_problems, whole_file
from slurm_power.cli.commands.progress_bar import progress_bar
from slurm_power.cli.commands.quantities import Duration, percent_text, range_problems, watts_text
from slurm_power.cli.commands.simulations.power_table import PowerTableType
from slurm_power.cli.commands.simulations.series_file import read_series
from slurm_power.cli.commands.table_file import TableFileError
from slurm_power.forecast.experts import Values
from slurm_power.model.billing_rules import BillingRules
from slurm_power.model.power_table import PowerTable
from slurm_power.plan.billing import Bill
from slurm_power.plan.cycle_budget import CycleRules
from slurm_power.plan.peak_level import Battery
from slurm_power.signals.billing_file import read_billing_rules
from slurm_power.signals.held_file import SupplyFileError
from slurm_power.signals.price_file import read_prices
from slurm_power.simulate.ess import Course, Load, MonthResult, Tariffed, results, run_causal

_WATTS = {"W": 1.0, "kW": 1000.0}
# A gap is bridged by the value before it, up to this share of all steps.
_MOST_GAPS_RATIO = 0.2
_MOST_STEPS = 2_000_000


class _Unusable(click.ClickException):
    """Input that cannot be used: every problem on a line of its own."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print all problems."""
        for problem in self.message.splitlines():
            click.echo(f"error: {problem}", err=True, file=file)


@click.command("ess")
@click.argument("series", type=click.Path(path_type=Path))
@click.option("--ess-power-ratio", type=float, required=True, help="ESS power over the highest load.")
@click.option("--ess-hours", type=float, required=True, help="How long the ESS lasts at that power.")
@click.option("--round-trip", type=float, default=0.88, show_default=True, help="Energy out over energy in.")
@click.option(
    "--wear-per-kwh", type=float, default=0.02, show_default=True, help="Ageing, in money per kWh discharged."
)
@click.option("--cycles-per-day", type=float, help="Full cycles a day that trading may use up.")
@click.option("--cycles-per-year", type=float, help="The same a year, paced day by day.")
@click.option(
    "--charge-power-by-soc", type=PowerTableType(), help="Share of its power by charge: 0.8:1,1:0.2."
)
@click.option("--discharge-power-by-soc", type=PowerTableType(), help="The same while it gives: 0:0.2,0.1:1.")
@click.option(
    "--unit", type=click.Choice(sorted(_WATTS)), default="kW", show_default=True, help="Of the load."
)
@click.option("--column", help="Heading of the load's column, by default the second.")
@click.option("--tariff", help="URDB JSON (FILE#label to choose), ACN JSON or our TOML; needed for a bill.")
@click.option("--prices", help="CSV of energy prices instead of the tariff's (FILE#column to choose).")
@click.option(
    "--history",
    type=Duration(),
    default="28d",
    show_default=True,
    help="Months count that begin so long after the series does.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write every step to this CSV (.csv)."
)
def command(  # noqa: PLR0917 - click passes each option by its name
    series: Path,
    ess_power_ratio: float,
    ess_hours: float,
    round_trip: float,
    wear_per_kwh: float,
    cycles_per_day: float | None,
    cycles_per_year: float | None,
    charge_power_by_soc: PowerTable | None,
    discharge_power_by_soc: PowerTable | None,
    unit: str,
    column: str | None,
    tariff: str | None,
    prices: str | None,
    history: float,
    as_json: bool,
    out: Path | None,
) -> None:
    """Dispatch a battery (ESS) against a recorded load.

    SERIES is a CSV of times and load. At each step only what has come before is known.

    Beside it stand the same months without an ESS, and with perfect foresight. The ESS starts half full;
    losses are split evenly between charging and discharging; months are calendar months in UTC.

    \b
    slurm-power simulate ess load.csv.gz --ess-power-ratio 0.15 --ess-hours 2
    slurm-power simulate ess load.csv --ess-power-ratio 0.15 --ess-hours 2 --tariff rate.json --out steps.csv
    """
    cycles = CycleRules(per_day=cycles_per_day, per_year=cycles_per_year)
    problems = _size_problems(ess_power_ratio, ess_hours, round_trip, wear_per_kwh, cycles)
    load = _read_load(series, column, _WATTS[unit], problems)
    rules = _read_rules(tariff, problems)
    price = None if load is None or prices is None else _read_prices(prices, load, problems)
    if prices is not None and tariff is None:
        problems.append("--prices: needs --tariff, which says how months and demand are charged")
    problems += out_problems({"--out": out}, [series, tariff, prices])
    if out is not None and not str(out).endswith(".csv"):
        problems.append(f"--out: {out} has to end in .csv")
    if problems or load is None:
        raise _Unusable("\n".join(problems))
    battery = replace(
        _battery(load, ess_power_ratio, ess_hours, round_trip, wear_per_kwh),
        charge_power_by_soc=charge_power_by_soc,
        discharge_power_by_soc=discharge_power_by_soc,
    )
    try:
        tariffed = Tariffed(load, rules, price)
    except ValueError as error:
        raise _Unusable(f"--tariff: {error}") from None
    if not tariffed.judged(history):
        days = history / 86_400.0
        raise _Unusable(f"{series}: no calendar month begins {days:g} days or more after its first step")
    start_kwh = 0.5 * battery.energy_kwh
    with progress_bar("dispatching", len(load.watts)) as done:
        course = run_causal(
            load,
            battery,
            tariffed,
            start_kwh=start_kwh,
            cycles=None if cycles.is_none else cycles,
            seen=done,
        )
    months = results(load, battery, tariffed, course, start_kwh=start_kwh, history_seconds=history)
    if out is not None:
        _write_steps(out, load, course, battery)
    summary = _summary(load, battery, course, months)
    inputs = {
        "series": str(series),
        "ess_power_ratio": ess_power_ratio,
        "ess_hours": ess_hours,
        "round_trip_ratio": round_trip,
        "wear_per_kwh": wear_per_kwh,
        "cycles_per_day": cycles_per_day,
        "cycles_per_year": cycles_per_year,
        "charge_power_by_soc": None if charge_power_by_soc is None else charge_power_by_soc.points,
        "discharge_power_by_soc": None if discharge_power_by_soc is None else discharge_power_by_soc.points,
        "unit": unit,
        "tariff": tariff,
        "prices": prices,
        "history_days": history / 86_400.0,
        # Nothing here is drawn by chance: the same input gives the same answer.
        "seed": None,
    }
    rows = [_month(month, load, course, battery) for month in months]
    if as_json:
        click.echo(json.dumps({"inputs": inputs, "months": rows, "summary": summary}, indent=2))
        return
    _print(months, rows, summary, battery)


def _size_problems(
    power_ratio: float, hours: float, round_trip: float, wear: float, cycles: CycleRules
) -> list[str]:
    return range_problems(
        {
            "--ess-power-ratio": (power_ratio, 0.0, 10.0),
            "--ess-hours": (hours, 0.0, 1000.0),
            "--round-trip": (round_trip, 0.01, 1.0),
            "--wear-per-kwh": (wear, 0.0, 1000.0),
            "--cycles-per-day": (cycles.per_day, 0.0, 24.0),
            "--cycles-per-year": (cycles.per_year, 0.0, 8784.0),
        }
    )


def _read_load(path: Path, column: str | None, unit_watts: float, problems: list[str]) -> Load | None:
    try:
        times, values = (np.array(part) for part in read_series(path, column))
    except TableFileError as error:
        problems += error.problems
        return None
    found = _load_problems(path, times, values)
    if found:
        problems += found
        return None
    step = float(np.median(np.diff(times)))
    places = np.round((times - times[0]) / step).astype(np.int64)
    watts = np.full(int(places[-1]) + 1, np.nan)
    watts[places] = values * unit_watts
    gaps = int(np.isnan(watts).sum())
    if gaps > _MOST_GAPS_RATIO * len(watts):
        problems.append(f"{path}: {gaps} of {len(watts)} steps have no value; at most a fifth may be missing")
        return None
    if gaps:
        click.echo(f"{path}: {gaps} steps have no value; the value before stands for them", err=True)
        known = np.maximum.accumulate(np.where(np.isnan(watts), 0, np.arange(len(watts))))
        watts = watts[known]
        watts[np.isnan(watts)] = watts[~np.isnan(watts)][0]
    grid = times[0] + step * np.arange(len(watts))
    return Load(times_seconds=grid, watts=watts, step_seconds=step)


def _load_problems(path: Path, times: Values, values: Values) -> list[str]:
    if len(times) < 3:
        return [f"{path}: at least three rows are needed"]
    problems = []
    if np.isnan(values).all():
        problems.append(f"{path}: it has no value")
    elif float(np.nanmax(values)) <= 0.0:
        problems.append(f"{path}: no load is above 0; is it an export, with the other sign?")
    steps = np.diff(times)
    step = float(np.median(steps))
    places = (times - times[0]) / max(step, 1e-9)
    if (steps <= 0.0).any():
        row = int(np.argmax(steps <= 0.0)) + 3
        problems.append(f"{path}: row {row}: times have to rise; is it sorted, and are the times UTC?")
    elif not 1.0 <= step <= 3600.0 or 86_400.0 % step:
        problems.append(f"{path}: a step of {step:g} s; it has to be 1 s to 1 h, and part a day evenly")
    elif (off := np.abs(places - np.round(places)) > 0.01).any():
        row = int(np.argmax(off)) + 2
        problems.append(f"{path}: row {row}: not on the grid of {step:g} s from the first row on")
    elif places[-1] > _MOST_STEPS:
        problems.append(f"{path}: more than {_MOST_STEPS} steps; cut it, or take means over longer steps")
    return problems


def _read_rules(tariff: str | None, problems: list[str]) -> BillingRules | None:
    if tariff is None:
        return None
    try:
        return read_billing_rules(Path(tariff))
    except SupplyFileError as error:
        problems += [f"--tariff: {problem}" for problem in error.problems]
        return None


def _read_prices(prices: str, load: Load, problems: list[str]) -> Values | None:
    try:
        return read_prices(Path(prices), load.times_seconds, load.step_seconds)
    except SupplyFileError as error:
        problems += [f"--prices: {problem}" for problem in error.problems]
        return None


def _battery(load: Load, power_ratio: float, hours: float, round_trip: float, wear: float) -> Battery:
    power_watts = power_ratio * float(load.watts.max())
    return Battery(
        charge_watts=power_watts,
        discharge_watts=power_watts,
        energy_kwh=power_watts * hours / 1000.0,
        charge_ratio=math.sqrt(round_trip),
        discharge_ratio=math.sqrt(round_trip),
        wear_per_kwh=wear,
    )


def _write_steps(out: Path, load: Load, course: Course, battery: Battery) -> None:
    try:
        with whole_file(out) as file:
            writer = csv.writer(file)
            writer.writerow(["time", "load_watts", "ess_discharge_watts", "grid_import_watts", "soc_ratio"])
            for step, seconds in enumerate(load.times_seconds.tolist()):
                writer.writerow(
                    [
                        _time(seconds),
                        f"{load.watts[step]:.3f}",
                        f"{course.discharge_watts[step]:.3f}",
                        f"{course.import_watts[step]:.3f}",
                        f"{_soc(course.stored_kwh[step], battery):.6f}",
                    ]
                )
    except OSError as error:
        raise _Unusable(f"--out: {out}: {error.strerror}") from None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _soc(stored_kwh: float, battery: Battery) -> float:
    return 0.0 if battery.energy_kwh <= 0.0 else float(stored_kwh) / battery.energy_kwh


def _month(month: MonthResult, load: Load, course: Course, battery: Battery) -> dict[str, object]:
    steps = slice(month.first, month.end)
    worst = month.first + int(np.argmax(course.import_watts[steps]))
    out_kwh = float(np.maximum(course.discharge_watts[steps], 0.0).sum()) * load.step_hours / 1000.0
    taken_kwh = out_kwh / battery.discharge_ratio
    return {
        "month": month.month,
        "steps": month.end - month.first,
        "peak_without_watts": month.peak_without_watts,
        "peak_with_watts": month.peak_with_watts,
        "peak_perfect_watts": month.peak_perfect_watts,
        "peak_share": month.peak_share,
        "bill_without": _total(month.bill_without),
        "bill_with": _total(month.bill_with),
        "bill_perfect": _total(month.bill_perfect),
        "saving_share": month.saving_share,
        "wear": out_kwh * battery.wear_per_kwh,
        "lowest_soc_ratio": _soc(float(course.stored_kwh[steps].min()), battery),
        "cycles": taken_kwh / battery.energy_kwh if battery.energy_kwh > 0.0 else 0.0,
        "worst_step": {
            "time": _time(float(load.times_seconds[worst])),
            "load_watts": float(load.watts[worst]),
            "grid_import_watts": float(course.import_watts[worst]),
            "soc_ratio": _soc(float(course.stored_kwh[worst]), battery),
        },
    }


def _total(bill: Bill | None) -> float | None:
    return None if bill is None else bill.total


def _summary(load: Load, battery: Battery, course: Course, months: list[MonthResult]) -> dict[str, object]:
    shares = [month.peak_share for month in months if month.peak_share is not None]
    whole = [month for month in months if month.bill_perfect is not None]
    possible = sum(_saving(month.bill_without, month.bill_perfect) for month in whole)
    reached = sum(_saving(month.bill_without, month.bill_with) for month in whole)
    return {
        "months": len(months),
        "mean_peak_share": float(np.mean(shares)) if shares else None,
        "worst_peak_share": min(shares) if shares else None,
        "months_at_least_half_ratio": float(np.mean([share >= 0.5 for share in shares])) if shares else None,
        "saving": reached if whole else None,
        "perfect_saving": possible if whole else None,
        "saving_share": reached / possible if whole and possible > 0.0 else None,
        "ess_power_watts": battery.discharge_watts,
        "ess_energy_kwh": battery.energy_kwh,
        "step_seconds": load.step_seconds,
        "lowest_soc_ratio": _soc(float(course.stored_kwh.min()), battery),
    }


def _saving(without: Bill | None, other: Bill | None) -> float:
    return 0.0 if without is None or other is None else without.total - other.total


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_style="")
    table.add_column("month")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _print(
    months: list[MonthResult], rows: list[dict[str, object]], summary: dict[str, Any], battery: Battery
) -> None:
    has_bill = any(month.bill_without is not None for month in months)
    title = f"ESS of {watts_text(battery.discharge_watts)} and {battery.energy_kwh:.0f} kWh"
    peaks = _table(title, "peak without", "with", "perfect", "share", "lowest SoC", "cycles")
    bills = _table("the bill", "bill without", "with", "perfect", "share")
    for month, row in zip(months, rows, strict=True):
        peaks.add_row(
            month.month,
            watts_text(month.peak_without_watts),
            watts_text(month.peak_with_watts),
            watts_text(month.peak_perfect_watts),
            percent_text(month.peak_share),
            percent_text(float(str(row["lowest_soc_ratio"]))),
            f"{row['cycles']:.1f}",
        )
        each = (month.bill_without, month.bill_with, month.bill_perfect)
        cells = ["-" if bill is None else f"{bill.total:,.0f}" for bill in each]
        bills.add_row(month.month, *cells, percent_text(month.saving_share))
    console = Console()
    console.print(peaks)
    if has_bill:
        console.print(bills)
    billed = [month.bill_without for month in months if month.bill_without is not None]
    if unnamed := sorted({charge.name for bill in billed for charge in bill.open}):
        click.echo(f"not yet known, and in no bill: {', '.join(unnamed)}")
    click.echo(
        f"mean share of the perfect peak reduction {percent_text(summary['mean_peak_share'])},"
        f" worst month {percent_text(summary['worst_peak_share'])},"
        f" months with at least half of it {percent_text(summary['months_at_least_half_ratio'])}"
    )
    if has_bill:
        click.echo(
            f"saving {summary['saving']:,.0f} of {summary['perfect_saving']:,.0f} with perfect foresight:"
            f" {percent_text(summary['saving_share'])}"
        )
