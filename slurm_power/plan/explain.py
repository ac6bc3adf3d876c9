"""Why this plan: each circuit's levers ranked by price, what was chosen, what was next, and what it is worth.

Made when somebody asks, not every second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from slurm_power.model.action import HoldJob, PauseJob, Plan, ReleaseJob, SetCap, SetDischarge
from slurm_power.model.job import Flex, Job
from slurm_power.model.reading import EssReading
from slurm_power.model.site import Circuit, LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.cap_columns import CapColumns, full_hertz
from slurm_power.plan.ess import sustainable_watts
from slurm_power.plan.event_target import target_watts
from slurm_power.plan.explain_tiers import slow_levers
from slurm_power.plan.loads import (
    JobLoad,
    behind_discharge_watts,
    circuit_watts,
    job_loads,
    load_table,
    pending_watts,
)
from slurm_power.plan.pausable import Pausable, may_be_paused, missing_watts, paused_watts
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import (
    JobWeights,
    Price,
    cap_price,
    discharge_price,
    hold_price,
    pause_price,
)

# Steps, dwell and rounding move the last watt of a lever a little past the first of the next.
_SAME_PRICE_RATIO = 1.05
# Held jobs beyond these are counted, not priced one by one.
_MOST_HOLDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LeverPrice:
    """One lever at one circuit: what it gives there and for how much.

    ``lever`` is ``discharge``, ``cap``, ``lock`` (of the clock, for decoding), ``pause``, ``hold``, ``tier``,
    ``service`` or ``batch``; ``subject`` the battery's or service's name or the job's id. ``price`` is that
    of the last watt chosen (None: none was), ``next_price`` of the next one it could give (None: it has no
    more, ``remark`` says why). Watts count at the circuit.
    """

    lever: str
    subject: str
    chosen_watts: float
    left_watts: float
    price: Price | None
    next_price: Price | None
    job: Job | None = None
    remark: str = ""

    @property
    def money_per_kwh(self) -> float:
        """What it is ranked by: its last watt if it is in use, else its next; what has none comes last."""
        price = self.price or self.next_price
        return float("inf") if price is None else price.money_per_kwh


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPrice:
    """One circuit: what it would draw without our levers, and the levers that count there, cheapest first.

    ``shadow_price`` is what one kWh more of its limit would be worth: the price of ``marginal``, the dearest
    lever that is in use for it. Both are None where the limit does not bind. ``next`` is the cheapest watt
    that is left. ``short_watts`` is what no lever can save.
    """

    circuit: Circuit
    limit_watts: float
    target_watts: float
    load_watts: float | None
    natural_watts: float | None
    binding: bool
    short_watts: float
    levers: tuple[LeverPrice, ...]
    marginal: LeverPrice | None
    next: LeverPrice | None

    @property
    def shadow_price(self) -> Price | None:
        """The price of the marginal lever, None where the limit does not bind."""
        return None if self.marginal is None else self.marginal.price


def explain(
    snapshot: Snapshot, plan: Plan, policy: Policy, *, energy_price_per_kwh: float | None = None
) -> tuple[CircuitPrice, ...]:
    """Price the levers of every circuit that binds or is short, of the grid connection in any case.

    ``plan`` is the one made of ``snapshot``; ``energy_price_per_kwh`` is today's, if a tariff says one.
    """
    loads = job_loads(snapshot, policy)
    caps = {action.job_id: action.cap_watts for action in plan.actions if isinstance(action, SetCap)}
    held = _held_watts(snapshot, plan, policy)
    withheld = paused_watts(snapshot, load_table(snapshot, policy), policy)
    withheld[snapshot.site.root.name] += sum(held.values())
    for load in loads:
        if load.cap_watts is not None:
            watts = max(0.0, load.uncapped_watts - load.gpu_watts)
            for name, weight in load.circuit_weights.items():
                withheld[name] += watts * weight
    columns = CapColumns(snapshot, load_table(snapshot, policy), policy)
    asked = _Asked(snapshot, plan, policy, loads, columns, caps, held, energy_price_per_kwh)
    short = {
        shortfall.circuit: shortfall.watts for shortfall in plan.shortfalls if shortfall.from_seconds <= 0.0
    }
    found = [
        _circuit_price(asked, circuit, withheld[circuit.name], short.get(circuit.name, 0.0))
        for circuit in snapshot.site.circuits.values()
    ]
    root = snapshot.site.root.name
    return tuple(one for one in found if one.binding or one.short_watts > 0.0 or one.circuit.name == root)


@dataclass(frozen=True, slots=True)
class _Asked:
    """All that a circuit's prices are made of."""

    snapshot: Snapshot
    plan: Plan
    policy: Policy
    loads: tuple[JobLoad, ...]
    columns: CapColumns
    caps: Mapping[str, float | None]
    held: Mapping[str, float]
    energy_price_per_kwh: float | None


