"""A statement of energy: each line of a span, from the jobs' GPUs to the meter, which they add up to.

For each metered circuit: what its meter counted is what the meters below it counted, the GPUs and hosts that
hang on it, less what batteries on it gave, and the rest, its *residual* (fans, losses, cooling, what nobody
measures). So all lines of a tree add up to the meter of its root by construction, and the residual shows how
good the other lines are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from slurm_power.model.receipt import SURE_RATIO
from slurm_power.report.energy.energy_tally import NOTHING, Amount, JobSums, JobTally, JobUse, total

JOULES_PER_WATT_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitUse:
    """What one metered circuit counted, and what hangs on it directly (not on a meter below it).

    ``parent`` is the next metered circuit above, None for the top. ``gpus`` is of all GPUs by their power
    readings, ``idle_gpus`` of those among them that no job had; None where that was not recorded.
    ``discharged`` is what batteries gave, less what they took. ``coverage_ratio`` is the share of the
    span that the meter was read in, ``estimated_ratio`` the share of that in which its value was no reading
    but put together from what it feeds.
    """

    name: str
    parent: str | None
    metered: Amount
    coverage_ratio: float
    gpus: Amount = NOTHING
    idle_gpus: Amount | None = None
    hosts: Amount | None = None
    discharged: Amount = NOTHING
    estimated_ratio: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the statement, in whole watt-hours; ``cost`` and ``carbon_grams`` None where unknown."""

    name: str
    watt_hours: int
    cost: float | None
    carbon_grams: float | None
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRow:
    """One circuit of the tree in whole watt-hours; its parts add up to ``metered_watt_hours``."""

    name: str
    parent: str | None
    depth: int
    metered_watt_hours: int
    below_watt_hours: int
    job_gpu_watt_hours: int
    idle_gpu_watt_hours: int
    host_watt_hours: int
    battery_watt_hours: int
    residual_watt_hours: int
    coverage_ratio: float
    estimated_ratio: float

    @property
    def residual_ratio(self) -> float | None:
        """The residual as a share of what the meter counted."""
        return self.residual_watt_hours / self.metered_watt_hours if self.metered_watt_hours else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All jobs of one name (a job, a user, an account).

    ``whole_*`` is its part of the whole meter, if every line is shared by the energy of the jobs' GPUs.
    """

    name: str
    jobs: int
    joules: float
    gpu_hours: float
    share_ratio: float
    hosts_joules: float | None
    coverage_ratio: float
    cost: float | None
    carbon_grams: float | None
    whole_joules: float
    whole_cost: float | None
    whole_carbon_grams: float | None

    @property
    def is_estimate(self) -> bool:
        """Whether too little was read for it to be more than an estimate."""
        return self.coverage_ratio < SURE_RATIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The lines, which add up to ``metered``; the tree; and who used it.

    ``covered_ratio`` is the share of the span that the meter was read in.
    """

    metered: Line
    lines: tuple[Line, ...]
    circuits: tuple[CircuitRow, ...]
    tally: JobTally
    covered_ratio: float
    has_costs: bool
    has_carbon: bool
    currency: str = ""

    @property
    def is_estimate(self) -> bool:
        """Whether the meter was read for too little of the span."""
        return self.covered_ratio < SURE_RATIO

    @property
    def jobs(self) -> tuple[JobUse, ...]:
        """The jobs that are listed one by one, the most energy first."""
        return self.tally.listed

    def groups(self, by: str) -> list[Group]:
        """Jobs by ``user`` or ``account``, the most energy first."""
        sums = self.tally.users if by == "user" else self.tally.accounts
        rows = [self._group(name, one) for name, one in sums.items()]
        return sorted(rows, key=lambda row: (-row.joules, row.name))

    def _group(self, name: str, sums: JobSums) -> Group:
        whole = self.tally.used.joules
        share = sums.used.joules / whole if whole > 0.0 else 0.0
        metered = self.metered
        return Group(
            name=name,
            jobs=sums.jobs,
            joules=sums.used.joules,
            gpu_hours=sums.gpu_seconds / 3600.0,
            share_ratio=share,
            hosts_joules=sums.hosts_joules,
            coverage_ratio=sums.coverage_ratio,
            cost=sums.used.cost if self.has_costs else None,
            carbon_grams=sums.used.carbon_grams if self.has_carbon else None,
            whole_joules=share * metered.watt_hours * JOULES_PER_WATT_HOUR,
            whole_cost=None if metered.cost is None else share * metered.cost,
            whole_carbon_grams=None if metered.carbon_grams is None else share * metered.carbon_grams,
        )


def statement(
    circuits: Sequence[CircuitUse],
    jobs: Iterable[JobUse],
    *,
    most_listed: int | None = None,
    energy_bill: float | None = None,
    has_costs: bool = True,
    has_carbon: bool = True,
    currency: str = "",
) -> Statement:
    """Put the lines together; ``circuits`` holds each metered circuit once, exactly one without a parent.

    ``jobs`` may be read as they are asked for; ``most_listed`` of them are kept one by one, None: all.
    ``energy_bill``: what the energy part of the bill came to; all costs are then scaled so that they add up
    to it. Raises ValueError for a tree without a top or with several.
    """
    tops = [circuit for circuit in circuits if circuit.parent is None]
    if len(tops) != 1:
        raise ValueError(f"{len(tops)} metered circuits are the top of the tree; a statement needs one")
    top = tops[0]
    if energy_bill is not None and top.metered.cost:
        factor = energy_bill / top.metered.cost
        circuits = [_costed(circuit, factor) for circuit in circuits]
        jobs = (_job_costed(job, factor) for job in jobs)
        top = next(circuit for circuit in circuits if circuit.parent is None)
    below = {
        circuit.name: total(other.metered for other in circuits if other.parent == circuit.name)
        for circuit in circuits
    }
    tally = JobTally(most_listed=most_listed)
    for job in jobs:
        tally.add(job)
    draft = _draft(circuits, below, tally.used, tally.unmetered, top)
    known = (has_costs, has_carbon)
    whole = _line("meter", top.metered, known, f"{top.name}, as its meter counted")
    lines = [_line(name, amount, known, remark) for name, amount, remark in draft]
    # Rounding goes where nobody has measured anything: into the residual of the top, the last line.
    off = whole.watt_hours - sum(line.watt_hours for line in lines)
    last = lines[-1]
    lines[-1] = replace(last, watt_hours=last.watt_hours + off)
    return Statement(
        metered=whole,
        lines=tuple(lines),
        circuits=tuple(_rows(circuits, below, top)),
        tally=tally,
        covered_ratio=top.coverage_ratio,
        has_costs=has_costs,
        has_carbon=has_carbon,
        currency=currency,
    )


