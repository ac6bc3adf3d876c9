"""The site as reports need it, kept beside the ledger: a report is made from the state directory alone."""

from slurm_power.config.site import SiteConfig
from slurm_power.ports import Records
from slurm_power.report.site_facts import SITE_KEY


def keep_site(store: Records, config: SiteConfig) -> None:
    """Remember the site as it is now, if that is new."""
    found = site_document(config)
    if store.state(SITE_KEY) != found:
        store.put_state(SITE_KEY, found)


def site_document(config: SiteConfig) -> dict[str, object]:
    """Circuits, batteries, time zone and currency, and what a second of waiting counts of a lost one."""
    policy, site = config.policy, config.site
    worth = policy.value_per_gpu_hour
    return {
        "name": site.name,
        "timezone": str(config.zone),
        "circuits": {
            circuit.name: {
                "parent": circuit.parent,
                "metered": circuit.meter is not None,
                "nodes": list(circuit.nodes),
            }
            for circuit in site.circuits.values()
        },
        "ess": {ess.name: ess.circuit for ess in site.ess.values()},
        "currency": config.supply.currency or "",
        "wait_lost_ratio": min(1.0, policy.delay_price_per_gpu_hour / worth) if worth > 0.0 else 1.0,
    }
