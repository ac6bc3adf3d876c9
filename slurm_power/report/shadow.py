"""What shadow mode would have saved and delayed, from the ledger's sums and the series of its wishes.

Each wish was made in a site where nothing had been done before. So this is no replay: the watts of a second
are those that would have been taken in it, one second does not change the next, and what was delayed does not
come back later. Batteries are told as two bounds: carried by one charge alone, and never empty.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.billing_rules import BillingRules
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.series import Point
from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.plan.billing import monthly_bills
from slurm_power.plan.local_calendar import LocalCalendar

Values = NDArray[np.float64]

_QUARTER_SECONDS = 900
HOUR_KIND, JOB_KIND = "shadow hour", "would have"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShadowColumns:
    """One circuit on a grid of ``step_seconds`` from ``start_seconds`` (Unix time), each of shape (n,).

    NaN is unknown; ``withheld_watts`` and ``discharge_watts`` are 0 where nothing was wished for, NaN where
    levers were moved or nobody was there. ``withheld_watts``: caps, pauses and lighter tiers. Held starts are
    not in it: in shadow mode such a job starts all the same, and from then on it is caps that are wished for.
    """

    start_seconds: float
    step_seconds: float
    watts: Values
    limit_watts: Values
    withheld_watts: Values
    discharge_watts: Values

    @property
    def shadowed(self) -> NDArray[np.bool_]:
        """The steps in which it only watched, and knows what was drawn."""
        return np.isfinite(self.withheld_watts) & np.isfinite(self.watts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A course of the circuit: its highest quarter of an hour, how long and how far above its limit.

    ``bill`` is in the tariff's currency, None without a tariff; ``peak_watts`` None where nothing is known.
    """

    name: str
    peak_watts: float | None
    seconds_above: float
    kwh_above: float
    worst_above_watts: float
    kwh: float
    bill: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDelay:
    """What one job would have met, all its entries together; seconds of wall time, ``kwh`` at the grid."""

    job_id: str
    user: str
    gpu_count: int
    capped_seconds: float
    slowed_seconds: float
    held_seconds: float
    paused_seconds: float
    lowest_cap_watts: float | None
    kwh: float

    @property
    def delay_seconds(self) -> float:
        """By how much it would have ended later, if nothing else had changed."""
        return self.slowed_seconds + self.held_seconds + self.paused_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDelay:
    """A user's jobs: how many there were and were wished for, and what they would have lost.

    ``slowdown_ratio``: lost GPU time over all GPU time of the user's jobs, None where that is not known.
    """

    user: str
    jobs: int
    touched: int
    delay_seconds: float
    longest_delay_seconds: float
    lost_gpu_hours: float
    slowdown_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """One kind of wish: for how long anybody would have met it, how much it would have taken."""

    kind: str
    seconds: float
    kwh: float
    most_watts: float
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRight:
    """The near forecast of the grid connection, judged by itself: means over the hours that told a score."""

    hours: int
    coverage_ratio: float
    mae_watts: float
    naive_mae_watts: float
    hours_beaten_by_naive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowFindings:
    """All of it. ``cases``: as it was, without the battery, with one charge of it, with one never empty.

    ``shadow_seconds`` of ``span_seconds`` were only watched with a meter that answered.
    """

    cases: tuple[Case, ...]
    levers: tuple[Lever, ...]
    jobs: tuple[JobDelay, ...]
    users: tuple[UserDelay, ...]
    forecast: ForecastRight | None
    span_seconds: float
    shadow_seconds: float
    usable_kwh: float

    @property
    def coverage_ratio(self) -> float:
        """How much of the span is judged."""
        return self.shadow_seconds / self.span_seconds if self.span_seconds > 0.0 else 0.0


