"""Model tiers in one plan: running jobs and services are ranked together, against what caps would cost."""

from slurm_power.model.action import ChangeTier, SwitchService
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.lasting_needs import Need, lasting_needs
from slurm_power.plan.loads import LoadTable
from slurm_power.plan.policy import Policy
from slurm_power.plan.services import ServiceChoices, plan_services
from slurm_power.plan.slow_levers import Offer, Taken, taken_offers
from slurm_power.plan.tier_moves import MovableJobs, less_relief, move_actions, moves_on_their_way


def plan_tiers(
    snapshot: Snapshot, table: LoadTable, policy: Policy, *, begin: bool
) -> tuple[ChangeTier | SwitchService, ...]:
    """Moves of running jobs to begin, and the tiers that services are to serve with.

    Without ``begin`` what stands is renewed. Costs nothing at a site without a catalog.
    """
    if not snapshot.catalog.families and not snapshot.service_leases:
        return ()
    if not begin:
        return plan_services(snapshot, table, policy, None)
    taken = chosen_tiers(snapshot, table, policy)
    return (*plan_services(snapshot, table, policy, taken), *move_actions(taken))


def chosen_tiers(snapshot: Snapshot, table: LoadTable, policy: Policy) -> tuple[Taken, ...]:
    """What is taken for the needs that last, of jobs and services; some of it is not due yet."""
    needs, movable, services = tier_needs(snapshot, table, policy)
    if not needs:
        return ()

    def offers(need: Need) -> list[Offer]:
        return [*services.offers(need), *movable.offers(need)]

    most = max(0, policy.tier_moves_at_once - moves_on_their_way(snapshot))
    return taken_offers(needs, offers, CapColumns(snapshot, table, policy), policy, most=most)


def tier_needs(
    snapshot: Snapshot, table: LoadTable, policy: Policy, *, pending: bool = False
) -> tuple[tuple[Need, ...], MovableJobs, ServiceChoices]:
    """The needs that moves could serve, less what is on its way; and who could be moved.

    ``pending``: they are wanted for waiting jobs, even where nobody who runs could be moved.
    """
    movable, services = MovableJobs(snapshot, table, policy), ServiceChoices(snapshot, table, policy)
    if not policy.tier_moves or not (pending or services.standing or movable.rows()):
        return (), movable, services
    lead = max(policy.tier_move_lead_seconds, services.lead_seconds)
    needs = lasting_needs(snapshot, table, policy, lead_seconds=lead)
    for relief in (movable.on_its_way_watts(), services.on_its_way_watts()) if needs else ():
        needs = less_relief(needs, relief)
    return needs, movable, services
