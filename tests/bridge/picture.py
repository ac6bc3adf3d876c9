"""A picture as op `live` gives it, of a site where all is well, and its layout."""

from typing import Any

from slurm_power.bridge.alert_sources import Layout

LAYOUT = Layout(
    parents={"grid": None, "hall": "grid", "rack1": "hall", "rack2": "hall"},
    circuits={"c1": "rack1", "c2": "rack1", "c3": "rack2", "c4": "rack2"},
    meters={"grid": "meter", "hall": "hall-meter", "rack1": "pdu1", "rack2": "pdu2"},
    places={"meter": "meter.lan", "hall-meter": "gateway.lan", "pdu1": "gateway.lan", "pdu2": "pdu2.lan"},
    ceilings_watts={"grid": 32_000.0, "hall": 30_000.0, "rack1": 16_000.0, "rack2": 16_000.0},
)


def risk(danger: str, circuit: str, watts: float | None, in_seconds: float = 0.0, reason: str = "why") -> Any:
    """One of `standing.risks`."""
    text = f"{circuit} is {danger}"
    row = {"danger": danger, "circuit": circuit, "watts": watts, "in_seconds": in_seconds}
    return {**row, "reason": reason, "text": text}


def bad(source: str, measures: str, quality: str, reason: str) -> dict[str, Any]:
    """One of `sources.bad`."""
    row = {"source": source, "measures": measures, "quality": quality, "reason": reason}
    return {**row, "watts": None, "age_seconds": 9.0, "coverage_ratio": 0.5, "residual_watts": None}


def event(event_id: str = "ev-1", **changes: Any) -> dict[str, Any]:
    """One of `events`, running."""
    row = {"event_id": event_id, "circuit": "grid", "limit_watts": 20_000.0, "commitment": "must"}
    return {**row, "starts_in_seconds": -5.0, "ends_in_seconds": 600.0, "reason": "call", **changes}


def ess(**changes: Any) -> dict[str, Any]:
    """One of `ess`, doing as it is told."""
    row = {"name": "battery", "circuit": "grid", "discharge_watts": 4000.0, "setpoint_watts": 4000.0}
    row |= {"max_charge_watts": 8000.0, "max_discharge_watts": 8000.0, "soc_ratio": 0.6, "alarms": []}
    return {**row, "quality": "good", **changes}


def picture(
    *,
    risks: tuple[Any, ...] = (),
    sources: tuple[Any, ...] = (),
    leases: dict[str, int] | None = None,
    levers: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The site at a glance."""
    return {
        "at": "2026-01-02T03:04:05+00:00",
        "site": "lab",
        "mode": "control",
        "paused_until": None,
        "standing": {"safe": not risks, "headline": "...", "circuit": "grid", "risks": list(risks)},
        "circuits": [],
        "ess": [ess()],
        "events": [],
        "sources": {"good": 9, "questionable": 0, "invalid": 0, "bad": list(sources)},
        "leases": {"count": 8, "unrenewed": 0, "drifting": 0, **(leases or {})},
        "levers": {"ess_usable": True, "exhausted": False, "reason": "", **(levers or {})},
        "forecast": {"worker": "running", "beaten_by_naive": False, "skill_ratio": 0.1},
        **changes,
    }
