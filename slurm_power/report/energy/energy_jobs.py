"""What the jobs of a span used in it, from their records; those that cross its ends are cut there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from slurm_power.model.receipt import SURE_RATIO, receipt_from_json
from slurm_power.model.series import Point, Resolution
from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.ports import SeriesReader
from slurm_power.report.covered_time import CoveredTime
from slurm_power.report.energy.energy_tally import NOTHING, Amount, JobUse

_PAGE = 1000
_FINE_UP_TO = timedelta(days=2)
# Less than this of a run out of the meter's sight is the edge of a minute, no gap.
_LEAST_UNMETERED_SECONDS = 90.0
_ENDED = "ended"

Record = Mapping[str, object]


class JobPages(Protocol):
    """Records of jobs, page by page."""

    def latest_jobs(self, before: int | None, most: int) -> Sequence[tuple[int, dict[str, object]]]:
        """Up to ``most`` records, the last written first, each with a number; those with lower ones only."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """When a job ran, in Unix seconds; ``open``: it had not ended when its record was written."""

    start_seconds: float
    end_seconds: float
    open: bool = False

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end_seconds - self.start_seconds

    def within(self, since_seconds: float, until_seconds: float) -> float:
        """How much of it lies in a span."""
        return max(0.0, min(self.end_seconds, until_seconds) - max(self.start_seconds, since_seconds))


def every_record(store: JobPages) -> Iterator[dict[str, object]]:
    """All records, the last written first; holds one page at a time."""
    before: int | None = None
    while True:
        page = store.latest_jobs(before, _PAGE)
        yield from (record for _, record in page)
        if len(page) < _PAGE:
            return
        before = page[-1][0]


def run_of(record: Record, now_seconds: float) -> Run | None:
    """When a job ran; None for one that has not, or whose record does not say."""
    start = moment_of(record.get("started"))
    if start is None:
        return None
    end = moment_of(record.get("ended"))
    if end is None and record.get("state") == _ENDED:
        ran = number_of(record.get("running_seconds")) or 0.0
        end = start + ran + (number_of(record.get("paused_seconds")) or 0.0)
    if end is None:
        return Run(start_seconds=start, end_seconds=max(start, now_seconds), open=True)
    return Run(start_seconds=start, end_seconds=max(start, end))


def moment_of(value: object) -> float | None:
    """A time of a record in Unix seconds; None for what is none."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def number_of(value: object) -> float | None:
    """A figure of a record; None where it has none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def job_uses(
    store: JobPages,
    reader: SeriesReader,
    covered: CoveredTime,
    since: datetime,
    until: datetime,
    *,
    now: datetime,
    user: str | None = None,
) -> Iterator[JobUse]:
    """What each job that ran in [since, until) used in it; ``user``: of that user's jobs alone.

    A job within the span counts with its receipt. One that crosses an end counts with the part of its
    receipt that its recorded power has in the span; without recorded power, with the part of its time.
    """
    for record in every_record(store):
        if user is not None and record.get("user") != user:
            continue
        run = run_of(record, now.timestamp())
        if run is None or run.within(since.timestamp(), until.timestamp()) <= 0.0:
            continue
        found = _use(record, run, reader, covered, (since.timestamp(), until.timestamp()))
        if found is not None:
            yield found


def _use(
    record: Record, run: Run, reader: SeriesReader, covered: CoveredTime, span: tuple[float, float]
) -> JobUse | None:
    receipt = receipt_from_json(record.get("receipt"))
    joules = number_of(record.get("energy_joules"))
    method = "counter" if receipt is None or receipt.method is None else receipt.method.value
    if joules is None:
        joules, method = number_of(record.get("watt_seconds")), "power"
    if joules is None:
        return None
    share = 1.0
    if run.open or run.start_seconds < span[0] or run.end_seconds > span[1]:
        run, share, cut = _cut(record, run, reader, span)
        method = f"{method}, {cut}"
    in_seconds = run.within(*span)
    start, end = max(run.start_seconds, span[0]), min(run.end_seconds, span[1])
    used = _rated(record, joules, joules * share, covered, (start, end))
    unread_seconds = in_seconds - covered.seconds(start, end)
    unread = unread_seconds / in_seconds if unread_seconds >= _LEAST_UNMETERED_SECONDS else 0.0
    coverage = None if receipt is None else receipt.coverage_ratio
    if coverage is None:
        known = number_of(record.get("energy_coverage_ratio"))
        coverage = known if known is not None else number_of(record.get("coverage_ratio"))
    hosts = number_of(record.get("host_joules"))
    return JobUse(
        job_id=str(record.get("job_id")),
        user=str(record.get("user", "")),
        account=str(record.get("account", "")),
        name=str(record.get("name", "")),
        used=used,
        gpu_seconds=(number_of(record.get("gpu_count")) or 0.0) * in_seconds,
        method=method,
        unmetered=used.times(unread) if unread else NOTHING,
        hosts_joules=None if hosts is None else hosts * share,
        coverage_ratio=coverage,
    )


def _cut(record: Record, run: Run, reader: SeriesReader, span: tuple[float, float]) -> tuple[Run, float, str]:
    """The run as far as is known, the share of its energy in the span, and how that was found."""
    name = f"job.{record.get('job_id')}.gpu_watts"
    first = datetime.fromtimestamp(run.start_seconds, UTC)
    last = datetime.fromtimestamp(run.end_seconds + 1.0, UTC)
    short = last - first <= _FINE_UP_TO
    points: list[Point] = []
    resolution = Resolution.QUARTER_HOUR
    for resolution in (Resolution.MINUTE, Resolution.QUARTER_HOUR) if short else (Resolution.QUARTER_HOUR,):
        points = [
            point for point in reader.read([name], first, last, resolution)[name] if point.mean is not None
        ]
        if points:
            break
    if points and run.open:
        # Its energy is known up to its last record, which a copied directory may have from long ago.
        run = Run(
            start_seconds=run.start_seconds,
            end_seconds=min(run.end_seconds, points[-1].at_seconds + resolution),
        )
    seen_seconds = sum(point.coverage_ratio * resolution for point in points)
    drawn = sum((point.mean or 0.0) * point.coverage_ratio * resolution for point in points)
    by_time = run.within(*span) / run.seconds if run.seconds > 0.0 else 1.0
    if drawn <= 0.0 or seen_seconds < (1.0 - SURE_RATIO) * run.seconds:
        return run, by_time, "cut evenly in time"
    inside = [(point, _overlap(point, resolution, span)) for point in points]
    in_drawn = sum((point.mean or 0.0) * point.coverage_ratio * seconds for point, seconds in inside)
    in_seen = sum(point.coverage_ratio * seconds for point, seconds in inside)
    # What nobody saw of it counts with its mean power, inside as well as outside.
    mean_watts = drawn / seen_seconds
    whole = drawn + mean_watts * max(0.0, run.seconds - seen_seconds)
    part = in_drawn + mean_watts * max(0.0, run.within(*span) - in_seen)
    return run, min(1.0, part / whole), "cut by its recorded power"


def _overlap(point: Point, resolution: Resolution, span: tuple[float, float]) -> float:
    return max(0.0, min(point.at_seconds + resolution, span[1]) - max(point.at_seconds, span[0]))


def _rated(
    record: Record, whole_joules: float, joules: float, covered: CoveredTime, span: tuple[float, float]
) -> Amount:
    """A job's energy at the rates of the time it used it: its record."""
    rates = covered.mean_rates(*span)
    own = [_own_rate(record, kind, whole_joules) for kind in ("priced", "carbon")]
    price, carbon = (rate if mine is None else mine for mine, rate in zip(own, rates, strict=True))
    kwh = joules / JOULES_PER_KWH
    return Amount(joules, kwh * price, kwh * carbon)


def _own_rate(record: Record, kind: str, whole_joules: float) -> float | None:
    known, weighted = number_of(record.get(f"{kind}_joules")), number_of(record.get(f"{kind}_rate_joules"))
    if not known or weighted is None or known < SURE_RATIO * whole_joules:
        return None
    return weighted / known
