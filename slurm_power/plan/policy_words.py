"""The site's policy in sentences, made from the values in force, so that the words cannot say otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slurm_power.model.job import Flex, Job, Workload
from slurm_power.model.site import Circuit, LimitKind, Site
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.policy import PeakJobs, Policy

_FLEXES = tuple(Flex)
_MOST_LIMITS = 20
_Value = str | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLine:
    """One rule. ``values`` are the keys it is made from; ``flexes`` are the classes that it is about.

    ``workloads``: the workload classes it is about. ``tiers``: it is about jobs that name a model tier only.
    """

    topic: str
    text: str
    values: Mapping[str, _Value] = field(default_factory=dict)
    flexes: tuple[Flex, ...] = _FLEXES
    workloads: tuple[Workload, ...] = tuple(Workload)
    tiers: bool = False

    def concerns(self, job: Job) -> bool:
        """Whether a job is touched by it."""
        return (
            job.flex in self.flexes and job.workload in self.workloads and (bool(job.tier) or not self.tiers)
        )


def policy_lines(policy: Policy, site: Site, *, admission: bool = False) -> tuple[PolicyLine, ...]:
    """Every rule that bounds what may be done to jobs, in the order in which a user should read them."""
    return (
        _control(policy),
        *map(_promise, _FLEXES),
        _own_words(),
        _safety(policy),
        _floor(policy),
        _pauses(policy),
        *_tiers(policy),
        _peak(policy),
        _events(policy),
        *_starts(policy, admission=admission),
        *_fairness(policy),
        *_worth(policy),
        *_limits(site),
    )


def _control(policy: Policy) -> PolicyLine:
    values: dict[str, _Value] = {"policy.control": policy.control}
    if policy.control:
        text = "Jobs are capped, held and otherwise slowed where a limit asks for it, as said below."
    else:
        text = "Shadow mode: what would be done is decided and written down, and nothing is touched."
    return PolicyLine(topic="control", text=text, values=values)


def _promise(flex: Flex) -> PolicyLine:
    ratio = flex.max_slowdown_ratio
    if ratio == 0.0:
        text = f"{flex.value}: never slowed, held or paused to save money."
    else:
        share = _percent(ratio)
        text = (
            f"{flex.value}: slowed by at most {share}, or held before its start for at most {share} of its"
            " time limit (an hour where it has none), to save money."
        )
    values: dict[str, _Value] = {"max_slowdown_ratio": ratio}
    return PolicyLine(topic="promise", text=text, values=values, flexes=(flex,))


def _own_words() -> PolicyLine:
    return PolicyLine(
        topic="promise",
        text="A job's own words bind as well: --max-hold, --finish-by and Slurm's --deadline bound every"
        " lever that is there for money.",
        flexes=_FLEXES[1:],
    )


def _safety(policy: Policy) -> PolicyLine:
    del policy  # nothing in it can switch this off
    return PolicyLine(
        topic="safety",
        text="A breaker comes before every promise: a safety limit that cannot be kept within them takes"
        " more, from flex0 last, and only as long as it must. Each time is in the ledger.",
    )


def _floor(policy: Policy) -> PolicyLine:
    return PolicyLine(
        topic="caps",
        text=f"No cap is lower than {_percent(policy.cap_floor_ratio)} of the GPU's default limit.",
        values={"policy.cap_floor_ratio": policy.cap_floor_ratio},
    )


def _pauses(policy: Policy) -> PolicyLine:
    values: dict[str, _Value] = {"policy.pause_flex": policy.pause_flex}
    if not policy.pause_flex:
        return PolicyLine(topic="pauses", text="Running jobs are not paused.", values=values)
    flexes = _FLEXES[_FLEXES.index(Flex(policy.pause_flex)) :]
    values["policy.pause_most_seconds"] = policy.pause_most_seconds
    values["policy.pause_rest_seconds"] = policy.pause_rest_seconds
    classes = " and ".join(flex.value for flex in flexes)
    return PolicyLine(
        topic="pauses",
        text=f"Running jobs of {classes} may be paused, for at most {_time(policy.pause_most_seconds)} at a"
        f" time and with {_time(policy.pause_rest_seconds)} between two pauses; what a pause takes counts"
        " against the promise. Inference is never paused.",
        values=values,
        flexes=flexes,
        workloads=(Workload.TRAINING, Workload.GENERATION),
    )


def _tiers(policy: Policy) -> tuple[PolicyLine, ...]:
    values: dict[str, _Value] = {"policy.tier_moves": policy.tier_moves}
    if not policy.tier_moves:
        text = "No job is moved to a lighter model tier."
    else:
        values["policy.tier_move_rest_seconds"] = policy.tier_move_rest_seconds
        text = (
            "A job is moved to a lighter model tier only if its user has said which are fine (--tiers-ok),"
            f" not below --min-quality, and at most once in {_time(policy.tier_move_rest_seconds)}."
        )
    return (PolicyLine(topic="tiers", text=text, values=values, tiers=True),)


def _peak(policy: Policy) -> PolicyLine:
    text = {
        PeakJobs.OFF: "The month's peak is no reason to touch jobs.",
        PeakJobs.SHADOW: "The month's peak is no reason to touch jobs; what it would save is only told.",
        PeakJobs.ON: "Jobs may be capped and held for the month's peak, within their promises and as far as"
        " that costs less than the peak does.",
    }[policy.peak_jobs]
    values: dict[str, _Value] = {"policy.peak_jobs": policy.peak_jobs.value}
    return PolicyLine(topic="peak", text=text, values=values, flexes=_FLEXES[1:])


def _events(policy: Policy) -> PolicyLine:
    return PolicyLine(
        topic="events",
        text="A grid event lowers a limit for a while, a ramp before it included. On a circuit whose limit is"
        " there for money it touches jobs within their promises only;"
        f" {_percent(policy.event_margin_ratio)} of its limit is kept free.",
        values={"policy.event_margin_ratio": policy.event_margin_ratio},
        flexes=_FLEXES[1:],
    )


def _starts(policy: Policy, *, admission: bool) -> tuple[PolicyLine, ...]:
    found = []
    if policy.start_ramp_watts_per_second > 0.0 and policy.prolog_wait_seconds > 0.0:
        found.append(
            PolicyLine(
                topic="starts",
                text=f"A massive start may wait in its prolog, at most {_time(policy.prolog_wait_seconds)}.",
                values={
                    "policy.prolog_wait_seconds": policy.prolog_wait_seconds,
                    "policy.start_ramp_watts_per_second": policy.start_ramp_watts_per_second,
                },
                flexes=_FLEXES[1:],
            )
        )
    if admission:
        found.append(
            PolicyLine(
                topic="starts",
                text="Slurm itself starts a job only when the watts it asks for are free: every class waits"
                " for that as for GPUs.",
                values={"admission.enabled": True},
            )
        )
    return tuple(found)


def _fairness(policy: Policy) -> tuple[PolicyLine, ...]:
    shares = PolicyLine(
        topic="fairness",
        text=f"No user carries more than {_percent(policy.max_user_share_ratio)} of what caps take off a"
        " circuit, while two others can still give.",
        values={"policy.max_user_share_ratio": policy.max_user_share_ratio},
        flexes=_FLEXES[1:],
    )
    ratio, half = policy.fairness_ratio, policy.fairness_half_life_seconds
    if ratio == 0.0:
        text = "What somebody has lost already does not spare them."
    else:
        text = (
            f"Who has lost much already is spared: touching them counts up to {1.0 + ratio:g} times as much."
            f" Half of what was lost is forgotten after {_time(half)}."
        )
    debts = PolicyLine(
        topic="fairness",
        text=text,
        values={"policy.fairness_ratio": ratio, "policy.fairness_half_life_seconds": half},
    )
    return shares, debts


def _worth(policy: Policy) -> tuple[PolicyLine, ...]:
    weights: dict[str, _Value] = {
        f"policy.{flex.value}_weight": getattr(policy, f"{flex.value}_weight") for flex in Flex
    }
    words = ", ".join(f"{flex.value} {getattr(policy, f'{flex.value}_weight'):g}" for flex in Flex)
    found = [
        PolicyLine(
            topic="weights",
            text=f"Work of the classes counts: {words} (higher: touched later).",
            values=weights,
        )
    ]
    if policy.account_weights:
        accounts: dict[str, _Value] = {
            f"policy.account_weights.{name}": weight for name, weight in policy.weights_of_accounts().items()
        }
        told = ", ".join(policy.account_weights).replace("=", " ")
        found.append(
            PolicyLine(topic="weights", text=f"Accounts count: {told}; all others 1.", values=accounts)
        )
    return tuple(found)


def _limits(site: Site) -> tuple[PolicyLine, ...]:
    """The tightest circuits first by their place: the grid connection, then what is nearest to it."""
    order = [circuit for circuit in reversed(site.leaves_first()) if circuit.limit_watts is not None]
    root = site.root
    if root not in order:
        order.insert(0, root)
    found = [_limit(circuit) for circuit in order[:_MOST_LIMITS]]
    if len(order) > _MOST_LIMITS:
        text = f"{len(order) - _MOST_LIMITS} more circuits have limits: slurm-power status shows them."
        found.append(PolicyLine(topic="limits", text=text))
    return tuple(found)


def _limit(circuit: Circuit) -> PolicyLine:
    why = "a breaker's" if circuit.limit_kind is LimitKind.SAFETY else "for money"
    return PolicyLine(
        topic="limits",
        text=f"{circuit.name} may draw {kilowatts_text(circuit.ceiling_watts)} ({why}).",
        values={
            f"circuit.{circuit.name}.limit_watts": circuit.limit_watts,
            f"circuit.{circuit.name}.rating_watts": circuit.rating_watts,
            f"circuit.{circuit.name}.limit_kind": circuit.limit_kind.value,
        },
    )


def _percent(ratio: float) -> str:
    return f"{100.0 * ratio:.3g} %"


def _time(seconds: float) -> str:
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
