"""Choose among the levers that take minutes: model tiers of jobs and of services, ranked together.

Each is taken whole. One is taken as long as the watts that it saves of what is still missing would cost
more by caps than by it; what it saves beyond that counts for nothing, so no more is taken than is needed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.cap_supply import CapSupply
from slurm_power.plan.lasting_needs import Need
from slurm_power.plan.policy import Policy

# So much cheaper than caps a lever must be before it is begun: prices move with the noise of a draw.
_CLEARLY_CHEAPER = 1.1
# Exactly compared are so many jobs, and so many services: the cheapest per watt.
_MOST_COMPARED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one lever would save on each circuit, and what it costs in an hour.

    ``rows`` are the placed jobs whose watts it takes: no cap can take them again. ``lead_seconds``: it is
    begun so long before it is needed. ``counted``: it is one of those that only so many are begun at once.
    ``word`` is what it does, for who asks and for who begins it.
    """

    subject: str
    tier: str
    gpu_count: int
    saved_watts: dict[str, float]
    money_per_hour: float
    work_gpu_hours_per_hour: float
    lead_seconds: float
    word: str
    rows: frozenset[int] = field(default_factory=frozenset)
    counted: bool = False
    booked_watts: float = 0.0

    def money_per_kwh(self, circuit: str) -> float:
        """Its price at a circuit."""
        return 1000.0 * self.money_per_hour / max(self.saved_watts.get(circuit, 0.0), 1e-9)


@dataclass(frozen=True, slots=True)
class Taken:
    """An offer that was taken for a need; ``due`` once it is to be begun."""

    need: Need
    offer: Offer

    @property
    def due(self) -> bool:
        """Whether it is time: before that it only keeps another from being taken."""
        return self.need.starts_in_seconds <= self.offer.lead_seconds

    @property
    def saved_watts(self) -> float:
        """What the circuit in need sees of it."""
        return self.offer.saved_watts[self.need.circuit]


def taken_offers(
    needs: Sequence[Need],
    offers_for: Callable[[Need], Iterable[Offer]],
    columns: CapColumns,
    policy: Policy,
    *,
    most: int,
) -> tuple[Taken, ...]:
    """The offers to take for the needs, of each subject one at the most, of the ``counted`` ``most``."""
    taken: list[Taken] = []
    for need in needs:
        name = need.circuit
        offers = [one for one in offers_for(need) if one.saved_watts.get(name, 0.0) > 0.0]
        offers.sort(key=lambda one: (one.money_per_kwh(name), one.subject, one.tier))
        supply = CapSupply(columns, name, policy, urgent=need.urgent)
        offers = [
            one
            for counted in (True, False)
            for one in [offer for offer in offers if offer.counted is counted][:_MOST_COMPARED]
        ]
        while True:
            left = need.watts - sum(one.offer.saved_watts.get(name, 0.0) for one in taken)
            spent = frozenset(row for one in taken for row in one.offer.rows)
            full = sum(one.offer.counted for one in taken) >= most
            done = {one.offer.subject for one in taken}
            able = [one for one in offers if one.subject not in done and not (full and one.counted)]
            # Of those that are not counted one is begun in a plan: what comes after that comes with the next.
            begun = any(one.due and not one.offer.counted for one in taken)
            if left <= 0.0 or not able or (begun and not any(one.counted for one in able)):
                break
            by_caps = supply.cost_per_hour(left, spent)
            gains = [
                by_caps
                - supply.cost_per_hour(left - one.saved_watts[name], spent | one.rows)
                - _CLEARLY_CHEAPER * one.money_per_hour
                for one in able
            ]
            best = max(range(len(able)), key=lambda place: (gains[place], -place))
            if gains[best] <= 0.0:
                break
            taken.append(Taken(need, able[best]))
    return tuple(taken)
