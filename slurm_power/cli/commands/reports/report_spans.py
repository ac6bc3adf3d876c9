"""The span of a report at the command line: a calendar month of the site, or from a moment to another."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, TypeVar

import click

from slurm_power import clock
from slurm_power.cli.commands.reports.export import Moment
from slurm_power.config.problems import ConfigError
from slurm_power.report.site_facts import SITE_KEY, SiteFacts, site_facts
from slurm_power.store.sqlite import SqliteStore

Command = TypeVar("Command", bound=Callable[..., Any])

_MOST_DAYS = 3660


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSpan:
    """What was asked for; ``month`` as (year, month), or the moments, None where they were not given."""

    month: tuple[int, int] | None
    since: datetime | None
    until: datetime | None

    def bounds(self, zone: tzinfo) -> tuple[datetime, datetime]:
        """Begin and end in UTC, not beyond now: of a month at the site's midnights, by its own clock.

        Raises BadParameter for what has not begun.
        """
        if self.month is not None:
            year, month = self.month
            first = datetime(year, month, 1, tzinfo=zone).astimezone(UTC)
            last = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone).astimezone(UTC)
        else:
            assert self.since is not None
            first, last = self.since, clock.now() if self.until is None else self.until
        if first >= clock.now():
            hint = "--since" if self.month is None else "--month"
            raise click.BadParameter("it has not begun yet", param_hint=hint)
        return first, min(last, clock.now())

    def words(self, zone: tzinfo) -> str:
        """The span as a report names it."""
        first, last = (moment.astimezone(zone) for moment in self.bounds(zone))
        if self.month is not None:
            over = (last + timedelta(seconds=1)).month != self.month[1]
            return f"{self.month[0]}-{self.month[1]:02}" + ("" if over else ", so far")
        return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"


def span_options(command: Command) -> Command:
    """Add ``--month``, ``--since``, ``--until`` and ``--site``."""
    command = click.option(
        "--site",
        "site_file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        default=None,
        help="site.toml: its tariff, and for a state directory of before circuits were kept in it.",
    )(command)
    command = click.option("--until", type=Moment(), default=None, help="Up to, without that moment.")(
        command
    )
    command = click.option(
        "--since", type=Moment(), default=None, help="From then on: 2026-11-01, or 7d for a week ago."
    )(command)
    return click.option(
        "--month", default=None, metavar="YYYY-MM", help="A calendar month of the site's clock: 2026-11."
    )(command)


def asked_span(month: str | None, since: datetime | None, until: datetime | None) -> AskedSpan:
    """Check what was asked for; raises BadParameter or UsageError with the fix."""
    if (month is None) == (since is None):
        raise click.UsageError("give either --month 2026-11, or --since with or without --until")
    if month is not None:
        if until is not None:
            raise click.UsageError("--until goes with --since; a --month has its own end")
        found = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", month.strip())
        if found is None or not 1970 <= int(found[1]) <= 9998:
            raise click.BadParameter(f"{month!r} is no month; write 2026-11", param_hint="--month")
        return AskedSpan(month=(int(found[1]), int(found[2])), since=None, until=None)
    assert since is not None
    end = clock.now() if until is None else until
    if since >= end:
        raise click.BadParameter(
            f"{since:%Y-%m-%dT%H:%M:%SZ} is not before --until, {end:%Y-%m-%dT%H:%M:%SZ}",
            param_hint="--since",
        )
    if end - since > timedelta(days=_MOST_DAYS):
        raise click.BadParameter(f"a report is of at most {_MOST_DAYS} days", param_hint="--since")
    return AskedSpan(month=None, since=since, until=end)


def site_of(store: SqliteStore, site_file: Path | None) -> SiteFacts:
    """The site of a state directory, or of the file that was given; raises UsageError."""
    if site_file is not None:
        from slurm_power.config.site import load_site  # noqa: PLC0415 - only here
        from slurm_power.controller.records.site_state import site_document  # noqa: PLC0415 - only here

        try:
            given = site_facts(site_document(load_site(site_file)))
        except ConfigError as error:
            raise click.BadParameter(str(error), param_hint="--site") from None
        assert given is not None
        return given
    found = site_facts(store.state(SITE_KEY))
    if found is None:
        raise click.UsageError(
            "this state directory does not say how the circuits hang together (an older powerctld wrote it):"
            " give --site /etc/slurm-power/site.toml"
        )
    return found
