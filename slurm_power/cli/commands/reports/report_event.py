"""``slurm-power report event``: what was delivered in a grid event, with the baseline named."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurm_power import clock
from slurm_power.cli.commands.connection import ask, socket_option
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.cli.commands.reports.report_options import (
    give,
    open_state,
    optional_state_option,
    output_options,
)
from slurm_power.cli.commands.reports.report_spans import site_of
from slurm_power.report.audit.proof import chain_proof
from slurm_power.report.site_facts import SiteFacts
from slurm_power.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from slurm_power.report.event.event_document import EventReport

_BEFORE_SECONDS = 900.0
_MOST_LINES = 500


@click.command()
@click.argument("event_id")
@optional_state_option
@socket_option
@click.option(
    "--for",
    "reader",
    type=click.Choice(["utility", "site"]),
    default="utility",
    show_default=True,
    help="utility: without jobs and users; site: with what each job lost.",
)
@click.option(
    "--interval",
    type=click.Choice(["5", "15"]),
    default="15",
    show_default=True,
    help="Minutes of a metered interval; 5 while minutes are kept (half a year).",
)
@click.option(
    "--site",
    "site_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="site.toml, for a state directory of before circuits were kept in it.",
)
@output_options
def event(  # noqa: PLR0917  # click gives them by name
    event_id: str,
    state_directory: Path | None,
    socket_path: Path | None,
    reader: str,
    interval: str,
    site_file: Path | None,
    out: Path | None,
    table: str | None,
    as_json: bool,
) -> None:
    """Report on grid event EVENT_ID: baseline, delivered against asked, the meter, the proof.

    The baseline that counts is named, and what the common ones of whole days would have said stands
    beside it. An event that still runs is reported as far as it has come. Without --state it is made of
    powerctld's own account, which everybody may ask for: without metered intervals and proof.
    """
    from slurm_power.report.event.event_document import EventReport, LedgerLine, event_document  # noqa: PLC0415 - here
    from slurm_power.report.event.event_methods import method_rows  # noqa: PLC0415 - only here
    from slurm_power.report.event.event_reading import (  # noqa: PLC0415 - only here
        EventTimes,
        event_days,
        mean_before,
        meter_intervals,
    )

    if state_directory is None:
        if site_file is not None:
            raise click.UsageError("--site: goes with --state")
        give(
            event_document(_told(event_id, socket_path, for_utility=reader == "utility")), out, table, as_json
        )
        return
    if socket_path is not None:
        raise click.UsageError("--socket: instead of --state, not beside it")
    with open_state(state_directory) as (store, recorded):
        found = _report(store, event_id)
        site = site_of(store, site_file)
        times, circuit = EventTimes.of(found), str(found.get("circuit"))
        own, earlier = event_days(recorded, site, circuit, times, _others(store, event_id))
        notice = times.ramp if times.announced is None else min(times.announced, times.ramp)
        methods = method_rows(
            found,
            own=own,
            earlier=earlier,
            before_notice_watts=mean_before(recorded, site, circuit, notice, _BEFORE_SECONDS),
            before_start_watts=mean_before(recorded, site, circuit, times.ramp, _BEFORE_SECONDS),
        )
        since = datetime.fromtimestamp(notice - 1.0, site.zone)
        lines = [
            LedgerLine(
                sequence=sequence,
                at=entry.at,
                actor=entry.actor,
                kind=entry.kind,
                reason=entry.reason,
                stored_hash=stored,
            )
            for sequence, entry, stored in store.rows(since=since)
            if entry.details.get("event_id") == event_id
        ]
        report = EventReport(
            report=found,
            times=times,
            intervals=meter_intervals(recorded, circuit, times, 60.0 * int(interval)),
            methods=methods,
            ledger=lines[:_MOST_LINES],
            site=site,
            proof=chain_proof(store.rows()),
            made_at=clock.now(),
            for_utility=reader == "utility",
        )
    give(event_document(report), out, table, as_json)


def _told(event_id: str, socket_path: Path | None, *, for_utility: bool) -> "EventReport":
    """The report of powerctld's answers alone; raises Refusal for an event it does not know."""
    from slurm_power.report.event.event_document import EventReport  # noqa: PLC0415 - only here
    from slurm_power.report.event.event_methods import counted_row  # noqa: PLC0415 - only here
    from slurm_power.report.event.event_reading import EventTimes  # noqa: PLC0415 - only here

    found = ask({"op": "event_report", "event_id": event_id}, socket_path)["report"]
    try:
        times = EventTimes.of(found)
    except (ValueError, TypeError) as error:
        raise click.ClickException(plain_text(str(error))) from None
    return EventReport(
        report=found,
        times=times,
        intervals=(),
        methods=(counted_row(found),),
        ledger=(),
        site=SiteFacts(name=str(ask({"op": "status", "most_jobs": 0}, socket_path)["site"])),
        proof=None,
        made_at=clock.now(),
        for_utility=for_utility,
    )


def _report(store: SqliteStore, event_id: str) -> dict[str, Any]:
    """The account of an event that is over, or of one that is followed still; raises BadParameter."""
    from slurm_power.controller.events.followed_event import taken_up  # noqa: PLC0415 - only here

    found = store.state(f"event_report.{event_id}")
    followed = taken_up(store.state("events_open")).get(event_id)
    if followed is not None:
        return followed.report()
    if isinstance(found, dict):
        return found
    past = store.state("events_past", [])
    rows = past if isinstance(past, list) else []
    known = ", ".join(str(row.get("event_id")) for row in rows[-10:] if isinstance(row, dict)) or "none"
    raise click.BadParameter(
        f"nothing is known of an event {event_id!r}; the last that are over: {known}", param_hint="EVENT_ID"
    )


def _others(store: SqliteStore, event_id: str) -> list[Any]:
    """Times of all other events that are over: their days are no days to compare with."""
    from slurm_power.report.event.event_reading import EventTimes  # noqa: PLC0415 - only here

    past = store.state("events_past", [])
    found = []
    for row in past if isinstance(past, list) else []:
        if isinstance(row, dict) and row.get("event_id") != event_id:
            try:
                found.append(EventTimes.of(row))
            except (ValueError, TypeError):
                continue
    return found