def _held_watts(snapshot: Snapshot, plan: Plan, policy: Policy) -> dict[str, float]:
    """What each job that is held, by this plan or still by an earlier one, would add."""
    released = {action.job_id for action in plan.actions if isinstance(action, ReleaseJob)}
    holding = {action.job_id for action in plan.actions if isinstance(action, HoldJob)}
    holding = (holding | set(snapshot.holds)) - released
    jobs = [job for job in snapshot.jobs if job.job_id in holding]
    return {job.job_id: pending_watts(snapshot, job, policy) for job in jobs[:_MOST_HOLDS]}


def _load_watts(snapshot: Snapshot, circuit: str) -> float | None:
    if circuit == snapshot.site.root.name and snapshot.recent_load_watts:
        return max(snapshot.recent_load_watts)
    net_watts = circuit_watts(snapshot, circuit)
    return None if net_watts is None else net_watts + behind_discharge_watts(snapshot, circuit)


def _circuit_price(
    asked: _Asked, circuit: Circuit, withheld_watts: float, short_watts: float
) -> CircuitPrice:
    snapshot, policy = asked.snapshot, asked.policy
    load_watts = _load_watts(snapshot, circuit.name)
    natural_watts = None if load_watts is None else load_watts + withheld_watts
    target = target_watts(snapshot, circuit.name, policy)
    binding = natural_watts is not None and natural_watts > target
    wanted = binding or short_watts > 0.0 or circuit.parent is None
    rows = _levers(asked, circuit) if wanted else []
    rows.sort(key=lambda row: (row.money_per_kwh, row.lever, row.subject))
    following = min(
        (row for row in rows if row.next_price is not None and row.left_watts > 0.0),
        key=lambda row: row.next_price.money_per_kwh if row.next_price else 0.0,
        default=None,
    )
    marginal = _marginal(rows, following) if binding else None
    # What is taken whole, minutes ahead, has no last watt: it is ranked, and makes no shadow price.
    rows += _slow_levers(asked, circuit) if wanted else []
    rows.sort(key=lambda row: (row.money_per_kwh, row.lever, row.subject))
    return CircuitPrice(
        circuit=circuit,
        limit_watts=snapshot.limit_watts(circuit.name, policy.event_lead_seconds),
        target_watts=target,
        load_watts=load_watts,
        natural_watts=natural_watts,
        binding=binding,
        short_watts=short_watts,
        levers=tuple(rows),
        marginal=marginal,
        next=following,
    )


def _marginal(rows: Iterable[LeverPrice], following: LeverPrice | None) -> LeverPrice | None:
    """The dearest lever in use for this circuit.

    A lever dearer than one that is left was not chosen for this circuit but for another on its path.
    """
    chosen = [row for row in rows if row.price is not None]
    if following is not None and following.next_price is not None:
        most = following.next_price.money_per_kwh * _SAME_PRICE_RATIO
        chosen = [row for row in chosen if row.money_per_kwh <= most] or chosen[:1]
    return max(chosen, key=lambda row: row.money_per_kwh, default=None)


def _levers(asked: _Asked, circuit: Circuit) -> list[LeverPrice]:
    weights = JobWeights(asked.snapshot, asked.policy)
    rows = [
        _cap(asked, weights, load, load.circuit_weights[circuit.name], circuit.limit_kind)
        for load in asked.loads
        if load.circuit_weights.get(circuit.name, 0.0) > 0.0
    ]
    rows += _pauses(asked, circuit)
    site = asked.snapshot.site
    for name, ess in site.ess.items():
        reading = asked.snapshot.ess.get(name)
        if reading is not None and circuit.name in site.path(ess.circuit):
            rows.append(_discharge(asked, name, reading))
    if circuit.parent is None:
        jobs = {job.job_id: job for job in asked.snapshot.jobs if job.job_id in asked.held}
        rows += [
            LeverPrice(
                lever="hold",
                subject=job_id,
                chosen_watts=watts,
                left_watts=0.0,
                price=hold_price(asked.policy, weights, jobs[job_id], watts),
                next_price=None,
                job=jobs[job_id],
            )
            for job_id, watts in asked.held.items()
        ]
    return rows


def _slow_levers(asked: _Asked, circuit: Circuit) -> list[LeverPrice]:
    """Model tiers of jobs and services, and advice on batches."""
    table = load_table(asked.snapshot, asked.policy)
    rows = []
    for one in slow_levers(asked.snapshot, table, asked.plan, asked.policy, circuit):
        watts = 0.0 if one.offer is None else one.offer.saved_watts.get(circuit.name, 0.0)
        price = one.price(circuit.name)
        rows.append(
            LeverPrice(
                lever=one.lever,
                subject=one.subject,
                chosen_watts=watts if one.chosen else 0.0,
                left_watts=0.0 if one.chosen else watts,
                price=price if one.chosen else None,
                next_price=None if one.chosen else price,
                job=one.job,
                remark=one.remark,
            )
        )
    return rows


