"""The rows of `explain` for levers that take whole jobs or services: model tiers, and advice on batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slurm_power.model.action import AdviseBatch, ChangeTier, Plan, SwitchService
from slurm_power.model.job import Job
from slurm_power.model.site import Circuit
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.batch_advice import BatchAdvice
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.lasting_needs import Need
from slurm_power.plan.loads import LoadTable
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import Price
from slurm_power.plan.slow_levers import Offer
from slurm_power.plan.tier_moves import choices
from slurm_power.plan.tiers import tier_needs

Begun = dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLever:
    """One job or service at one circuit; ``chosen``: this plan begins it.

    Without an offer its remark says why.
    """

    lever: str
    subject: str
    job: Job
    offer: Offer | None
    chosen: bool
    remark: str

    def price(self, circuit: str) -> Price | None:
        """What it costs there."""
        if self.offer is None:
            return None
        saved_kilowatts = max(self.offer.saved_watts.get(circuit, 0.0), 1e-9) / 1000.0
        work = self.offer.work_gpu_hours_per_hour / saved_kilowatts
        return Price(self.offer.money_per_kwh(circuit), work)


def slow_levers(
    snapshot: Snapshot, table: LoadTable, plan: Plan, policy: Policy, circuit: Circuit
) -> list[SlowLever]:
    """The jobs and services behind a circuit that a lighter tier or a smaller batch is possible for."""
    begun = _begun(plan)
    found: list[SlowLever] = []
    if snapshot.catalog.families and policy.tier_moves:
        found += _tiers(snapshot, table, policy, circuit, begun)
    if snapshot.learned:
        found += _batches(snapshot, table, policy, circuit, begun)
    return found


def _begun(plan: Plan) -> Begun:
    """What the plan begins, by lever and subject, with the tier or the batch."""
    found = {}
    for one in plan.actions:
        match one:
            case ChangeTier(running=True):
                found["tier", one.job_id] = one.tier
            case SwitchService(tier=str(tier)):
                found["service", one.service] = tier
            case AdviseBatch(micro_batch=int(size)):
                found["batch", one.job_id] = str(size)
            case _:
                pass
    return found


def _usual_need(circuit: Circuit, policy: Policy) -> Need:
    """A need to price a lever by where none is there: as short as one that a move is for."""
    return Need(
        circuit=circuit.name,
        watts=0.0,
        kind=circuit.limit_kind,
        limit_watts=circuit.ceiling_watts,
        starts_in_seconds=0.0,
        lasts_seconds=policy.tier_move_least_seconds,
        since_seconds=0.0,
    )


def _tiers(
    snapshot: Snapshot,
    table: LoadTable,
    policy: Policy,
    circuit: Circuit,
    begun: Begun,
) -> list[SlowLever]:
    needs, movable, services = tier_needs(snapshot, table, policy, pending=True)
    need = next((one for one in needs if one.circuit == circuit.name), _usual_need(circuit, policy))
    found = []
    for row in movable.rows():
        job = table.placed.jobs[row]
        if circuit.name not in table.placed.circuit_weights(row, snapshot.site):
            continue
        remark = movable.why_not(row, need)
        offers = [] if remark else [movable.offer(row, one, need) for one in choices(snapshot, job)]
        able = [one for one in offers if one is not None]
        if not able and not remark:
            remark = "no lighter tier that it consents to keeps its promise and saves power"
        found.append(_lever("tier", job.job_id, job, able, begun=begun, circuit=circuit, remark=remark))
    for one in services.standing:
        rows = services.rows(one)
        if not rows or circuit.name not in table.placed.circuit_weights(rows[0], snapshot.site):
            continue
        remark = services.why_not(one)
        offered = [] if remark else services.offers_of(one, need)
        if not offered and not remark:
            remark = "no lighter tier is allowed, can carry its requests and has room beside its own"
        job, name = table.placed.jobs[rows[0]], one.service.name
        found.append(_lever("service", name, job, offered, begun=begun, circuit=circuit, remark=remark))
    return found


def _batches(
    snapshot: Snapshot,
    table: LoadTable,
    policy: Policy,
    circuit: Circuit,
    begun: Begun,
) -> list[SlowLever]:
    advice = BatchAdvice(snapshot, table, policy)
    columns = CapColumns(snapshot, table, policy)
    found = []
    for job_id in sorted(snapshot.learned):
        row = table.placed.row.get(job_id)
        if row is None or circuit.name not in table.placed.circuit_weights(row, snapshot.site):
            continue
        remark = advice.why_not(job_id, circuit.limit_kind)
        offers = [] if remark else list(advice.offers(job_id, columns, {}))
        if not offers and not remark:
            remark = "no smaller batch that it has run with draws less within its promise"
        found.append(
            _lever(
                "batch", job_id, table.placed.jobs[row], offers, begun=begun, circuit=circuit, remark=remark
            )
        )
    return found


def _lever(
    lever: str,
    subject: str,
    job: Job,
    offers: Sequence[Offer],
    *,
    begun: Begun,
    circuit: Circuit,
    remark: str,
) -> SlowLever:
    """The offer that the plan has begun with, else the cheapest that saves something there."""
    chosen = begun.get((lever, subject))
    able = [one for one in offers if one.saved_watts.get(circuit.name, 0.0) > 0.0]
    best = min(able, key=lambda one: (one.money_per_kwh(circuit.name), one.tier), default=None)
    taken = next((one for one in able if one.tier == chosen), None)
    found = SlowLever(
        lever=lever, subject=subject, job=job, offer=taken or best, chosen=taken is not None, remark=remark
    )
    return found if found.offer is not None or remark else replace(found, remark="saves nothing here")
