"""From powerctld's picture, and what the bridge sees itself, to what somebody should know: pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slurm_power.bridge.alert_sources import Layout, source_findings
from slurm_power.bridge.loose import number, rows, table, words
from slurm_power.model.alert import Finding, Severity
from slurm_power.model.units import kilowatts_text

# Less than this ahead somebody has to get up; with more there is time.
_SOON_SECONDS = 900.0
_LAST_DAY_SECONDS = 86_400.0
# Below this share of the bound for the first word, a disk will be full before anybody has read it.
_HARDLY_FREE_RATIO = 0.2
# What has been told ends a little beyond where it began, so that a value on the edge does not flap.
_ENDS_BEYOND_RATIO = 1.2
_LEAST_FOLLOW_WATTS = 100.0
_DELIVERED_RATIO = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Where some rules begin; see ``[alerts]``. ``controls``: by its policy the site is more than watched."""

    disk_free_ratio: float = 0.05
    certificate_days: float = 14.0
    follow_ratio: float = 0.1
    controls: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What the bridge sees without the picture.

    ``silent_reason``: why powerctld does not answer, "" if it does. ``free_ratios`` of disks by path;
    ``certificate_seconds`` left by file; ``faults`` of stores by name; ``delivered_ratios`` of promised
    events that ended in the last hour; ``failing``: by channel of delivery, why.
    """

    silent_reason: str = ""
    free_ratios: Mapping[str, float] = field(default_factory=dict)
    certificate_seconds: Mapping[str, float] = field(default_factory=dict)
    ledger_broken_at: int | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    delivered_ratios: Mapping[str, float] = field(default_factory=dict)
    failing: Mapping[str, str] = field(default_factory=dict)


def find(
    picture: Mapping[str, Any] | None,
    beside: Beside,
    layout: Layout,
    *,
    thresholds: Thresholds,
    firing: frozenset[str] = frozenset(),
) -> list[Finding]:
    """Everything that is wrong now, each cause once. ``picture`` None: powerctld is silent.

    ``firing``: ids of the alerts that have been told; for those the bounds lie a little further.
    """
    found = [*_by_the_bridge(beside, thresholds, firing)]
    if picture is None:
        return found
    standing = table(picture, "standing")
    risks = rows(standing, "risks")
    unmeasured = frozenset(words(risk, "circuit") for risk in risks if risk.get("danger") == "unmeasured")
    unrenewed = int(number(table(picture, "leases"), "unrenewed") or 0)
    dead, explained = source_findings(
        rows(table(picture, "sources"), "bad"), layout, unmeasured=unmeasured, unrenewed=unrenewed
    )
    limits = _risks(picture, risks, layout, explained)
    found += dead
    found += limits
    found += _levers(picture, alone=not limits)
    found += _leases(picture, unrenewed, explained_by=dead)
    found += _batteries(picture, thresholds, firing)
    found += _forecast(picture)
    found += _mode(picture) if thresholds.controls else []
    found += _records(beside)
    return found


def _by_the_bridge(beside: Beside, thresholds: Thresholds, firing: frozenset[str]) -> list[Finding]:
    found = []
    if beside.silent_reason:
        found.append(
            Finding(
                rule="powerctld_silent",
                cause="powerctld",
                summary=f"powerctld does not answer: {beside.silent_reason}",
                what_to_do="Look at its journal and start it. Caps and setpoints run out meanwhile.",
            )
        )
    for path, free_ratio in beside.free_ratios.items():
        bound = thresholds.disk_free_ratio * _beyond(f"disk_full:{path}", firing)
        if free_ratio < bound:
            hardly = free_ratio < _HARDLY_FREE_RATIO * thresholds.disk_free_ratio
            found.append(
                Finding(
                    rule="disk_full",
                    cause=path,
                    summary=f"{100 * free_ratio:.1f} % of the disk of {path} is free",
                    what_to_do="Make room, or lower disk_budget_bytes in [store].",
                    severity=Severity.PAGE if hardly else None,
                    labels={"path": path},
                )
            )
    for name, seconds in beside.certificate_seconds.items():
        bound = thresholds.certificate_days * 86_400.0 * _beyond(f"certificate_expiring:{name}", firing)
        if seconds < bound:
            left = "has ended" if seconds <= 0.0 else f"ends in {seconds / 86_400.0:.1f} days"
            found.append(
                Finding(
                    rule="certificate_expiring",
                    cause=name,
                    summary=f"{name} {left}",
                    what_to_do="Make a new one before nodes can no longer connect.",
                    severity=Severity.PAGE if seconds < _LAST_DAY_SECONDS else None,
                    labels={"certificate": name},
                )
            )
    for channel, why in beside.failing.items():
        found.append(
            Finding(
                rule="delivery_failing",
                cause=channel,
                summary=f"alerts do not get out by {channel}: {why}",
                what_to_do="Correct it, then try `slurm-power alerts test`.",
                labels={"channel": channel},
            )
        )
    return found


def _risks(
    picture: Mapping[str, Any], risks: list[Mapping[str, Any]], layout: Layout, explained: frozenset[str]
) -> list[Finding]:
    """Limits at risk, and events that are not kept: an event that is missed is no second alert."""
    found: list[Finding] = []
    told: dict[str, list[str]] = {}
    chief: dict[str, Mapping[str, Any]] = {}
    named = {words(risk, "circuit"): risk for risk in risks if words(risk, "circuit") not in explained}
    for circuit, risk in named.items():
        # What a feeder lacks, its racks lack too: the uppermost of them is the cause.
        upper = [
            name for name in layout.above(circuit)[1:] if name in named and _same_kind(named[name], risk)
        ]
        told.setdefault(upper[-1] if upper else circuit, []).append(words(risk, "text"))
        if not upper:
            chief[circuit] = risk
    for circuit, risk in chief.items():
        text, reason = words(risk, "text") or f"{circuit} is at risk", words(risk, "reason")
        summary = f"{text}: {reason}" if reason else text
        lead_seconds = number(risk, "in_seconds") or 0.0
        effects = [line for line in told.get(circuit, []) if line != words(risk, "text")]
        effects += _exhausted_words(picture)
        event = _event_of(picture, circuit, risk, layout)
        later = lead_seconds >= _SOON_SECONDS
        details = {"danger": words(risk, "danger"), "lead_seconds": f"{lead_seconds:.0f}"}
        if event is not None:
            firm = words(event, "commitment") == "must"
            event_id = words(event, "event_id")
            found.append(
                Finding(
                    rule="event_undelivered",
                    cause=event_id,
                    summary=f"event {event_id}: {summary}",
                    what_to_do="Give room by hand, or tell the utility what will be missing.",
                    severity=Severity.INFO if not firm else Severity.WARN if later else None,
                    effects=tuple(effects),
                    labels={"circuit": circuit, "event": event_id},
                    details=details,
                    covers=(f"limit_at_risk:{circuit}",),
                )
            )
            continue
        found.append(
            Finding(
                rule="limit_at_risk",
                cause=circuit,
                summary=summary,
                what_to_do=_limit_advice(picture, circuit, risk),
                severity=Severity.WARN if later else None,
                effects=tuple(effects),
                labels={"circuit": circuit},
                details=details,
                covers=tuple(f"limit_at_risk:{name}" for name in named if circuit in layout.above(name)[1:]),
            )
        )
    return found


def _same_kind(risk: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (risk.get("danger") == "unmeasured") == (other.get("danger") == "unmeasured")


def _limit_advice(picture: Mapping[str, Any], circuit: str, risk: Mapping[str, Any]) -> str:
    if risk.get("danger") == "unmeasured":
        return f"Look at the meter of {circuit}; until it answers the circuit counts as full."
    if picture.get("mode") != "control":
        return "Nothing is controlled: `slurm-power control on`, or lower the load by hand."
    return "`slurm-power plan` says what holds it and what is left; hold or end jobs by hand if need be."


def _event_of(
    picture: Mapping[str, Any], circuit: str, risk: Mapping[str, Any], layout: Layout
) -> Mapping[str, Any] | None:
    """The event whose level is what is exceeded; None where the circuit's own limit is exceeded too."""
    above_watts = number(risk, "watts")
    if above_watts is None:
        return None
    lead_seconds = number(risk, "in_seconds") or 0.0
    ceiling_watts = layout.ceilings_watts.get(circuit)
    for event in rows(picture, "events"):
        starts, ends, level = (
            number(event, key) for key in ("starts_in_seconds", "ends_in_seconds", "limit_watts")
        )
        if words(event, "circuit") != circuit or starts is None or ends is None or level is None:
            continue
        if words(event, "commitment") == "limit" or not starts <= lead_seconds < ends:
            continue
        if ceiling_watts is None or level + above_watts <= ceiling_watts:
            return event
    return None


