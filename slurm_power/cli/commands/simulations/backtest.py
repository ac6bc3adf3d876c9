"""``slurm-power backtest``: how well a series would have been forecast, on anybody's own data."""

import csv
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from slurm_power import clock
from slurm_power.cli.commands.connection import print_json
from slurm_power.cli.commands.out_file import out_problems, whole_file
from slurm_power.cli.commands.progress_bar import progress_bar
from slurm_power.cli.commands.quantities import Duration, duration_text, percent_text
from slurm_power.cli.commands.simulations.series_file import read_series
from slurm_power.cli.commands.table_file import TableFileError

if TYPE_CHECKING:
    from slurm_power.forecast.backtest import Origin
    from slurm_power.forecast.grid import Series

_EXIT_BAD_INPUT = 2
# What each extra brings.
_PACKAGES = {"forecast": "statsmodels", "peers": "statsforecast"}
_PEERS_EXTRA = "peers"
_DAY_SECONDS = 86_400.0
_MOST_STEPS_AHEAD = 2_000
_LEAST_STEP_SECONDS = 1.0


@click.command()
@click.argument("series_file", metavar="SERIES.csv[.gz]", type=click.Path(path_type=Path))
@click.option("--column", help="Heading of the values (default: the second column).")
@click.option("--horizon", type=Duration(), default="24h", show_default=True, help="How far to look ahead.")
@click.option("--step", type=Duration(), default="15m", show_default=True, help="Values are means over this.")
@click.option("--origins", type=click.IntRange(1, 10_000), default=24, show_default=True)
@click.option(
    "--model", "models", multiple=True, help="Instead of 'blend': 'all', or one or several by name."
)
@click.option(
    "--out", "out_file", type=click.Path(path_type=Path, dir_okay=False), help="Each forecast as CSV."
)
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON.")
def backtest(  # noqa: PLR0917  # click gives them by name
    series_file: Path,
    column: str | None,
    horizon: float,
    step: float,
    origins: int,
    models: tuple[str, ...],
    out_file: Path | None,
    as_json: bool,
) -> None:
    """Measure how well a series would have been forecast.

    SERIES has times (ISO 8601 or epoch seconds) in its first column and a value in another; gaps are allowed,
    order does not matter. Nothing after an origin is ever visible to its forecast. A MASE of 1 is the error
    of "the same as yesterday" in the weeks before. A horizon of up to 2h in steps of up to 5m is forecast as
    the next hour is, by other experts.

    Where statsmodels is installed (slurm-power[forecast]) the blend has a state-space model as well, which is
    fitted every four weeks. peer_mstl and peer_autoarima are statsforecast's (slurm-power[peers]); they take
    seconds for each forecast.
    """
    from slurm_power.forecast.backtest import (  # noqa: PLC0415  # numpy
        model_named,
        names_for,
        pick_origins,
        run,
        score,
    )
    from slurm_power.forecast.experts import Seasons  # noqa: PLC0415  # as above
    from slurm_power.forecast.grid import on_grid  # noqa: PLC0415  # as above

    problems = _step_problems(horizon, step)
    # With steps that cannot be, the rest is checked as for the usual ones, so that all is told at once.
    seasons = Seasons(96, 96) if problems else Seasons(round(_DAY_SECONDS / step), round(horizon / step))
    extras = names_for(seasons)
    names = _models(models, extras)
    problems += _problems(names, extras)
    problems += out_problems({"--out": out_file}, [series_file])
    try:
        times, values = read_series(series_file, column)
    except TableFileError as error:
        problems += error.problems
    if problems:
        _refuse(problems)
    import numpy as np  # noqa: PLC0415  # as above

    try:
        series = on_grid(np.asarray(times), np.asarray(values), step)
        chosen = pick_origins(len(series.values), seasons, origins)
    except ValueError as error:
        _refuse([f"{series_file}: {error}"])
    results: list[dict[str, Any]] = []
    silent = []
    for name in names:
        began = clock.monotonic()
        model = model_named(name, seasons, clock.monotonic)
        found = []
        with progress_bar(f"{name} at each origin", len(chosen)) as done:
            for count, origin in enumerate(run(series.values, seasons, chosen, model, clock.monotonic), 1):
                found.append(origin)
                done(count)
        if not found:
            silent.append(f"{series_file}: {name} has nothing to say at any of the origins")
            continue
        try:
            judged = score(series.values, seasons, found)
        except ValueError as error:
            _refuse([f"{series_file}: {error}"])
        results.append(
            {
                "model": name,
                "origins": len(found),
                **asdict(judged),
                "milliseconds_per_forecast": 1000.0 * sum(origin.seconds for origin in found) / len(found),
                "refits": len(model.refit_seconds),
                "refit_seconds": max(model.refit_seconds, default=None),
                "seconds": clock.monotonic() - began,
            }
        )
        if out_file is not None and len(results) == 1:
            _write(out_file, series, found)
    if not results:
        _refuse(silent)
    for line in silent:
        click.echo(line, err=True)
    _print(series, seasons.day_steps, results, as_json=as_json)