def grid_means(points: Iterable[Point], start_seconds: float, step_seconds: float, count: int) -> Values:
    """Means of the points in each of ``count`` steps, NaN in a step without one."""
    known = [(point.at_seconds, point.mean) for point in points if point.mean is not None]
    at = np.array([seconds for seconds, _ in known], dtype=np.float64)
    step = ((at - start_seconds) // step_seconds).astype(np.int64)
    watts = np.array([mean for _, mean in known], dtype=np.float64)
    inside = (step >= 0) & (step < count)
    sums = np.bincount(step[inside], weights=watts[inside], minlength=count)
    counts = np.bincount(step[inside], minlength=count)
    means = np.full(count, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def carried_watts(wished_watts: Values, step_seconds: float, usable_kwh: float) -> Values:
    """What one charge of the batteries can give of a wished discharge, shape (n,); charging puts it back.

    ``usable_kwh`` is what is in them above their reserve at the start, and the most they take back again.
    """
    left = full = usable_kwh * JOULES_PER_KWH
    carried = np.zeros_like(wished_watts)
    for index, watts in enumerate(np.nan_to_num(wished_watts)):
        joules = min(max(watts * step_seconds, left - full), left)
        left -= joules
        carried[index] = joules / step_seconds
    return carried


def cases(columns: ShadowColumns, usable_kwh: float, bill: "Billing | None" = None) -> tuple[Case, ...]:
    """The circuit as it was, and as it would have been by three ways of counting.

    Steps that were not only watched are left out of all of them, so that they can be compared.
    """
    known = columns.shadowed
    withheld = np.nan_to_num(columns.withheld_watts)
    capped = columns.watts - withheld
    wished = np.where(known, np.nan_to_num(columns.discharge_watts), 0.0)
    courses = {"as it was": columns.watts, "with caps": capped}
    if np.any(wished != 0.0):
        courses["with caps and one charge"] = capped - carried_watts(wished, columns.step_seconds, usable_kwh)
        courses["with caps and a battery never empty"] = capped - wished
    return tuple(
        _case(name, columns, np.where(known, watts, np.nan), bill) for name, watts in courses.items()
    )


def _case(name: str, columns: ShadowColumns, watts: Values, bill: "Billing | None") -> Case:
    above = np.nan_to_num(np.maximum(watts - columns.limit_watts, 0.0))
    quarters = quarter_means(watts, columns.start_seconds, columns.step_seconds)
    step = columns.step_seconds
    return Case(
        name=name,
        peak_watts=float(np.nanmax(quarters[1])) if np.isfinite(quarters[1]).any() else None,
        seconds_above=float(np.count_nonzero(above > 0.0) * step),
        kwh_above=float(above.sum() * step / JOULES_PER_KWH),
        worst_above_watts=float(above.max(initial=0.0)),
        kwh=float(np.nansum(watts) * step / JOULES_PER_KWH),
        bill=None if bill is None else bill.total(*quarters),
    )


def quarter_means(watts: Values, start_seconds: float, step_seconds: float) -> tuple[Values, Values]:
    """Means of the quarters of an hour: (starts in Unix time, watts), NaN where nothing is known."""
    if not len(watts):
        return np.zeros(0), np.zeros(0)
    at = start_seconds + step_seconds * np.arange(len(watts))
    quarter = np.floor(at / _QUARTER_SECONDS).astype(np.int64)
    first = quarter[0]
    count = int(quarter[-1] - first) + 1
    known = np.isfinite(watts)
    sums = np.bincount(quarter[known] - first, weights=watts[known], minlength=count)
    counts = np.bincount(quarter[known] - first, minlength=count)
    means = np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)
    return (first + np.arange(count)) * float(_QUARTER_SECONDS), means


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """A tariff, and the clock that it is read by."""

    rules: BillingRules
    zone: Any

    def total(self, starts: Values, watts: Values) -> float | None:
        """The bill of quarters of an hour, months in part pro rata; unknown quarters count as none drawn.

        None where the tariff does not say what energy costs.
        """
        if not len(starts):
            return None
        try:
            bills = monthly_bills(
                self.rules,
                LocalCalendar.from_epoch(starts, self.zone),
                np.nan_to_num(watts),
                float(_QUARTER_SECONDS),
                pro_rata=True,
            )
        except ValueError:
            return None
        return sum(each.total for each in bills.values())


def job_delays(entries: Iterable[LedgerEntry]) -> tuple[JobDelay, ...]:
    """What each job would have met, the longest delay first; entries that do not read right are left out."""
    found: dict[str, JobDelay] = {}
    for entry in entries:
        if entry.kind != JOB_KIND or entry.job_id is None:
            continue
        numbers = _numbers(entry.details)
        if numbers is None:
            continue
        cap = entry.details.get("lowest_cap_watts")
        lowest = float(cap) if isinstance(cap, int | float) else None
        before = found.get(entry.job_id)
        if before is None:
            before = JobDelay(
                job_id=entry.job_id,
                user=entry.user or "",
                gpu_count=int(numbers["gpu_count"]),
                capped_seconds=0.0,
                slowed_seconds=0.0,
                held_seconds=0.0,
                paused_seconds=0.0,
                lowest_cap_watts=None,
                kwh=0.0,
            )
        caps = [watts for watts in (before.lowest_cap_watts, lowest) if watts is not None]
        found[entry.job_id] = replace(
            before,
            gpu_count=max(before.gpu_count, int(numbers["gpu_count"])),
            capped_seconds=before.capped_seconds + numbers["capped_seconds"],
            slowed_seconds=before.slowed_seconds + numbers["slowed_seconds"],
            held_seconds=before.held_seconds + numbers["held_seconds"],
            paused_seconds=before.paused_seconds + numbers["paused_seconds"],
            lowest_cap_watts=min(caps, default=None),
            kwh=before.kwh + numbers["withheld_joules"] / JOULES_PER_KWH,
        )
    return tuple(sorted(found.values(), key=lambda job: (-job.delay_seconds, job.job_id)))


_NUMBERS = (
    "gpu_count",
    "capped_seconds",
    "slowed_seconds",
    "held_seconds",
    "paused_seconds",
    "withheld_joules",
)


def _numbers(details: Mapping[str, object]) -> dict[str, float] | None:
    values = {key: details.get(key) for key in _NUMBERS}
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values.values()):
        return None
    return {key: float(str(value)) for key, value in values.items()}


