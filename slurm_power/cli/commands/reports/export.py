"""``slurm-power export``: stored series as CSV or Parquet."""

import re
import sys
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

import click

from slurm_power import clock
from slurm_power.cli.commands.progress_bar import progress_bar
from slurm_power.cli.commands.quantities import Duration
from slurm_power.config.store import check_url
from slurm_power.model.series import Resolution
from slurm_power.ports import SeriesReader, StoreError

_EXIT_BAD_INPUT = 2
_RESOLUTIONS = {"raw": Resolution.RAW, "1min": Resolution.MINUTE, "15min": Resolution.QUARTER_HOUR}
_FORMATS = (".csv", ".parquet")
# Columns of a row; more than this is a mistake in a pattern, and no program opens it.
_MOST_SERIES = 20_000


class Moment(click.ParamType[datetime]):
    """``2026-01-31T12:00`` (UTC unless it says otherwise), or ``2h``: so long ago."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment; fails with a sentence for the user."""
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        if re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
            try:
                return clock.now() - timedelta(seconds=Duration().convert(text, param, ctx))
            except OverflowError:
                raise click.BadParameter(f"{text!r} is too long ago", param=param, ctx=ctx) from None
        try:
            at = datetime.fromisoformat(text)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            raise click.BadParameter(
                f"{text!r} is no moment; write 2026-01-31, 2026-01-31T12:00 (UTC) or 2h for two hours ago",
                param=param,
                ctx=ctx,
            ) from None


@click.command()
@click.option(
    "--state",
    "state_directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The state directory of powerctld (or a copy).",
)
@click.option("--url", default=None, help="Instead: the engine that takes the series, http://HOST:PORT.")
@click.option("--site", default=None, help="With --url: the site's name in site.toml.")
@click.option(
    "--out",
    "out_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write, .csv or .parquet; it is replaced as a whole.",
)
@click.option(
    "--series",
    "patterns",
    multiple=True,
    default=("*",),
    help="Names or patterns such as 'circuit.*.watts' or 'gpu.c1.*'; may be given several times.",
)
@click.option("--since", type=Moment(), default="1d", show_default=True, help="From then on.")
@click.option("--until", type=Moment(), default=None, help="Up to, without that moment (default: now).")
@click.option(
    "--resolution",
    type=click.Choice(list(_RESOLUTIONS)),
    default="raw",
    show_default=True,
    help="Each second as it was written, or mean, minimum, maximum and coverage.",
)
@click.option("--list", "only_list", is_flag=True, help="Print the names that match, write nothing.")
def export(  # noqa: PLR0917  # click gives them by name
    state_directory: Path | None,
    url: str | None,
    site: str | None,
    out_file: Path | None,
    patterns: tuple[str, ...],
    since: datetime,
    until: datetime | None,
    resolution: str,
    only_list: bool,
) -> None:
    """Write measured series to a CSV or Parquet file.

    A row a moment (UTC), a column a series.
    """
    end = until or clock.now()
    problems = [] if only_list else _problems(out_file, since, end)
    try:
        reader = _reader(state_directory, url, site)
        try:
            names = _matching(reader, str(state_directory or url), patterns, problems)
            if problems:
                for problem in problems:
                    click.echo(problem, err=True)
                sys.exit(_EXIT_BAD_INPUT)
            if only_list or out_file is None:
                click.echo("\n".join(names))
                return
            count = _write(reader, out_file, names, (since, end), _RESOLUTIONS[resolution])
        finally:
            reader.close()
    except (StoreError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"wrote {out_file}: {count} rows of {len(names)} series")


def _reader(state_directory: Path | None, url: str | None, site: str | None) -> SeriesReader:
    """Open what was asked for; raises UsageError, StoreError."""
    from slurm_power.store.places import open_series_reader  # noqa: PLC0415 - numpy
    from slurm_power.store.prometheus import PrometheusReader  # noqa: PLC0415 - only here

    if (state_directory is None) == (url is None):
        raise click.UsageError("give either --state, or --url and --site")
    if state_directory is not None:
        return open_series_reader(state_directory)
    if url is None or site is None:
        raise click.UsageError("--site: missing; --url needs the site's name")
    if problem := check_url(url):
        raise click.UsageError(f"--url: {problem}")
    return PrometheusReader(url, site)


def _problems(out_file: Path | None, since: datetime, until: datetime) -> list[str]:
    problems = []
    if out_file is None:
        problems.append("--out: missing; name a .csv or .parquet file, or ask for --list")
    elif out_file.suffix not in _FORMATS:
        problems.append(f"--out: {out_file} ends in neither of {', '.join(_FORMATS)}")
    elif not out_file.parent.is_dir():
        problems.append(f"--out: there is no folder {out_file.parent}")
    elif out_file.suffix == ".parquet" and not _has_pyarrow():
        problems.append("--out: Parquet needs pyarrow: pip install 'slurm-power[parquet]', or write .csv")
    if since >= until:
        problems.append(
            f"--since: {since:%Y-%m-%dT%H:%M:%SZ} is not before --until, {until:%Y-%m-%dT%H:%M:%SZ}"
        )
    return problems


def _has_pyarrow() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - only here

    return find_spec("pyarrow") is not None


def _matching(reader: SeriesReader, place: str, patterns: tuple[str, ...], problems: list[str]) -> list[str]:
    """Names that match any pattern; a pattern without a match is a problem."""
    names = reader.names()
    if not names:
        problems.append(f"{place} has no series")
        return []
    problems += [
        f"--series: nothing matches {pattern!r}; --list prints what there is"
        for pattern in patterns
        if not any(fnmatchcase(name, pattern) for name in names)
    ]
    found = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if len(found) > _MOST_SERIES:
        problems.append(f"--series: {len(found)} series match, the most is {_MOST_SERIES}; narrow it down")
    return found


def _write(
    reader: SeriesReader,
    out_file: Path,
    names: list[str],
    span: tuple[datetime, datetime],
    resolution: Resolution,
) -> int:
    from slurm_power.store import export as sheets  # noqa: PLC0415 - only here

    with sheets.replaced(out_file) as new:
        kind = sheets.CsvSheet if out_file.suffix == ".csv" else sheets.ParquetSheet
        sheet = kind(new, sheets.columns(names, resolution))
        try:
            with progress_bar(f"writing {out_file.name}", (span[1] - span[0]).total_seconds()) as done:
                return sheets.export(reader, names, span, resolution, sheet, seen=done)
        finally:
            sheet.close()