def _draft(
    circuits: Sequence[CircuitUse],
    below: Mapping[str, Amount],
    job_total: Amount,
    unmetered: Amount,
    top: CircuitUse,
) -> list[tuple[str, Amount, str]]:
    gpus = total(circuit.gpus for circuit in circuits)
    idle_known = [circuit.idle_gpus for circuit in circuits if circuit.idle_gpus is not None]
    idle = total(idle_known)
    hosts = [circuit.hosts for circuit in circuits if circuit.hosts is not None]
    by_power = gpus.less(idle)
    rows = [("GPUs of jobs", job_total, "by their receipts: counters where GPUs have them")]
    if unmetered.joules:
        away = "what jobs used while the meter was not read, which it has not counted"
        rows.append(("less: out of the meter's sight", unmetered.times(-1.0), away))
    difference = by_power.less(job_total.less(unmetered))
    rows.append(
        ("GPUs of jobs: power readings less receipts", difference, "two ways of measuring the same energy")
    )
    said = "GPUs that no job had" if idle_known else "not recorded apart in this span"
    rows.append(("idle GPUs", idle, said))
    measured = "without their GPUs" if hosts else "not measured: they are in the residuals"
    rows.append(("hosts", total(hosts), measured))
    given = total(circuit.discharged for circuit in circuits)
    if any(circuit.discharged != NOTHING for circuit in circuits):
        rows.append(("batteries", given.times(-1.0), "what they took, less what they gave"))
    rests = [
        (f"residual of {circuit.name}", _residual(circuit, below[circuit.name]), _words(circuit, top))
        for circuit in circuits
        if circuit is not top
    ]
    return [
        *rows,
        *rests,
        (f"residual of {top.name}", _residual(top, below[top.name]), _words(top, top)),
    ]


def _words(circuit: CircuitUse, top: CircuitUse) -> str:
    if circuit is top:
        return "the meter less all that is below: losses, cooling, what has no meter"
    return "its meter less the GPUs and hosts behind it: fans, losses, what is not measured"


def _residual(circuit: CircuitUse, below: Amount) -> Amount:
    direct = circuit.gpus.plus(circuit.hosts or NOTHING).less(circuit.discharged)
    return circuit.metered.less(below).less(direct)


def _line(name: str, amount: Amount, known: tuple[bool, bool], remark: str) -> Line:
    return Line(
        name=name,
        watt_hours=round(amount.joules / JOULES_PER_WATT_HOUR),
        cost=amount.cost if known[0] else None,
        carbon_grams=amount.carbon_grams if known[1] else None,
        remark=remark,
    )


def _rows(
    circuits: Sequence[CircuitUse], below: Mapping[str, Amount], top: CircuitUse
) -> Iterable[CircuitRow]:
    """The tree from the top down, each circuit before what it feeds."""
    waiting = [(top, 0)]
    while waiting:
        circuit, depth = waiting.pop()
        idle = circuit.idle_gpus or NOTHING
        parts = [
            round(amount.joules / JOULES_PER_WATT_HOUR)
            for amount in (
                circuit.metered,
                below[circuit.name],
                circuit.gpus.less(idle),
                idle,
                circuit.hosts or NOTHING,
                circuit.discharged.times(-1.0),
            )
        ]
        yield CircuitRow(
            name=circuit.name,
            parent=circuit.parent,
            depth=depth,
            metered_watt_hours=parts[0],
            below_watt_hours=parts[1],
            job_gpu_watt_hours=parts[2],
            idle_gpu_watt_hours=parts[3],
            host_watt_hours=parts[4],
            battery_watt_hours=parts[5],
            residual_watt_hours=parts[0] - sum(parts[1:]),
            coverage_ratio=circuit.coverage_ratio,
            estimated_ratio=circuit.estimated_ratio,
        )
        fed = [other for other in circuits if other.parent == circuit.name]
        waiting += [(other, depth + 1) for other in reversed(fed)]


def _costed(circuit: CircuitUse, factor: float) -> CircuitUse:
    def scaled(amount: Amount) -> Amount:
        return amount._replace(cost=amount.cost * factor)

    return replace(
        circuit,
        metered=scaled(circuit.metered),
        gpus=scaled(circuit.gpus),
        idle_gpus=None if circuit.idle_gpus is None else scaled(circuit.idle_gpus),
        hosts=None if circuit.hosts is None else scaled(circuit.hosts),
        discharged=scaled(circuit.discharged),
    )


def _job_costed(job: JobUse, factor: float) -> JobUse:
    return replace(
        job,
        used=job.used._replace(cost=job.used.cost * factor),
        unmetered=job.unmetered._replace(cost=job.unmetered.cost * factor),
    )
