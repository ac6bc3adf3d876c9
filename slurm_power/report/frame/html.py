"""One HTML file that needs nothing else: no script, no font, no picture from anywhere."""

from html import escape
from pathlib import Path

from slurm_power.model.units import kilowatts_text, kwh_from_joules
from slurm_power.report.data import JobSummary, ReportData, Verdict
from slurm_power.report.frame.document_files import write_whole
from slurm_power.report.frame.document_html import proof_section
from slurm_power.report.frame.figures import battery_figure, power_figure
from slurm_power.report.frame.style import STYLE
from slurm_power.report.live.trace_figure import trace_figure, trace_words

_DASH = "\N{EN DASH}"


def write_report(data: ReportData, file: Path) -> None:
    """Write the report; the file appears complete or not at all. Raises OSError."""
    write_whole({file: render(data)})


def render(data: ReportData) -> str:
    """Return the report as HTML. Everything users may have named is escaped."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(data.title)}</title><style>{STYLE}</style></head><body><main>",
            f"<h1>{escape(data.title)}</h1>",
            f'<p class="when">{data.started:%Y-%m-%d %H:%M:%S} UTC, {_minutes(_length_seconds(data))}</p>',
            _verdict(data.verdict),
            _tiles(data),
            _section(f"Power at {data.circuit}", f"<figure>{power_figure(data)}</figure>"),
            _battery(data),
            _forecast(data),
            _jobs(data),
            _events(data),
            _decisions(data),
            proof_section(data.proof),
            _footnote(data.verdict),
            "</main></body></html>",
            "",
        ]
    )


def _length_seconds(data: ReportData) -> float:
    return data.series.seconds[-1] if data.series.seconds else 0.0


def _verdict(verdict: Verdict) -> str:
    points = [
        (verdict.limit_held, "The limit held", "The limit did not hold", _excursion(verdict)),
        (not verdict.unfinished, "All jobs finished", "Not all jobs finished", _jobs_detail(verdict)),
        (
            not verdict.unrestored,
            "Everything is as before",
            "Something still stands changed",
            ", ".join(verdict.unrestored) or "every cap, hold and setpoint is back",
        ),
    ]
    items = []
    for good, yes, no, more in points:
        mark, word = ("good", yes) if good else ("bad", no)
        detail = f"<span>{escape(more)}</span>" if more else ""
        items.append(f'<li class="{mark}"><strong>{word}</strong>{detail}</li>')
    return f'<ul class="verdict">{"".join(items)}</ul>'


def _jobs_detail(verdict: Verdict) -> str:
    return ", ".join(verdict.unfinished) or "every one ended well"


def _excursion(verdict: Verdict) -> str:
    if verdict.unmeasured_seconds > verdict.settle_seconds:
        return f"the meter was silent for {verdict.unmeasured_seconds:.0f} s"
    if verdict.worst_excursion_watts <= 0.0:
        return "never above it"
    worst = f"at most {verdict.worst_excursion_watts:.0f} W above it"
    lasted = f"for {verdict.longest_excursion_seconds:.0f} s on end"
    return f"{worst}, {lasted} ({verdict.settle_seconds:g} s are allowed)"


def _tiles(data: ReportData) -> str:
    peak, without = data.peak_watts, data.unmitigated_peak_watts
    shaved = f"{100 * (without - peak) / without:.0f} % lower" if peak is not None and without else ""
    slowest = max((job.slowdown_ratio for job in data.jobs), default=0.0)
    tiles = [
        ("Peak", _kilowatts(peak), shaved),
        ("Peak with nothing done", _kilowatts(without), ""),
        ("From the battery", _kwh(data.discharged_joules), ""),
        ("Withheld by caps", _kwh(data.withheld_joules), ""),
        ("Largest slowdown", f"{100 * slowest:.1f} %", f"of {len(data.jobs)} jobs"),
    ]
    cells = (
        f"<div><dt>{name}</dt><dd>{value}<small>{remark}</small></dd></div>" for name, value, remark in tiles
    )
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def _battery(data: ReportData) -> str:
    figure = battery_figure(data)
    return _section("Battery", f"<figure>{figure}</figure>") if figure else ""


def _forecast(data: ReportData) -> str:
    if data.forecast is None:
        return ""
    names = {job.job_id: job.name for job in data.jobs}
    words = "".join(f"<p>{escape(line)}</p>" for line in trace_words(data.forecast, names))
    figure = trace_figure(data.forecast, data.started, names)
    return _section("Forecast against truth", f"<figure>{figure}</figure>{words}")


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _jobs(data: ReportData) -> str:
    rows = [
        [
            escape(job.job_id),
            escape(job.user),
            escape(job.name),
            escape(f"{job.workload}, {job.flex}"),
            escape(job.state),
            str(job.gpu_count),
            _kwh(job.energy_joules),
            _kilowatts(job.mean_watts) + _estimate(job),
            _kilowatts(job.peak_watts),
            _DASH if job.lowest_cap_watts is None else f"{job.lowest_cap_watts:.0f} W",
            f"{100 * job.slowdown_ratio:.1f} %" if job.slowdown_ratio else _DASH,
            f"{job.held_seconds:.0f} s" if job.held_seconds else _DASH,
        ]
        for job in data.jobs
    ]
    headings = ["Job", "User", "Name", "Class", "State", "GPUs", "Energy", "Mean", "Peak"]
    headings += ["Lowest cap per GPU", "Slowdown", "Held"]
    return _table("Jobs", headings, rows, first_number=5)


def _estimate(job: JobSummary) -> str:
    """A mark on a mean with less than 95 % of the job's time behind it."""
    if job.coverage_ratio is None or job.coverage_ratio >= 0.95:
        return ""
    return f" <small>estimate, {100 * job.coverage_ratio:.0f} % covered</small>"


