"""Which tier each service is to serve with: a lighter one for what lasts, its own where there is room.

One service is asked for another tier in one plan, so that the next one sees what that has booked; and none
again before it has stood a while.
"""

from slurm_power.model.action import SwitchService
from slurm_power.model.service import BackendState, Service
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Tier, lighter_choices
from slurm_power.plan.lasting_needs import Need, lasting_needs, natural_watts
from slurm_power.plan.loads import LoadTable, added_watts, load_table, tier_watts, worst_factor
from slurm_power.plan.overlaps import Overlaps, Standing, booked_watts, overlap_room, standing
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import JobWeights, quality_loss_ratio, tier_work_per_hour
from slurm_power.plan.slow_levers import Offer, Taken

__all__ = ["ServiceChoices", "overlap_room", "plan_services"]

# A tier must be able to carry so much more than is asked of the service now.
_SPARE_CAPACITY = 1.2
# From its start a tier needs so long to take over all requests, before the old one can go.
_DRAIN_SECONDS = 60.0


class ServiceChoices:
    """The services of one snapshot as they could be switched."""

    def __init__(self, snapshot: Snapshot, table: LoadTable, policy: Policy) -> None:
        self._snapshot, self._table, self._policy = snapshot, table, policy
        self._weights = JobWeights(snapshot, policy)
        self._overlaps = Overlaps(snapshot, policy)
        found = [standing(snapshot, service) for _, service in sorted(snapshot.services.items())]
        self.standing = [one for one in found if one is not None]

    @property
    def lead_seconds(self) -> float:
        """How long before it is needed a switch is to begin."""
        return self._policy.service_start_seconds + _DRAIN_SECONDS

    def offers(self, need: Need) -> list[Offer]:
        """What each service that may be switched for a need could give, an offer for each tier."""
        return [
            offer for one in self.standing if not self.why_not(one) for offer in self.offers_of(one, need)
        ]

    def offers_of(self, one: Standing, need: Need) -> list[Offer]:
        """The lighter tiers of one service that there is room for beside what serves now."""
        return [
            self._offer(one, tier, need)
            for tier in self.lighter(one)
            if self._overlaps.missing_watts(one.service, tier.name) == 0.0
        ]

    def why_not(self, one: Standing) -> str:
        """Why a service cannot be asked for another tier now; empty where it can."""
        lease = self._snapshot.service_leases.get(one.service.name)
        if one.switching:
            return "is being switched"
        if lease is not None and lease.asked_seconds_ago < self._policy.service_dwell_seconds:
            return "was switched a while ago"
        return ""

    def lighter(self, one: Standing) -> tuple[Tier, ...]:
        """The tiers lighter than the one it is to serve with that are allowed and can carry its requests."""
        service, now = one.service, one.wanted.watts
        found = lighter_choices(
            one.family, current=one.full.name, allowed=service.tiers_ok, min_quality=service.min_quality
        )
        return tuple(
            tier
            for tier in found
            if now is not None and tier.watts is not None and tier.watts < now and _carries(service, tier)
        )

    def saved_watts(self, one: Standing, tier: Tier) -> dict[str, float]:
        """What each circuit sees less of a service once ``tier`` serves in place of the one that does now.

        The new one may come behind any circuit, so all of it counts everywhere.
        """
        snapshot, policy = self._snapshot, self._policy
        found: dict[str, float] = {}
        rows, losses = self.rows(one), worst_factor(snapshot.site)
        for row in rows:
            each = added_watts(float(self._table.uncapped_watts[row]), policy)
            for name, weight in self._table.placed.circuit_weights(row, snapshot.site).items():
                found[name] = found.get(name, 0.0) + weight * each
        if not rows:
            found[snapshot.site.root.name] = tier_watts(one.serving, policy) * losses
        new = tier_watts(tier, policy) * losses
        return {name: max(0.0, watts - new) for name, watts in found.items()}

    def rows(self, one: Standing) -> list[int]:
        """The placed jobs that serve for it."""
        return [
            row
            for backend in one.service.backends
            if backend.tier == one.serving.name and backend.state is not BackendState.STOPPED
            if (row := self._table.placed.row.get(backend.job_id)) is not None
        ]

    def on_its_way_watts(self) -> dict[str, float]:
        """What switches to lighter tiers that are not over yet will still take off each circuit."""
        found = dict.fromkeys(self._snapshot.site.circuits, 0.0)
        for one in self.standing:
            if one.serving.name == one.wanted.name:
                continue
            for name, watts in self.saved_watts(one, one.wanted).items():
                found[name] += watts
        return found

    def _offer(self, one: Standing, tier: Tier, need: Need) -> Offer:
        policy, service = self._policy, one.service
        loss = quality_loss_ratio(one.family, one.full, tier)
        loss -= quality_loss_ratio(one.family, one.full, one.wanted)
        lasts = need.lasts_seconds
        work = _busy_ratio(service, one.full) * tier_work_per_hour(
            float(one.full.gpu_count),
            quality_weight=policy.quality_weight,
            quality_loss=max(0.0, loss),
            slowdown=0.0,
            cost_seconds=0.0,
            lasts_seconds=lasts,
            rest_seconds=lasts,
        )
        # For the time of the overlap the new tier's GPUs are nobody else's.
        work += tier.gpu_count * policy.service_start_seconds / max(lasts, 1.0)
        work *= self._weights.account_weight(service.account)
        debt = max(self._weights.user_factor(service.user), self._weights.account_factor(service.account))
        quality = "" if tier.quality is None else f" ({one.family.metric} {tier.quality.value:g})"
        return Offer(
            subject=service.name,
            tier=tier.name,
            gpu_count=tier.gpu_count,
            saved_watts=self.saved_watts(one, tier),
            money_per_hour=work * policy.value_per_gpu_hour * debt,
            work_gpu_hours_per_hour=work,
            lead_seconds=self.lead_seconds,
            word=f"it serves with {tier.name}{quality} on {tier.gpu_count} GPUs meanwhile",
            rows=frozenset(self.rows(one)),
            booked_watts=tier_watts(tier, policy),
        )


