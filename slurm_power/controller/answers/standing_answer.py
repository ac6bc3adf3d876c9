"""How the site stands, as every picture of it begins: worked out from a snapshot, and as JSON."""

from typing import TYPE_CHECKING, Any

from slurm_power.model.forecast import CircuitForecast, Reach
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.standing import Standing
from slurm_power.plan.standing import site_standing

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller


def standing_of(controller: "Controller", snapshot: Snapshot) -> Standing:
    """Judge a snapshot with the last plan; where nothing is controlled, with the near forecasts as well."""
    controls = controller.mode == "control"
    return site_standing(
        snapshot,
        controller.plan.shortfalls,
        controls=controls,
        forecasts=None if controls else near_forecasts(controller, snapshot.at.timestamp()),
    )


def near_forecasts(controller: "Controller", at_seconds: float) -> dict[str, CircuitForecast]:
    """What the worker has said of the next hour; of the grid connection at least what a naive one says."""
    desk = controller.forecasts
    names = {said.circuit for said in desk.said() if said.reach is Reach.NEAR}
    names.add(controller.config.site.root.name)
    found = ((name, desk.forecast(name, Reach.NEAR, at_seconds)) for name in sorted(names))
    return {name: each for name, each in found if each is not None}


def standing_row(standing: Standing) -> dict[str, Any]:
    """A standing with its words."""
    return {
        "safe": standing.safe,
        "word": standing.word,
        "headline": standing.headline,
        "circuit": standing.circuit,
        "watts": standing.watts,
        "limit_watts": standing.limit_watts,
        "margin_watts": standing.margin_watts,
        "tightest": standing.tightest,
        "tightest_watts": standing.tightest_watts,
        "risks": [
            {
                "danger": risk.danger.value,
                "circuit": risk.circuit,
                "watts": risk.watts,
                "in_seconds": risk.in_seconds,
                "reason": risk.reason,
                "text": risk.text,
            }
            for risk in standing.risks
        ],
    }
