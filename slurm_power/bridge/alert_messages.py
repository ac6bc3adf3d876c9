"""What goes out about an alert: the JSON of hooks, mails and powerctld, and what Alertmanager wants."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from slurm_power.bridge.alert_book import Alert, AlertBook, Notice
from slurm_power.config.alerts import AlertSettings
from slurm_power.model.alert import Severity

# Where docs/runbooks.md says what to do.
RUNBOOKS = {
    "limit_at_risk": "a-limit-is-at-risk",
    "levers_exhausted": "nothing-is-left-to-lower-the-draw-with",
    "event_undelivered": "a-promised-event-is-not-kept",
    "dead_source": "a-meter-node-or-battery-is-dead",
    "cap_drift": "somebody-changes-caps-or-leases-run-out",
    "lease_unrenewed": "somebody-changes-caps-or-leases-run-out",
    "ess_not_following": "a-battery-does-not-do-what-it-is-told",
    "forecast_beaten": "smaller-ones",
    "ledger_broken": "the-ledger-was-altered",
    "store_fault": "the-disk-is-full-or-nothing-can-be-written",
    "control_paused": "smaller-ones",
    "powerctld_silent": "powerctld-does-not-answer",
    "disk_full": "the-disk-is-full-or-nothing-can-be-written",
    "certificate_expiring": "certificates-end",
    "delivery_failing": "smaller-ones",
}


class Clockwork:
    """Turns the book's seconds into times of day, whatever the wall clock has done since."""

    def __init__(self, now: datetime, at: float) -> None:
        self._now, self._at = now, at

    def iso(self, seconds: float) -> str:
        """When the book's ``seconds`` were."""
        return (self._now + timedelta(seconds=seconds - self._at)).isoformat(timespec="milliseconds")


def runbook_url(settings: AlertSettings, rule: str) -> str:
    """Where the runbook of a rule is read."""
    return f"{settings.runbooks_url}#{RUNBOOKS.get(rule, 'smaller-ones')}"


def row(book: AlertBook, alert: Alert, settings: AlertSettings, times: Clockwork) -> dict[str, Any]:
    """A firing alert as the dashboard, ``top`` and ``slurm-power alerts`` show it."""
    silence = book.silence_of(alert)
    return {
        "id": alert.alert_id,
        "rule": alert.rule,
        "cause": alert.cause,
        "severity": alert.severity.value,
        "state": "silenced" if silence is not None else "inhibited" if book.inhibited_by(alert) else "firing",
        "summary": alert.summary,
        "what_to_do": alert.what_to_do,
        "runbook": runbook_url(settings, alert.rule),
        "effects": list(alert.effects),
        "since": times.iso(alert.since),
        "labels": {**alert.labels, **alert.details},
        "silenced_until": None if silence is None else times.iso(silence.until),
        "silence_reason": "" if silence is None else silence.reason,
        "silenced_by": "" if silence is None else silence.who,
    }


def message(
    notice: Notice, *, site: str, settings: AlertSettings, times: Clockwork, also_firing: list[dict[str, Any]]
) -> dict[str, Any]:
    """What hooks and mails get about a notice."""
    alert = notice.alert
    thread_id = _digest(site, alert.alert_id, times.iso(alert.fired or alert.since)[:19])
    return {
        "version": 1,
        "site": site,
        "news": notice.news.value,
        "alert_id": alert.alert_id,
        "rule": alert.rule,
        "cause": alert.cause,
        "severity": alert.severity.value,
        "summary": alert.summary,
        "effects": list(alert.effects),
        "what_to_do": alert.what_to_do,
        "runbook": runbook_url(settings, alert.rule),
        "since": times.iso(alert.since),
        "at": times.iso(notice.at),
        "remark": notice.remark,
        "labels": dict(alert.labels),
        "details": dict(alert.details),
        "also_firing": also_firing,
        "page_url": settings.page_url,
        "thread_id": thread_id,
        "message_id": thread_id
        if notice.news.value == "firing"
        else _digest(thread_id, notice.news.value, times.iso(notice.at)),
    }


def trial(*, site: str, settings: AlertSettings, at: str, who: str) -> dict[str, Any]:
    """A test alert: nothing is wrong."""
    test_id = _digest(site, "test", at)
    return {
        "version": 1,
        "site": site,
        "news": "test",
        "alert_id": "test:test",
        "rule": "test",
        "cause": "test",
        "severity": Severity.INFO.value,
        "summary": f"a test, asked for by {who}: nothing is wrong",
        "effects": [],
        "what_to_do": "Nothing.",
        "runbook": f"{settings.runbooks_url}#smaller-ones",
        "since": at,
        "at": at,
        "remark": "",
        "labels": {},
        "details": {},
        "also_firing": [],
        "page_url": settings.page_url,
        "thread_id": test_id,
        "message_id": test_id,
    }


def posted(told: dict[str, Any], ends_at: str) -> dict[str, Any]:
    """An alert as Alertmanager's API version 2 takes it: labels are what makes it one, and do not change."""
    labels = {
        "alertname": f"SlurmPower{''.join(part.title() for part in told['rule'].split('_'))}",
        "cause": told["cause"],
        "severity": told["severity"],
        "site": told["site"],
        **{f"power_{key}": value for key, value in told["labels"].items()},
    }
    annotations = {
        "summary": told["summary"],
        "description": "; ".join(told["effects"]),
        "what_to_do": told["what_to_do"],
        "runbook_url": told["runbook"],
        "alert_id": told["alert_id"],
        **{f"power_{key}": value for key, value in told["details"].items()},
    }
    link = {"generatorURL": told["page_url"]} if told["page_url"] else {}
    return {
        # Alertmanager takes an empty value for a label that is not there.
        "labels": {key: value for key, value in labels.items() if value},
        "annotations": {key: value for key, value in annotations.items() if value},
        "startsAt": told["since"],
        "endsAt": ends_at,
        **link,
    }


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