def plan_services(
    snapshot: Snapshot, table: LoadTable, policy: Policy, taken: tuple[Taken, ...] | None
) -> tuple[SwitchService, ...]:
    """The tiers that services are to serve with: what stands is renewed, ended, or changed by ``taken``.

    Without ``taken`` what stands is only renewed.
    """
    if not snapshot.services and not snapshot.service_leases:
        return ()
    found = []
    due = [one for one in taken or () if not one.offer.counted and one.due]
    chosen = {one.offer.subject: one for one in due[:1]}
    may_go_back = taken is not None and not chosen
    for name, service in sorted(snapshot.services.items()):
        one, lease = standing(snapshot, service), snapshot.service_leases.get(name)
        new = chosen.get(name)
        if new is not None:
            reason = f"{new.need.why()}: {new.offer.word}"
            found.append(
                SwitchService(
                    service=name,
                    tier=new.offer.tier,
                    kind=new.need.kind,
                    reason=reason,
                    saved_watts=new.saved_watts,
                    booked_watts=new.offer.booked_watts,
                )
            )
            continue
        if lease is None:
            continue
        why = _why_not_longer(one, policy)
        if not why and may_go_back and one is not None and _back_fits(snapshot, one, table, policy):
            why, may_go_back = "there is room for its own tier again", False
        if why:
            booked = 0.0 if one is None else tier_watts(one.full, policy)
            found.append(
                SwitchService(service=name, tier=None, kind=lease.kind, reason=why, booked_watts=booked)
            )
            continue
        found.append(
            SwitchService(
                service=name,
                tier=lease.tier,
                kind=lease.kind,
                reason="it stays on its lighter tier",
                booked_watts=0.0 if one is None else booked_watts(one, table, policy),
            )
        )
    return tuple(found)


def _why_not_longer(one: Standing | None, policy: Policy) -> str:
    if not policy.tier_moves:
        return "the site moves services no longer"
    if one is not None and not _still_allowed(one):
        return "its owner no longer consents to that tier, or the catalog refuses it"
    return ""


def _still_allowed(one: Standing) -> bool:
    service = one.service
    allowed = lighter_choices(
        one.family, current=one.full.name, allowed=service.tiers_ok, min_quality=service.min_quality
    )
    return one.wanted.name == one.full.name or any(tier.name == one.wanted.name for tier in allowed)


def _back_fits(snapshot: Snapshot, one: Standing, table: LoadTable, policy: Policy) -> bool:
    """Whether its own tier fits beside the light one, nothing capped and nothing ahead."""
    lease = snapshot.service_leases[one.service.name]
    if one.switching or lease.asked_seconds_ago < policy.service_dwell_seconds:
        return False
    lead = policy.service_start_seconds + policy.service_dwell_seconds
    if lasting_needs(snapshot, table, policy, lead_seconds=lead) or _ahead_short(snapshot, one, policy, lead):
        return False
    room = overlap_room(snapshot, policy, one.service, one.full.name, spare_ratio=policy.release_margin_ratio)
    return room == 0.0


def _ahead_short(snapshot: Snapshot, one: Standing, policy: Policy, lead: float) -> bool:
    """Whether an event that is near would need the light tier again."""
    natural = natural_watts(snapshot, load_table(snapshot, policy), policy)
    more = tier_watts(one.full, policy) - tier_watts(one.serving, policy)
    for event in snapshot.events:
        watts = natural[event.circuit]
        ceiling = snapshot.site.circuits[event.circuit].ceiling_watts
        low = event.lowest_within(lead, ceiling)
        if watts is None or watts + more * worst_factor(snapshot.site) > low * (1.0 - policy.margin_ratio):
            return True
    return False


def _carries(service: Service, tier: Tier) -> bool:
    """Whether a tier is fast enough for what is asked of the service; so it is where nobody knows."""
    if service.requests_per_second is None or tier.items_per_second is None:
        return True
    return tier.items_per_second >= _SPARE_CAPACITY * service.requests_per_second


def _busy_ratio(service: Service, full: Tier) -> float:
    """The share of its own tier's speed that is asked of a service; 1.0 where nobody knows."""
    if service.requests_per_second is None or not full.items_per_second:
        return 1.0
    return min(1.0, service.requests_per_second / full.items_per_second)
