"""The waiting jobs that say which model tier they run, found once for one list of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from slurm_power.plan.job_table import PendingJobs
from slurm_power.plan.memo import LastFew


@dataclass(frozen=True, slots=True)
class TierRows:
    """The rows of waiting jobs by the full name of their tier, and those of them that consent to others."""

    by_tier: Mapping[str, list[int]]
    consenting: tuple[int, ...]


_rows: LastFew[TierRows] = LastFew(3)


def tier_rows(jobs: PendingJobs) -> TierRows:
    """Only for a site with a catalog: it takes a look at every job."""
    return _rows.of(lambda: _tier_rows(jobs), jobs)


def _tier_rows(jobs: PendingJobs) -> TierRows:
    by_tier: dict[str, list[int]] = {}
    consenting = []
    for row, job in enumerate(jobs.jobs):
        if job.tier:
            by_tier.setdefault(job.tier, []).append(row)
            if job.tiers_ok:
                consenting.append(row)
    return TierRows(by_tier, tuple(consenting))
