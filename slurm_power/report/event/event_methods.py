"""What an event delivered by each baseline: the one that counted, and what the others would have said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slurm_power.report.energy.energy_jobs import number_of
from slurm_power.report.event.day_baseline import METHODS, DayBaseline, DayLoad, day_baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRow:
    """One method; None where it says nothing, with the reason in ``remark``.

    ``delivered_watts`` is baseline less metered mean over the event; below zero more was drawn.
    """

    name: str
    counts: bool
    baseline_watts: float | None
    delivered_watts: float | None
    delivered_ratio: float | None
    remark: str


def counted_row(report: Mapping[str, Any]) -> MethodRow:
    """The baseline that an event is settled by, by its own account."""
    delivered = number_of((report.get("result") or {}).get("delivered_watts"))
    return MethodRow(
        name="as it was announced",
        counts=True,
        baseline_watts=number_of(report.get("baseline_watts")),
        delivered_watts=delivered,
        delivered_ratio=_ratio(delivered, _asked(report)),
        remark=str(report.get("baseline_method") or "unknown"),
    )


def _asked(report: Mapping[str, Any]) -> float | None:
    counted, limit = number_of(report.get("baseline_watts")), number_of(report.get("limit_watts"))
    return None if counted is None or limit is None else counted - limit


def method_rows(
    report: Mapping[str, Any],
    *,
    own: DayLoad,
    earlier: Sequence[DayLoad],
    before_notice_watts: float | None,
    before_start_watts: float | None,
) -> list[MethodRow]:
    """The counted method first, by the event's own account; then all others, by the stored series.

    ``before_*_watts``: the mean before notice and ramp, as the series have it still.
    """
    asked = _asked(report)
    rows = [counted_row(report)]
    seen = [watts for watts in own.watts if watts is not None]
    mean = sum(seen) / len(seen) if seen else None
    for name, watts in (
        ("15 min before the notice", before_notice_watts),
        ("15 min before the ramp", before_start_watts),
    ):
        remark = "by the stored series, without battery charging"
        rows.append(_row(name, watts, mean, asked, remark if watts is not None else "not stored any more"))
    for method in METHODS:
        found = day_baseline(method, own, earlier)
        rows.append(_row(method.name, found.mean_watts, mean, asked, day_words(found)))
    return rows


def day_words(found: DayBaseline) -> str:
    """How a baseline of days came about."""
    if found.problem:
        return found.problem
    days = ", ".join(f"{day:%m-%d}" for day in found.days)
    return f"{found.method.words}; days {days}; adjusted by {found.adjust_factor:.3f}"


def _row(name: str, watts: float | None, mean: float | None, asked: float | None, remark: str) -> MethodRow:
    delivered = None if watts is None or mean is None else watts - mean
    return MethodRow(
        name=name,
        counts=False,
        baseline_watts=watts,
        delivered_watts=delivered,
        delivered_ratio=_ratio(delivered, asked),
        remark=remark,
    )


def _ratio(delivered: float | None, asked: float | None) -> float | None:
    return delivered / asked if delivered is not None and asked is not None and asked > 0.0 else None
