"""The end of the demo: judge it by the plant's own truth, print the account, write the report."""

import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from containers.demo.play import Course
from containers.demo.stage import Stage
from slurm_power.cli.commands.reports.stored import report_data
from slurm_power.report.data import ReportData, Series, judge
from slurm_power.report.frame.html import write_report
from slurm_power.report.live.trace import announced_starts, forecast_trace
from slurm_power.report.live.trace_figure import trace_words
from slurm_power.store.places import LEDGER_NAME, open_series_reader
from slurm_power.store.sqlite import SqliteStore

# A meter refresh, a cycle and a battery's ramp take one to two seconds each.
SETTLE_SECONDS = 5.0
CIRCUIT = "grid"
TOLD_KINDS = {
    "cap",
    "uncap",
    "hold",
    "release",
    "discharge",
    "rest",
    "event",
    "event over",
    "shortfall",
    "massive start ahead",
    "massive start",
    "fault",
}


def settle(course: Course, stage: Stage, report: Path) -> tuple[ReportData, bool]:
    """Collect everything into a report file; returns its data and whether all was well."""
    with tempfile.TemporaryDirectory(prefix="slurm-power-demo-") as folder:
        stage.copy_store(Path(folder))
        store = SqliteStore(Path(folder) / LEDGER_NAME)
        try:
            recorded = open_series_reader(Path(folder))
            data = report_data(
                store, recorded, circuit=CIRCUIT, title="slurm-power demo", settle_seconds=SETTLE_SECONDS
            )
            recorded.close()
            starts = announced_starts(store.entries(), CIRCUIT)
        finally:
            store.close()
    series = _true_series(course, data.series, data.started.timestamp())
    not_completed = tuple(
        f"job {job_id} ({name}): {course.ended.get(job_id, {}).get('JobState', 'not ended')}"
        for job_id, name in course.submitted.items()
        if course.ended.get(job_id, {}).get("JobState") != "COMPLETED"
    )
    data = replace(
        data,
        series=series,
        verdict=judge(
            series,
            settle_seconds=SETTLE_SECONDS,
            unfinished=not_completed,
            unrestored=tuple(course.unrestored),
        ),
    )
    data = replace(data, forecast=forecast_trace(CIRCUIT, course.forecasts, data.truth, starts))
    write_report(data, report)
    return data, data.verdict.good


def _true_series(course: Course, seen: Series, started: float) -> Series:
    """The plant's true 1-s means; only what caps withheld is the controller's estimate."""
    withheld = dict(zip((round(started + s) for s in seen.seconds), seen.withheld_watts, strict=True))
    charge = dict(zip((round(started + s) for s in seen.seconds), seen.soc_ratio, strict=True))
    times = [record["unix_seconds"] for record in course.history]
    return Series(
        seconds=tuple(time - started for time in times),
        import_watts=tuple(record["grid_import_watts"] for record in course.history),
        limit_watts=tuple(limit for _, limit in course.limits),
        ess_discharge_watts=tuple(record["ess_discharge_watts"] for record in course.history),
        withheld_watts=tuple(withheld.get(round(time)) for time in times),
        soc_ratio=tuple(charge.get(round(time)) for time in times),
    )


def tell(data: ReportData, console: Console, report: Path) -> None:
    """Print the account: decisions, jobs, peaks, and the verdict."""
    decisions = Table(title="Decisions", box=None, title_justify="left")
    for heading in ("time", "what", "of", "why"):
        decisions.add_column(heading)
    for decision in data.decisions:
        if decision.kind.removeprefix("would ") in TOLD_KINDS:
            decisions.add_row(f"{decision.at:%H:%M:%S}", decision.kind, decision.subject, decision.reason)
    console.print(decisions)
    jobs = Table(title="Jobs", box=None, title_justify="left")
    for heading in (
        "job",
        "name",
        "user",
        "flex",
        "energy kWh",
        "mean kW",
        "lowest cap W",
        "slowdown",
        "held s",
    ):
        jobs.add_column(heading)
    for job in sorted(data.jobs, key=lambda job: int(job.job_id)):
        jobs.add_row(
            job.job_id,
            job.name,
            job.user,
            job.flex,
            "" if job.energy_joules is None else f"{job.energy_joules / 3.6e6:.3f}",
            "" if job.mean_watts is None else f"{job.mean_watts / 1000:.1f}",
            "" if job.lowest_cap_watts is None else f"{job.lowest_cap_watts:.0f}",
            f"{job.slowdown_ratio:.1%}",
            f"{job.held_seconds:.0f}",
        )
    console.print(jobs)
    if data.forecast is not None:
        for line in trace_words(data.forecast, {job.job_id: job.name for job in data.jobs}):
            console.print(line)
    _tell_verdict(data, console, report)


def _tell_verdict(data: ReportData, console: Console, report: Path) -> None:
    verdict = data.verdict
    without, with_control = data.unmitigated_peak_watts, data.peak_watts
    if without is not None and with_control is not None:
        console.print(
            f"peak {with_control / 1000:.1f} kW; without battery and caps it would have been about"
            f" {without / 1000:.1f} kW; the battery gave {data.discharged_joules / 3.6e6:.3f} kWh"
        )
    if verdict.limit_held:
        console.print(
            f"[green]The limit was held[/]: worst excursion {verdict.worst_excursion_watts / 1000:.2f} kW,"
            f" longest {verdict.longest_excursion_seconds:.0f} s"
            f" (1-s means, {verdict.settle_seconds:.0f} s to settle)"
        )
    else:
        console.print(
            f"[red]The limit was broken[/]: by up to {verdict.worst_excursion_watts / 1000:.1f} kW, for up to"
            f" {verdict.longest_excursion_seconds:.0f} s on end ({verdict.settle_seconds:.0f} s are allowed)"
        )
    for text in verdict.unfinished:
        console.print(f"[red]not finished[/]: {text}")
    for text in verdict.unrestored:
        console.print(f"[red]not restored[/]: {text}")
    if not verdict.unfinished and not verdict.unrestored:
        console.print("[green]All jobs completed; every cap, hold and setpoint is back.[/]")
    console.print(f"report: {report}")
