"""The `[alerts]` tables: what a site may say, and that all that is wrong is said at once."""

from typing import Any

import pytest

from slurm_power.config.alerts import AlertsConfig, read_alerts
from slurm_power.model.alert import INHIBITS, RULES, Severity

GOOD: dict[str, Any] = {
    "poll_seconds": 5,
    "rule": {
        "limit_at_risk": {"for_seconds": 30, "severity": "warn", "inhibits": ["levers_exhausted"]},
        "forecast_beaten": {"off": True},
    },
    "alertmanager": {"main": {"url": "http://am.lan:9093"}},
    "mail": {"ops": {"server": "mail.lan:587", "sender": "a@b.c", "to": ["ops@b.c"]}},
    "hook": {"pager": {"command": ["/usr/local/sbin/page"]}},
}


def read(table: object) -> tuple[AlertsConfig, list[str]]:
    problems: list[str] = []
    return read_alerts({"alerts": table}, problems), problems


def test_what_a_site_says_is_taken_and_the_rest_stays() -> None:
    config, problems = read(GOOD)
    assert problems == []
    limit = config.rules["limit_at_risk"]
    assert (limit.for_seconds, limit.severity) == (30.0, Severity.WARN)
    assert limit.keep_seconds == RULES["limit_at_risk"].keep_seconds
    assert config.rules["forecast_beaten"].off
    assert config.inhibits["limit_at_risk"] == ("levers_exhausted",)
    assert config.inhibits["powerctld_silent"] == INHIBITS["powerctld_silent"]
    assert [one.name for one in config.alertmanagers] == ["main"]
    assert [one.name for one in config.mails] == ["ops"]
    assert [one.name for one in config.hooks] == ["pager"]


def test_nothing_said_is_the_default() -> None:
    config, problems = read({})
    assert problems == []
    assert config == AlertsConfig()


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (3, "alerts: must be a table"),
        ({"pol_seconds": 3}, "alerts.pol_seconds: unknown key; did you mean poll_seconds?"),
        ({"poll_seconds": 0.1}, "alerts.poll_seconds: 0.1 is not between 1 and 60"),
        (
            {"rule": {"limit_at_rsk": {}}},
            "alerts.rule.limit_at_rsk: unknown key; did you mean limit_at_risk?",
        ),
        (
            {"rule": {"dead_source": {"for_seconds": -1}}},
            "alerts.rule.dead_source.for_seconds: -1 is not between",
        ),
        (
            {"rule": {"dead_source": {"for_seconds": float("nan")}}},
            "alerts.rule.dead_source.for_seconds: nan",
        ),
        (
            {"rule": {"dead_source": {"severity": "loud"}}},
            "alerts.rule.dead_source.severity: 'loud' is not one of",
        ),
        ({"rule": {"dead_source": {"inhibits": ["dead_source"]}}}, "a rule cannot keep itself quiet"),
        (
            {"rule": {"dead_source": {"inhibits": ["x"]}}},
            "alerts.rule.dead_source.inhibits: there is no rule x",
        ),
        ({"alertmanager": {"a": {}}}, "alerts.alertmanager.a.url: missing"),
        ({"alertmanager": {"a": {"url": "am:9093"}}}, "'am:9093' is no address"),
        ({"alertmanager": {"a": {"url": "http://u:p@am"}}}, "holds a password"),
        (
            {"alertmanager": {"a": {"url": "http://am.lan", "token_file": "/t"}}},
            "a token would travel readable",
        ),
        ({"mail": {"a": {"server": "m", "sender": "a@b", "to": ["c@d"]}}}, "alerts.mail.a.server"),
        ({"mail": {"a": {"server": "m:25", "sender": "a@b", "to": []}}}, "names nobody"),
        (
            {"mail": {"a": {"server": "m:25", "sender": "a@b\r\nBcc: x@y", "to": ["c@d"]}}},
            "is no mail address",
        ),
        ({"mail": {"a": {"server": "m:25", "sender": "a@b", "to": ["c@d"], "user": "u"}}}, "belong together"),
        ({"hook": {"a": {"command": ["page"]}}}, "an absolute path"),
        ({"hook": {"a": {"command": "page"}}}, "alerts.hook.a.command: must be a list of strings"),
        ({"hook": {"a": 3}}, "alerts.hook.a: must be a table"),
    ],
)
def test_a_mistake_is_named_with_its_place(table: object, problem: str) -> None:
    _, problems = read(table)
    assert any(problem in found for found in problems), problems


def test_all_that_is_wrong_is_said_at_once() -> None:
    _, problems = read({"poll_seconds": 0, "hook": {"a": {}}, "mail": {"b": {}}, "rule": {"c": {}}})
    assert len(problems) >= 6