def _events(data: ReportData) -> str:
    rows = [
        [
            escape(event.circuit),
            escape(event.reason),
            _kilowatts(event.limit_watts),
            f"{event.start_seconds:.0f} s",
            _minutes(event.end_seconds - event.start_seconds),
        ]
        for event in data.events
    ]
    return _table("Events", ["Circuit", "Why", "Limit", "From", "For"], rows, first_number=2) if rows else ""


def _decisions(data: ReportData) -> str:
    rows = [
        [
            f"{max(0.0, (decision.at - data.started).total_seconds()):.0f} s",
            escape(decision.kind),
            escape(decision.subject),
            escape(decision.reason),
            escape(decision.actor),
            _DASH if not decision.saved_watts else f"{decision.saved_watts:.0f} W",
        ]
        for decision in data.decisions
    ]
    headings = ["At", "What", "Whom", "Why", "Who", "Worth"]
    return _table("Decisions", headings, rows, first_number=5)


def _table(title: str, headings: list[str], rows: list[list[str]], *, first_number: int) -> str:
    """Build a table; columns from ``first_number`` on hold numbers. Cells come escaped."""

    def marked(tag: str, cells: list[str], more: str = "") -> str:
        kinds = ["", ' class="n"']
        return "".join(
            f"<{tag}{more}{kinds[i >= first_number]}>{cell}</{tag}>" for i, cell in enumerate(cells)
        )

    if not rows:
        return _section(title, "<p>None.</p>")
    body = "\n".join(f"<tr>{marked('td', row)}</tr>" for row in rows)
    head = marked("th", headings, ' scope="col"')
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return _section(title, f'<div class="wide">{table}</div>')


def _footnote(verdict: Verdict) -> str:
    settle = f"{verdict.settle_seconds:g} s"
    return (
        '<p class="foot">Power is the mean of one second at the meter. An excursion counts against '
        f"the verdict when it lasts longer than its settle time, {settle}. &ldquo;With nothing done&rdquo; "
        "is what was drawn, plus what the battery gave, plus an estimate of what capped GPUs would have "
        "drawn more; held jobs are not in it. The energy of a job is that of its GPUs.</p>"
    )


def _kilowatts(watts: float | None) -> str:
    return _DASH if watts is None else kilowatts_text(watts)


def _kwh(joules: float | None) -> str:
    if joules is None:
        return _DASH
    kwh = kwh_from_joules(joules)
    return f"{kwh:.2f} kWh" if kwh >= 1.0 else f"{1000 * kwh:.0f} Wh"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