def _pauses(asked: _Asked, circuit: Circuit) -> list[LeverPrice]:
    """The jobs that are paused, are to be, or could be, where the site allows that at all."""
    snapshot, policy = asked.snapshot, asked.policy
    pausable = Pausable(snapshot, policy)
    actions = asked.plan.actions
    begun = {action.job_id for action in actions if isinstance(action, PauseJob) and not action.renewed}
    caps = {action.job_id: action for action in actions if isinstance(action, SetCap)}
    rows = []
    for load in asked.loads:
        job, weight = load.job, load.circuit_weights.get(circuit.name, 0.0)
        lease = snapshot.pauses.get(job.job_id)
        if weight <= 0.0 or (lease is None and not may_be_paused(job, policy)):
            continue
        price, next_price, chosen_watts, left_watts, remark = None, None, 0.0, 0.0, ""
        if lease is not None:
            chosen_watts = missing_watts(load, lease.drawn_watts, policy) * weight
            price = pause_price(
                policy,
                pausable.weights,
                job,
                performance=1.0,
                saved_watts=chosen_watts,
                lasts_seconds=policy.pause_most_seconds,
            )
        elif remark := pausable.why_not(load, circuit.limit_kind):
            pass
        else:
            one = pausable.candidate(load, circuit.name, caps.get(job.job_id))
            if job.job_id in begun:
                price, chosen_watts = one.price, one.saved_watts
            else:
                next_price, left_watts = one.price, one.saved_watts
        rows.append(
            LeverPrice(
                lever="pause",
                subject=job.job_id,
                chosen_watts=chosen_watts,
                left_watts=left_watts,
                price=price,
                next_price=next_price,
                job=job,
                remark=remark,
            )
        )
    return rows


def _discharge(asked: _Asked, name: str, reading: EssReading) -> LeverPrice:
    ess = asked.snapshot.site.ess[name]
    chosen_watts = max(
        (
            action.discharge_watts
            for action in asked.plan.actions
            if isinstance(action, SetDischarge) and action.ess == name
        ),
        default=0.0,
    )
    # What it gives beyond that is a bridge until job levers bite: no more can be planned on.
    left_watts = max(0.0, sustainable_watts(ess, reading) - max(0.0, chosen_watts))
    price = discharge_price(ess, reading, asked.policy, asked.energy_price_per_kwh)
    remark = ""
    if not reading.usable():
        remark = "may not be commanded now"
    elif reading.soc_ratio <= ess.reserve_soc_ratio:
        remark = "is down to its reserve"
    elif left_watts <= 0.0:
        remark = "gives all that it can sustain"
    return LeverPrice(
        lever="discharge",
        subject=name,
        chosen_watts=max(0.0, chosen_watts),
        left_watts=left_watts,
        price=price if chosen_watts > 0.0 else None,
        next_price=price if left_watts > 0.0 else None,
        remark=remark,
    )


def _cap(
    asked: _Asked, weights: JobWeights, load: JobLoad, circuit_weight: float, kind: LimitKind
) -> LeverPrice:
    """One job's cap at one circuit, within its promise."""
    policy, job = asked.policy, load.job
    free_watts = max(load.uncapped_watts, min(load.gpu_watts + load.coming_watts, load.default_cap_watts))
    cap_watts = asked.caps.get(job.job_id)
    now_watts = free_watts if cap_watts is None else min(free_watts, cap_watts)
    # A safety limit caps decoding jobs, as it caps all others.
    columns, row = asked.columns, asked.columns.placed.row[job.job_id]
    locked = bool(columns.locked[row]) and kind is LimitKind.ECONOMIC
    promised = columns.promised_watts if locked else columns.cap_promised_watts
    floor_watts, natural_watts = float(promised[row]), float(columns.natural_watts[row])
    remark = ""
    if not load.reachable:
        remark = "no node reports its GPUs, or they are parted"
    elif load.yielded and kind is LimitKind.ECONOMIC:
        remark = "its node is yielded to the administrator"
    elif locked and not full_hertz(asked.snapshot, job):
        remark = "nobody knows its clock without a lock now"
    elif job.flex is Flex.FLEX0:
        remark = "flex0: for safety only, and last"
    elif columns.flex0[row]:
        remark = "it must run at full speed to end in time: for safety only, and last"
    elif now_watts < floor_watts:
        remark = (
            "below its promise, for safety" if cap_watts is not None else "draws less than its lowest cap"
        )
    elif now_watts <= floor_watts:
        remark = "at the floor of its promise"
    left_watts = 0.0 if remark else (now_watts - floor_watts) * circuit_weight
    ratio = now_watts / natural_watts

    def price(*, downwards: bool) -> Price:
        return cap_price(
            policy,
            weights,
            job,
            slope=columns.slope(row, ratio, downwards=downwards),
            uncapped_watts=natural_watts,
            circuit_watts=circuit_weight,
        )

    used_watts = max(0.0, free_watts - now_watts) * circuit_weight
    return LeverPrice(
        lever="lock" if locked else "cap",
        subject=job.job_id,
        chosen_watts=used_watts,
        left_watts=left_watts,
        price=price(downwards=False) if used_watts > 0.0 else None,
        next_price=price(downwards=True) if left_watts > 0.0 else None,
        job=job,
        remark=remark,
    )