def _exhausted_words(picture: Mapping[str, Any]) -> list[str]:
    levers = table(picture, "levers")
    if levers.get("exhausted") is not True:
        return []
    return [f"no lever is left: {words(levers, 'reason') or 'nothing more can be lowered'}"]


def _levers(picture: Mapping[str, Any], *, alone: bool) -> list[Finding]:
    """Nothing is left while no limit is at risk yet; with one at risk that alert says it."""
    said = _exhausted_words(picture)
    if not said or not alone:
        return []
    return [
        Finding(
            rule="levers_exhausted",
            cause="site",
            summary=said[0],
            what_to_do="Make room before more starts: hold jobs, or postpone what is coming.",
        )
    ]


def _leases(picture: Mapping[str, Any], unrenewed: int, *, explained_by: list[Finding]) -> list[Finding]:
    found = []
    drifting = int(number(table(picture, "leases"), "drifting") or 0)
    if drifting:
        found.append(
            Finding(
                rule="cap_drift",
                cause="site",
                summary=f"{drifting} GPUs do not keep the cap that was set: somebody else changes it",
                what_to_do="`slurm-power ledger --since 10m` names the GPUs; find who sets limits there.",
            )
        )
    silent = any(finding.cause.startswith(("node:", "nodes:")) for finding in explained_by)
    if unrenewed and not silent:
        found.append(
            Finding(
                rule="lease_unrenewed",
                cause="site",
                summary=f"{unrenewed} leases run out without being renewed",
                what_to_do="Look whether nodes and powerctld hear each other; GPUs go back to before.",
            )
        )
    return found