def _models(asked: tuple[str, ...], extras: Mapping[str, str]) -> list[str]:
    if "all" in asked:
        # Peers take minutes: only who is asked for by name.
        every = [name for name, extra in extras.items() if extra != _PEERS_EXTRA and _is_there(extra)]
        asked = (*every, *(name for name in asked if name != "all"))
    return list(dict.fromkeys(asked)) or ["blend"]


def _is_there(extra: str) -> bool:
    """Whether the package that an extra brings is installed; "" brings none."""
    return not extra or find_spec(_PACKAGES[extra]) is not None


def _step_problems(horizon: float, step: float) -> list[str]:
    whole = step >= _LEAST_STEP_SECONDS and abs(_DAY_SECONDS / step - round(_DAY_SECONDS / step)) < 1e-9
    if not whole:
        return ["--step: a day has to be a whole number of steps of at least 1 s"]
    if not 1 <= round(horizon / step) <= _MOST_STEPS_AHEAD:
        return [f"--horizon: has to be 1 to {_MOST_STEPS_AHEAD} steps"]
    return []


def _problems(names: list[str], extras: Mapping[str, str]) -> list[str]:
    problems = []
    for name in names:
        if name not in extras:
            problems.append(f"--model: there is no {name!r}; there are {', '.join(extras)}")
        elif not _is_there(extras[name]):
            extra = extras[name]
            problems.append(f"--model: {name} needs {_PACKAGES[extra]}: pip install 'slurm-power[{extra}]'")
    return problems


def _refuse(problems: list[str]) -> Any:
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(_EXIT_BAD_INPUT)


def _write(path: Path, series: "Series", found: "list[Origin]") -> None:
    """A row a forecast step; the origin is the time of the last known value."""
    try:
        with whole_file(path) as lines:
            table = csv.writer(lines, lineterminator="\n")
            table.writerow(("origin", "time", "p10", "p50", "p90", "actual"))
            for origin in found:
                last_seconds = series.start_seconds + (origin.index - 1) * series.step_seconds
                for step, actual in enumerate(origin.actual):
                    bounds = (origin.forecast.p10, origin.forecast.p50, origin.forecast.p90)
                    table.writerow(
                        (
                            _iso(last_seconds),
                            _iso(last_seconds + (step + 1) * series.step_seconds),
                            *(f"{float(values[step]):.6g}" for values in bounds),
                            "" if actual != actual else f"{float(actual):.6g}",  # noqa: PLR0124  # NaN
                        )
                    )
    except OSError as error:
        _refuse([f"--out: {error}"])


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print(series: "Series", day_steps: int, results: list[dict[str, Any]], *, as_json: bool) -> None:
    days = len(series.values) / day_steps
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if as_json:
        print_json(
            {
                "days": days,
                "step_seconds": series.step_seconds,
                "known_ratio": float((series.values == series.values).mean()),  # NaN is not itself
                "peak_rss_bytes": peak_bytes,
                "models": results,
            }
        )
        return
    table = Table("model", box=None, header_style="dim")
    for heading in ("MASE", "to day naive", "to best naive", "sMAPE", "80 % band covers", "each"):
        table.add_column(heading, justify="right")
    for row in results:
        table.add_row(
            row["model"],
            *(_ratio_text(row[name]) for name in ("mase", "to_day_naive", "to_best_naive")),
            percent_text(row["smape_ratio"]),
            percent_text(row["coverage_ratio"]),
            f"{row['milliseconds_per_forecast']:.1f} ms",
        )
    Console().print(table)
    first = results[0]
    click.echo(
        f"{days:.1f} days in steps of {duration_text(series.step_seconds)}, {first['origins']} origins;"
        f" best naive: {first['best_naive'] or 'none'}; {peak_bytes / 1e6:.0f} MB at most"
    )


def _ratio_text(ratio: float | None) -> str:
    return "\N{EN DASH}" if ratio is None else f"{ratio:.3f}"