def user_delays(
    delays: Sequence[JobDelay], records: Mapping[str, Mapping[str, object]]
) -> tuple[UserDelay, ...]:
    """Delays by user, who would have lost most first; ``records``: all jobs of the time."""
    gpu_seconds: dict[str, float] = {}
    jobs: dict[str, set[str]] = {}
    for job_id, record in records.items():
        user, seconds, count = str(record.get("user", "")), record.get("seconds"), record.get("gpu_count")
        jobs.setdefault(user, set()).add(job_id)
        if isinstance(seconds, int | float) and isinstance(count, int | float):
            gpu_seconds[user] = gpu_seconds.get(user, 0.0) + seconds * count
    by_user: dict[str, list[JobDelay]] = {}
    for delay in delays:
        by_user.setdefault(delay.user, []).append(delay)
    rows = []
    for user in jobs.keys() | by_user.keys():
        own = by_user.get(user, [])
        lost = sum((delay.slowed_seconds + delay.paused_seconds) * delay.gpu_count for delay in own)
        had = gpu_seconds.get(user, 0.0)
        rows.append(
            UserDelay(
                user=user,
                jobs=len(jobs.get(user, set()) | {delay.job_id for delay in own}),
                touched=len(own),
                delay_seconds=sum(delay.delay_seconds for delay in own),
                longest_delay_seconds=max((delay.delay_seconds for delay in own), default=0.0),
                lost_gpu_hours=lost / 3600.0,
                slowdown_ratio=lost / had if had > 0.0 else None,
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.lost_gpu_hours, -row.delay_seconds, row.user)))