def _batteries(picture: Mapping[str, Any], thresholds: Thresholds, firing: frozenset[str]) -> list[Finding]:
    found = []
    for ess in rows(picture, "ess"):
        name = words(ess, "name")
        told, does = number(ess, "setpoint_watts"), number(ess, "discharge_watts")
        if not name or told is None or does is None or words(ess, "quality") != "good":
            continue
        most = max(number(ess, "max_discharge_watts") or 0.0, number(ess, "max_charge_watts") or 0.0)
        bound = max(thresholds.follow_ratio * most, _LEAST_FOLLOW_WATTS)
        if abs(told - does) <= bound / _beyond(f"ess_not_following:{name}", firing):
            continue
        found.append(
            Finding(
                rule="ess_not_following",
                cause=name,
                summary=f"{name} was told {_power(told)} and does {_power(does)}",
                what_to_do="Look at its panel: local operation, alarms, an empty or full battery.",
                effects=tuple(f"alarm: {alarm}" for alarm in _texts(ess.get("alarms"))),
                labels={"ess": name},
            )
        )
    return found


def _forecast(picture: Mapping[str, Any]) -> list[Finding]:
    forecast = table(picture, "forecast")
    if forecast.get("beaten_by_naive") is not True:
        return []
    skill = number(forecast, "skill_ratio")
    by = "" if skill is None else f" (skill {skill:.2f})"
    return [
        Finding(
            rule="forecast_beaten",
            cause="forecast",
            summary=f"a naive forecast is better than ours{by}",
            what_to_do="`slurm-power forecast` says who makes it; look for a change of the load.",
        )
    ]


def _mode(picture: Mapping[str, Any]) -> list[Finding]:
    if picture.get("mode") != "off":
        return []
    until = words(picture, "paused_until")
    return [
        Finding(
            rule="control_paused",
            cause="control",
            summary="the site is only watched, nothing is controlled" + (f", until {until}" if until else ""),
            what_to_do="`slurm-power control on`, unless that is meant.",
        )
    ]


def _records(beside: Beside) -> list[Finding]:
    found = []
    if beside.ledger_broken_at is not None:
        found.append(
            Finding(
                rule="ledger_broken",
                cause="ledger",
                summary=f"ledger entry {beside.ledger_broken_at} does not follow from its past",
                what_to_do="Copy the state directory away before anything else; somebody has altered it.",
            )
        )
    for name, why in beside.faults.items():
        found.append(
            Finding(
                rule="store_fault",
                cause=name,
                summary=f"{name}: {why}",
                what_to_do="See to the disk or the database; powerctld goes on and writes again by itself.",
                labels={"store": name},
            )
        )
    for event_id, ratio in beside.delivered_ratios.items():
        if ratio < _DELIVERED_RATIO:
            found.append(
                Finding(
                    rule="event_undelivered",
                    cause=event_id,
                    summary=f"event {event_id} is over and was delivered to {100 * ratio:.0f} %",
                    what_to_do=f"`slurm-power event-report {event_id}` has what the utility will ask.",
                    severity=Severity.WARN,
                    labels={"event": event_id},
                )
            )
    return found


def _beyond(alert_id: str, firing: frozenset[str]) -> float:
    return _ENDS_BEYOND_RATIO if alert_id in firing else 1.0


def _power(discharge_watts: float) -> str:
    if discharge_watts == 0.0:
        return "rest"
    return f"{'discharge' if discharge_watts > 0.0 else 'charge'} {kilowatts_text(abs(discharge_watts))}"


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list | tuple) else []
