"""Which alerts are pending, firing and over: nothing flaps, each cause is told once. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from slurm_power.bridge.loose import number, rows, table, words
from slurm_power.model.alert import RULES, AlertRule, Finding, Severity

VERSION = 1
# What happened between two looks further apart is not known.
_LONGEST_STEP_SECONDS = 120.0
_MOST_EFFECTS = 50


class News(StrEnum):
    """What there is to tell about an alert."""

    FIRING = "firing"
    GRAVER = "graver"
    STILL = "still"
    OVER = "over"


@dataclass(slots=True, kw_only=True)
class Alert:
    """One cause. ``since``: seen first; ``seen``: last; ``fired``: None while it is pending; in seconds.

    ``lasted_seconds``: how long it was seen in all, until it fires. ``told``: somebody has been told that it
    fires, and so will be told of its end.
    """

    alert_id: str
    rule: str
    cause: str
    severity: Severity
    summary: str
    what_to_do: str
    since: float
    seen: float
    effects: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    lasted_seconds: float = 0.0
    fired: float | None = None
    told: bool = False
    reminded: float = 0.0

    def take(self, finding: Finding, severity: Severity) -> bool:
        """Take over what is seen now; whether it has become graver. While it lasts it gets no less grave."""
        self.summary, self.what_to_do = finding.summary, finding.what_to_do
        self.effects = finding.effects[:_MOST_EFFECTS]
        self.labels, self.details = dict(finding.labels), dict(finding.details)
        graver = severity.rank < self.severity.rank
        if graver or self.fired is None:
            self.severity = severity
        return graver


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Nobody is told of an alert, or of all of a rule, until then."""

    until: float
    reason: str
    who: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to tell: ``alert`` as it stood at ``at``. ``remark``: why it is over, if that is special."""

    news: News
    alert: Alert
    at: float
    remark: str = ""

    @classmethod
    def now(cls, alert: Alert, at: float) -> "Notice":
        """Of an alert that fires, without any news."""
        return cls(news=News.FIRING, alert=alert, at=at)


class AlertBook:
    """The alerts of one site. ``remind_seconds`` 0: nobody is reminded."""

    def __init__(
        self,
        rules: Mapping[str, AlertRule],
        inhibits: Mapping[str, tuple[str, ...]],
        *,
        remind_seconds: float = 0.0,
    ) -> None:
        self._rules = rules
        self._inhibits = inhibits
        self._remind_seconds = remind_seconds
        self._alerts: dict[str, Alert] = {}
        self._last_fired: dict[str, float] = {}
        self._last_look: float | None = None
        self.silences: dict[str, Silence] = {}

    @property
    def firing(self) -> list[Alert]:
        """Those that fire, the gravest and then the oldest first."""
        found = [alert for alert in self._alerts.values() if alert.fired is not None]
        return sorted(found, key=lambda alert: (alert.severity.rank, alert.since, alert.alert_id))

    @property
    def firing_ids(self) -> frozenset[str]:
        """Their ids."""
        return frozenset(alert.alert_id for alert in self._alerts.values() if alert.fired is not None)

    def look(self, findings: Iterable[Finding], at: float, *, known: bool = True) -> list[Notice]:
        """Take over what is seen at ``at``, which never goes back; returns what there is to tell.

        ``known`` False: there is no picture, so what needs one is neither there nor gone.
        """
        before = at if self._last_look is None else self._last_look
        frozen_seconds = 0.0 if known else at - before
        self._last_look = at
        self.silences = {key: silence for key, silence in self.silences.items() if silence.until > at}
        found: dict[str, Finding] = {}
        for finding in findings:
            rule = self._rules.get(finding.rule)
            if rule is not None and not rule.off:
                found.setdefault(finding.alert_id, finding)
        notices = []
        for alert_id, finding in found.items():
            notices += self._seen(alert_id, finding, at, before)
        notices += self._covered(found, at)
        notices += self._unseen(found.keys(), at, frozen_seconds)
        return [*notices, *self._told_later(at)]

    def _seen(self, alert_id: str, finding: Finding, at: float, before: float) -> list[Notice]:
        rule = self._rules[finding.rule]
        step = min(at - before, _LONGEST_STEP_SECONDS)
        severity = _severity(rule, finding)
        alert = self._alerts.get(alert_id)
        if alert is None:
            alert = Alert(
                alert_id=alert_id,
                rule=finding.rule,
                cause=finding.cause,
                severity=severity,
                summary=finding.summary,
                what_to_do=finding.what_to_do,
                since=at,
                seen=at,
            )
            self._alerts[alert_id] = alert
        else:
            alert.lasted_seconds += step if alert.seen == before else 0.0
        graver = alert.take(finding, severity)
        alert.seen = at
        if alert.fired is not None:
            if graver and alert.told and not self._quiet(alert):
                return [self._notice(News.GRAVER, alert, at)]
            return []
        last = self._last_fired.get(alert_id)
        if alert.lasted_seconds < rule.for_seconds or (last is not None and at < last + rule.repeat_seconds):
            return []
        alert.fired = at
        self._last_fired[alert_id] = at
        return []

    def _covered(self, found: Mapping[str, Finding], at: float) -> list[Notice]:
        """What another alert explains lasts until that one fires, and is then a part of it."""
        notices = []
        for finding in found.values():
            chief = self._alerts[finding.alert_id]
            for alert_id in finding.covers:
                alert = self._alerts.get(alert_id)
                if alert is None or alert_id in found:
                    continue
                alert.seen = at
                if chief.fired is not None:
                    notices += self._end(alert, at, f"it is now part of {chief.alert_id}")
        return notices

    def _unseen(self, seen: Iterable[str], at: float, frozen_seconds: float) -> list[Notice]:
        notices = []
        for alert in [alert for alert_id, alert in self._alerts.items() if alert_id not in set(seen)]:
            rule = self._rules.get(alert.rule)
            if rule is None or rule.off:
                notices += self._end(alert, at, "its rule was switched off")
                continue
            if rule.needs_picture and frozen_seconds and alert.fired is not None:
                alert.seen = min(at, alert.seen + frozen_seconds)
                continue
            gone_seconds = at - alert.seen
            if alert.fired is None and gone_seconds > rule.for_seconds:
                del self._alerts[alert.alert_id]
            elif alert.fired is not None and gone_seconds >= rule.keep_seconds:
                notices += self._end(alert, at)
        return notices

    def _end(self, alert: Alert, at: float, remark: str = "") -> list[Notice]:
        del self._alerts[alert.alert_id]
        return [self._notice(News.OVER, alert, at, remark)] if alert.told else []

    def _told_later(self, at: float) -> list[Notice]:
        """Tell of what fires and has not been told, and remind of what has been."""
        notices = []
        for alert in self.firing:
            if self._quiet(alert):
                continue
            if not alert.told:
                alert.told = True
                alert.reminded = at
                notices.append(self._notice(News.FIRING, alert, at))
            elif self._remind_seconds and at - alert.reminded >= self._remind_seconds:
                alert.reminded = at
                notices.append(self._notice(News.STILL, alert, at))
        return notices

    def _quiet(self, alert: Alert) -> bool:
        return self.silence_of(alert) is not None or self.inhibited_by(alert) is not None

    def silence_of(self, alert: Alert) -> Silence | None:
        """The silence over an alert, by its id or its rule."""
        return self.silences.get(alert.alert_id) or self.silences.get(alert.rule)

    def inhibited_by(self, alert: Alert) -> str | None:
        """The id of the firing alert that keeps this one quiet."""
        for other in self._alerts.values():
            if (
                other.fired is not None
                and alert.rule in self._inhibits.get(other.rule, ())
                and other is not alert
            ):
                return other.alert_id
        return None

    @staticmethod
    def _notice(news: News, alert: Alert, at: float, remark: str = "") -> Notice:
        return Notice(news=news, alert=copy_of(alert), at=at, remark=remark)

    def announced(self) -> list[Alert]:
        """Those that somebody was told of and that nobody has silenced."""
        return [alert for alert in self.firing if alert.told and self.silence_of(alert) is None]

    def to_json(self) -> dict[str, Any]:
        """All of it, for the next bridge."""
        return {
            "version": VERSION,
            "alerts": [asdict(alert) for alert in self._alerts.values() if alert.fired is not None],
            "last_fired": {
                alert_id: fired
                for alert_id, fired in self._last_fired.items()
                if alert_id in self._alerts or self._recent(alert_id, fired)
            },
            "silences": {key: asdict(silence) for key, silence in self.silences.items()},
        }

    def _recent(self, alert_id: str, fired: float) -> bool:
        rule = self._rules.get(alert_id.partition(":")[0])
        return rule is not None and fired + rule.repeat_seconds > (self._last_look or fired)

    def take_json(self, stored: object, at: float) -> None:
        """Go on with what an earlier bridge knew at or before ``at``; what cannot be read is left out.

        Nothing is over before it has been looked for: ``seen`` begins anew.
        """
        for row in rows(stored, "alerts"):
            alert = alert_from(row, at)
            if alert is not None and alert.fired is not None:
                alert.seen = at
                self._alerts[alert.alert_id] = alert
        fired = table(stored, "last_fired")
        self._last_fired = {
            str(key): min(at, value) for key in fired if (value := number(fired, key)) is not None
        }
        silences = table(stored, "silences")
        for key in silences:
            row = table(silences, key)
            if (until := number(row, "until")) is not None:
                self.silences[str(key)] = Silence(
                    until=until, reason=words(row, "reason"), who=words(row, "who")
                )


def _severity(rule: AlertRule, finding: Finding) -> Severity:
    """A site that moves a rule's severity moves what is graver, or less grave, than usual with it."""
    usual = RULES[rule.name].severity.rank if rule.name in RULES else rule.severity.rank
    found = usual if finding.severity is None else finding.severity.rank
    grades = list(Severity)
    return grades[min(max(found - usual + rule.severity.rank, 0), len(grades) - 1)]


def copy_of(alert: Alert) -> Alert:
    """The alert as it stands now."""
    return Alert(**{name: getattr(alert, name) for name in Alert.__slots__})


def alert_from(row: Mapping[str, Any], at: float) -> Alert | None:
    """An alert that was written down, None for what is none; no time lies after ``at``."""
    names = {name: words(row, name) for name in ("alert_id", "rule", "cause", "summary", "what_to_do")}
    times = {name: number(row, name) for name in ("since", "fired", "reminded", "seen")}
    if not names["alert_id"] or row.get("severity") not in list(Severity) or times["since"] is None:
        return None
    effects = row.get("effects")
    plain = {
        name: {str(key): str(value) for key, value in table(row, name).items()}
        for name in ("labels", "details")
    }
    return Alert(
        **names,
        severity=Severity(row["severity"]),
        since=min(at, times["since"]),
        seen=min(at, times["seen"] or at),
        fired=None if times["fired"] is None else min(at, times["fired"]),
        reminded=min(at, times["reminded"] or at),
        effects=tuple(map(str, effects)) if isinstance(effects, list) else (),
        labels=plain["labels"],
        details=plain["details"],
        lasted_seconds=number(row, "lasted_seconds") or 0.0,
        told=row.get("told") is True,
    )
