"""A user's own statement of energy: their jobs' receipts, cut at the ends of the span, and their sums."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from slurm_power.model.money import money_text, money_unit
from slurm_power.model.receipt import Receipt
from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.report.frame.document import (
    Check,
    Column,
    Document,
    Paragraph,
    Section,
    Table,
    Tile,
    Value,
    number_column,
)

_GPUS = "Energy of GPUs"
_METHOD = (
    "Made of the receipts of your own jobs, as powerctld or Slurm's accounting has them: no other user's jobs"
    " are in it, in no sum either. A job that crosses an end of the span counts with the part of its energy"
    " that its time has in the span. Cost and CO2 are those of each receipt, which may be for the GPUs alone"
    " or for a part of hosts and racks (slurm-power jobs --statement tells each); demand and fixed charges"
    " are not in them."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnJob:
    """One of the user's jobs. ``within_ratio``: the part of its run that is in the span."""

    job_id: str
    name: str
    account: str
    state: str
    gpu_count: int
    seconds: float
    within_ratio: float
    receipt: Receipt | None
    final: bool

    @property
    def is_estimate(self) -> bool:
        """Whether its energy is not known for sure: not read enough, not closed yet, or cut by its time."""
        if self.receipt is None or self.receipt.energy_joules is None:
            return True
        return self.receipt.is_estimate or not self.final or self.within_ratio < 1.0

    def part(self, whole: float | None) -> float | None:
        """What of a figure of its receipt is in the span."""
        return None if whole is None else self.within_ratio * whole


def own_jobs_within(
    jobs: Iterable[tuple[OwnJob, datetime, datetime]], since: datetime, until: datetime
) -> list[OwnJob]:
    """The jobs of which some is in the span, each with when it ran; ``within_ratio`` is set here."""
    found = []
    for job, start, end in jobs:
        inside = (min(end, until) - max(start, since)).total_seconds()
        whole = (end - start).total_seconds()
        if inside > 0.0 or (whole <= 0.0 and since <= start < until):
            ratio = min(1.0, inside / whole) if whole > 0.0 else 1.0
            found.append(replace(job, seconds=ratio * job.seconds, within_ratio=ratio))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """What some jobs come to; None where none of them has the figure, ``unknown``: jobs without energy."""

    jobs: int
    unknown: int
    estimates: int
    gpu_hours: float
    kwh: float | None
    cost: float | None
    co2_kg: float | None

    @classmethod
    def of(cls, jobs: Sequence[OwnJob]) -> "_Sums":
        def added(figures: Iterable[float | None], scale: float) -> float | None:
            known = [figure for figure in figures if figure is not None]
            return sum(known) / scale if known else None

        receipts = [(job, job.receipt) for job in jobs if job.receipt is not None]
        joules = [job.part(receipt.energy_joules) for job, receipt in receipts]
        return cls(
            jobs=len(jobs),
            unknown=len(jobs) - sum(one is not None for one in joules),
            estimates=sum(job.is_estimate for job in jobs),
            gpu_hours=sum(job.gpu_count * job.seconds for job in jobs) / 3600.0,
            kwh=added(joules, JOULES_PER_KWH),
            cost=added((job.part(receipt.cost) for job, receipt in receipts), 1.0),
            co2_kg=added((job.part(receipt.co2_grams) for job, receipt in receipts), 1000.0),
        )

    def cells(self) -> tuple[Value, ...]:
        return (self.gpu_hours, self.kwh, self.cost, self.co2_kg)


def own_energy_document(
    jobs: Sequence[OwnJob],
    *,
    user: str,
    span_words: str,
    currency: str,
    notes: Sequence[str],
    labels: dict[str, str],
) -> Document:
    """The statement; what its user has named stands in it as it is, the frame makes it harmless."""
    whole = _Sums.of(jobs)
    tiles = [
        Tile(name="Jobs", value=str(whole.jobs), remark=f"{whole.gpu_hours:,.1f} GPU-hours"),
        Tile(
            name=_GPUS,
            value="unknown" if whole.kwh is None else f"{whole.kwh:,.3f} kWh",
            remark=f"{whole.estimates} estimates among them" if whole.estimates else "",
        ),
    ]
    if whole.cost is not None:
        tiles.append(Tile(name="Energy cost", value=money_text(whole.cost, currency)))
    if whole.co2_kg is not None:
        tiles.append(Tile(name="CO2", value=f"{whole.co2_kg:,.2f} kg"))
    check = Check(
        good=not whole.unknown,
        yes="The energy of all your jobs is known",
        no="Of some jobs no energy is known",
        detail=f"{whole.unknown} of {whole.jobs} have no receipt of energy",
    )
    return Document(
        title=f"Energy of the jobs of {user}",
        subtitle=span_words,
        labels=labels,
        checks=(check,),
        tiles=tuple(tiles),
        sections=(
            Section(title="Accounts", blocks=(_accounts(jobs, currency),)),
            Section(title="Jobs", blocks=(_jobs(jobs, currency),)),
            Section(title="How it was made", blocks=tuple(map(Paragraph, (_METHOD, *notes)))),
        ),
    )


def _figures(currency: str) -> tuple[Column, ...]:
    return (
        number_column("GPU time", "GPU-hours", digits=2),
        number_column("GPUs", "kWh", digits=3),
        number_column("Cost", money_unit(currency), digits=4),
        number_column("CO2", "kg", digits=3),
    )


def _accounts(jobs: Sequence[OwnJob], currency: str) -> Table:
    names = sorted({job.account for job in jobs})
    rows = []
    for name in names:
        sums = _Sums.of([job for job in jobs if job.account == name])
        rows.append((name or "unknown", sums.jobs, *sums.cells()))
    whole = _Sums.of(jobs)
    return Table(
        name="accounts",
        title="Your jobs, by the account they ran under",
        columns=(
            Column(heading="Account"),
            number_column("Jobs", digits=0),
            *_figures(currency),
        ),
        rows=(*rows, ("sum", whole.jobs, *whole.cells())) if jobs else (),
        note="Of your own jobs alone; what others used under an account is told to nobody but operators.",
    )


def _jobs(jobs: Sequence[OwnJob], currency: str) -> Table:
    def row(job: OwnJob) -> tuple[Value, ...]:
        sums = _Sums.of([job])
        sure = "unknown" if sums.unknown else ("estimate" if job.is_estimate else "")
        part = 100.0 * job.within_ratio
        return (job.job_id, job.name, job.account, job.state, *sums.cells(), part, sure)

    return Table(
        name="jobs",
        title="Jobs, the most energy first",
        columns=(
            Column(heading="Job"),
            Column(heading="Name"),
            Column(heading="Account"),
            Column(heading="State"),
            *_figures(currency),
            number_column("In the span", "%", digits=0),
            Column(heading="How sure"),
        ),
        rows=tuple(row(job) for job in sorted(jobs, key=lambda job: -(_Sums.of([job]).kwh or 0.0))),
    )