def levers(entries: Iterable[LedgerEntry]) -> tuple[Lever, ...]:
    """The kinds of wishes of all hours together; a job of several hours counts in each of them."""
    found: dict[str, Lever] = {}
    for entry in entries:
        kinds = entry.details.get("kinds") if entry.kind == HOUR_KIND else None
        for kind, sums in kinds.items() if isinstance(kinds, dict) else ():
            before = found.get(kind) or Lever(kind=str(kind), seconds=0.0, kwh=0.0, most_watts=0.0, jobs=0)
            found[kind] = Lever(
                kind=before.kind,
                seconds=before.seconds + float(sums["seconds"]),
                kwh=before.kwh + float(sums["joules"]) / JOULES_PER_KWH,
                most_watts=max(before.most_watts, float(sums["most_watts"])),
                jobs=max(before.jobs, int(sums["jobs"])),
            )
    return tuple(sorted(found.values(), key=lambda lever: -lever.kwh))


def forecast_right(entries: Iterable[LedgerEntry]) -> ForecastRight | None:
    """How the forecast did, by the scores in the hours' entries; None where no hour has one."""
    scores = [
        score
        for entry in entries
        if entry.kind == HOUR_KIND and isinstance(score := entry.details.get("forecast"), dict)
        if score.get("forecasts")
    ]
    if not scores:
        return None

    def mean(key: str) -> float:
        return sum(float(score[key]) for score in scores) / len(scores)

    return ForecastRight(
        hours=len(scores),
        coverage_ratio=mean("coverage_ratio"),
        mae_watts=mean("mae_watts"),
        naive_mae_watts=mean("best_naive_mae_watts"),
        hours_beaten_by_naive=sum(score["mae_watts"] > score["best_naive_mae_watts"] for score in scores),
    )


def usable_kwh(entries: Iterable[LedgerEntry]) -> float:
    """What was in all batteries above their reserve at the first hour that tells; 0.0 without one."""
    for entry in entries:
        batteries = entry.details.get("batteries") if entry.kind == HOUR_KIND else None
        if isinstance(batteries, dict) and batteries:
            return sum(
                max(0.0, float(each["soc_ratio"]) - float(each["reserve_soc_ratio"]))
                * float(each["energy_rating_kwh"])
                for each in batteries.values()
            )
    return 0.0


def open_entries(kept: object, at: datetime) -> list[LedgerEntry]:
    """What a controller was still adding up when it last kept it, as the entries that it will become."""
    if not isinstance(kept, dict):
        return []
    jobs, details = kept.get("jobs"), kept.get("hour_details")
    found = [
        LedgerEntry(
            at=at,
            actor="controller",
            kind=JOB_KIND,
            subject=f"job:{job_id}",
            reason="",
            job_id=str(job_id),
            user=str(sums.get("user") or ""),
            details=sums,
        )
        for job_id, sums in (jobs.items() if isinstance(jobs, dict) else ())
        if isinstance(sums, dict)
    ]
    if isinstance(details, dict):
        found.append(
            LedgerEntry(at=at, actor="controller", kind=HOUR_KIND, subject="site", reason="", details=details)
        )
    return found


def shadow_findings(
    columns: ShadowColumns,
    entries: Sequence[LedgerEntry],
    records: Mapping[str, Mapping[str, object]],
    billing: Billing | None = None,
) -> ShadowFindings:
    """Everything the report says of a span of time; ``entries`` and ``records`` are those of the span."""
    usable = usable_kwh(entries)
    delays = job_delays(entries)
    return ShadowFindings(
        cases=cases(columns, usable, billing),
        levers=levers(entries),
        jobs=delays,
        users=user_delays(delays, records),
        forecast=forecast_right(entries),
        span_seconds=len(columns.watts) * columns.step_seconds,
        shadow_seconds=float(np.count_nonzero(columns.shadowed) * columns.step_seconds),
        usable_kwh=usable,
    )
