"""What shadow mode would have saved and delayed, from the ledger's sums and the series of its wishes.

Each wish was made in a site where nothing had been done before. So this is no replay: the watts of a second
are those that would have been taken in it, one second does not change the next, and what was delayed does not
come back later. Batteries are told as two bounds: carried by one charge alone, and never empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.model.ledger import LedgerEntry
from slurm_power.report.shadow.shadow_courses import Billing, Case, ShadowColumns, cases
from slurm_power.report.shadow.shadow_wishes import (
    ForecastRight,
    JobDelay,
    Lever,
    UserDelay,
    forecast_right,
    job_delays,
    levers,
    usable_kwh,
    user_delays,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowFindings:
    """All of it. ``cases``: as it was, without the battery, with one charge of it, with one never empty.

    ``shadow_seconds`` of ``span_seconds`` were only watched with a meter that answered. Of ``quarters`` of an
    hour ``unknown_quarters`` have nothing of that: they are in no case, neither as it was nor as it would be.
    """

    cases: tuple[Case, ...]
    levers: tuple[Lever, ...]
    jobs: tuple[JobDelay, ...]
    users: tuple[UserDelay, ...]
    forecast: ForecastRight | None
    span_seconds: float
    shadow_seconds: float
    usable_kwh: float
    unknown_quarters: int
    quarters: int

    @property
    def coverage_ratio(self) -> float:
        """How much of the span is judged."""
        return self.shadow_seconds / self.span_seconds if self.span_seconds > 0.0 else 0.0


def shadow_findings(
    columns: ShadowColumns,
    entries: Sequence[LedgerEntry],
    records: Mapping[str, Mapping[str, object]],
    billing: Billing | None = None,
) -> ShadowFindings:
    """Everything the report says of a span of time; ``entries`` and ``records`` are those of the span."""
    usable = usable_kwh(entries)
    delays = job_delays(entries)
    unknown, quarters = columns.unknown_quarters
    return ShadowFindings(
        cases=cases(columns, usable, billing),
        levers=levers(entries),
        jobs=delays,
        users=user_delays(delays, records),
        forecast=forecast_right(entries),
        span_seconds=len(columns.watts) * columns.step_seconds,
        shadow_seconds=float(np.count_nonzero(columns.shadowed) * columns.step_seconds),
        usable_kwh=usable,
        unknown_quarters=unknown,
        quarters=quarters,
    )
