"""Alerts: which there are, how grave each is, and how long each must last before anybody is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How soon somebody has to look; the gravest first."""

    PAGE = "page"
    """Now, at night too."""
    WARN = "warn"
    """Today."""
    INFO = "info"
    """When there is time."""

    @property
    def rank(self) -> int:
        """0 is the gravest."""
        return list(Severity).index(self)

    def reaches(self, least: "Severity") -> bool:
        """Whether it is at least as grave as ``least``."""
        return self.rank <= least.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One kind of alert.

    It fires once its cause was seen for ``for_seconds``, ends once it was unseen for ``keep_seconds``, and
    does not fire again within ``repeat_seconds`` of its last firing. ``needs_picture``: without powerctld's
    answer nothing is known of it, so that it neither fires nor ends then.
    """

    name: str
    severity: Severity
    for_seconds: float
    keep_seconds: float
    repeat_seconds: float
    meaning: str
    off: bool = False
    needs_picture: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One cause, as it is seen now.

    ``cause`` is the same as long as the cause is: no number that changes stands in it. ``severity`` is for a
    cause that is graver, or less grave, than its rule. ``effects`` say what follows from it. ``labels`` are
    as lasting as the cause, ``details`` may change. ``covers``: ids of alerts that this one explains; those
    are not told beside it.
    """

    rule: str
    cause: str
    summary: str
    what_to_do: str
    severity: Severity | None = None
    effects: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    covers: tuple[str, ...] = ()

    @property
    def alert_id(self) -> str:
        """What the alert is called: rule and cause."""
        return f"{self.rule}:{self.cause}"


def _rule(name: str, severity: Severity, meaning: str, *, seconds: tuple[float, float, float]) -> AlertRule:
    lasting, keep, repeat = seconds
    return AlertRule(
        name=name,
        severity=severity,
        for_seconds=lasting,
        keep_seconds=keep,
        repeat_seconds=repeat,
        meaning=meaning,
        needs_picture=name not in _SEEN_BY_THE_BRIDGE,
    )


_SEEN_BY_THE_BRIDGE = {"powerctld_silent", "disk_full", "certificate_expiring", "delivery_failing"}

_PAGE, _WARN, _INFO = Severity
RULES: Mapping[str, AlertRule] = {
    rule.name: rule
    for rule in (
        _rule("limit_at_risk", _PAGE, "a limit is exceeded, or will be", seconds=(10.0, 60.0, 300.0)),
        _rule(
            "levers_exhausted", _WARN, "nothing is left to lower the draw with", seconds=(30.0, 120.0, 900.0)
        ),
        _rule("event_undelivered", _PAGE, "a promised grid event is not kept", seconds=(20.0, 60.0, 300.0)),
        _rule(
            "dead_source", _WARN, "a meter, node or battery is not to be trusted", seconds=(30.0, 60.0, 600.0)
        ),
        _rule("cap_drift", _WARN, "somebody else changes caps", seconds=(20.0, 120.0, 900.0)),
        _rule("lease_unrenewed", _WARN, "leases run out that should not", seconds=(20.0, 60.0, 900.0)),
        _rule(
            "ess_not_following", _WARN, "a battery does not do what it is told", seconds=(30.0, 60.0, 900.0)
        ),
        _rule(
            "forecast_beaten",
            _INFO,
            "the forecast is worse than a naive one",
            seconds=(3600.0, 3600.0, 86400.0),
        ),
        _rule("ledger_broken", _PAGE, "the ledger was altered", seconds=(0.0, 60.0, 3600.0)),
        _rule(
            "store_fault", _WARN, "the ledger or the series cannot be written", seconds=(30.0, 60.0, 900.0)
        ),
        _rule("control_paused", _WARN, "the site is only watched, for long", seconds=(3600.0, 60.0, 3600.0)),
        _rule("powerctld_silent", _PAGE, "powerctld does not answer", seconds=(20.0, 20.0, 300.0)),
        _rule("disk_full", _WARN, "a disk is nearly full", seconds=(60.0, 300.0, 3600.0)),
        _rule("certificate_expiring", _WARN, "a certificate ends soon", seconds=(60.0, 600.0, 86400.0)),
        _rule("delivery_failing", _WARN, "alerts cannot be delivered", seconds=(60.0, 60.0, 3600.0)),
    )
}
# While the first is told, the others are not: they follow from it, or nothing can be known of them.
INHIBITS: Mapping[str, tuple[str, ...]] = {
    "powerctld_silent": (
        "limit_at_risk",
        "levers_exhausted",
        "event_undelivered",
        "cap_drift",
        "lease_unrenewed",
    ),
}
