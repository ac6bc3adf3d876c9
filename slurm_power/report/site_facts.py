"""The site as powerctld has left it beside its ledger: circuits, batteries, time zone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from slurm_power.config.supply import zone_named

SITE_KEY = "site"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """What reports need of site.toml. ``parents`` holds every circuit, ``nodes`` the computers fed directly.

    ``wait_lost_ratio``: what a second of being held counts of a lost one.
    """

    name: str
    zone: tzinfo = UTC
    zone_name: str = "UTC"
    parents: Mapping[str, str | None] = field(default_factory=dict)
    metered: frozenset[str] = frozenset()
    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ess: Mapping[str, str] = field(default_factory=dict)
    wait_lost_ratio: float = 1.0
    currency: str = ""

    def meter_of(self, circuit: str | None) -> str | None:
        """The nearest circuit with a meter, itself or above; None without any."""
        while circuit is not None and circuit not in self.metered:
            circuit = self.parents.get(circuit)
        return circuit

    def meter_above(self, circuit: str) -> str | None:
        """The nearest metered circuit above."""
        return self.meter_of(self.parents.get(circuit))


def site_facts(stored: object) -> SiteFacts | None:
    """Take what powerctld has left (or ``site_document``); None where there is none, or it is not ours."""
    if not isinstance(stored, dict):
        return None
    try:
        circuits = dict(stored["circuits"])
        zone_name = str(stored["timezone"])
        return SiteFacts(
            name=str(stored["name"]),
            zone=zone_named(zone_name) or UTC,
            zone_name=zone_name,
            parents={name: circuit["parent"] for name, circuit in circuits.items()},
            metered=frozenset(name for name, circuit in circuits.items() if circuit["metered"]),
            nodes={name: tuple(circuit["nodes"]) for name, circuit in circuits.items()},
            ess=dict(stored["ess"]),
            wait_lost_ratio=float(stored["wait_lost_ratio"]),
            currency=str(stored.get("currency", "")),  # an older powerctld has not written it
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
