"""The ``[alerts]`` tables: which alerts there are, how long each has to last, and whom they reach."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from slurm_power.config.node_record import split_address
from slurm_power.config.problems import check_keys, did_you_mean, read_record, subtables
from slurm_power.model.alert import INHIBITS, RULES, AlertRule, Severity

_LONGEST_SECONDS = 30 * 86_400.0

Channel = TypeVar("Channel", "AlertmanagerConfig", "MailConfig", "HookConfig")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """The ``[alerts]`` table itself."""

    on: bool = True
    poll_seconds: float = 2.0
    page_url: str = ""
    runbooks_url: str = "docs/runbooks.md"
    journal: bool = True
    syslog: bool = False
    remind_seconds: float = 14_400.0
    disk_free_ratio: float = 0.05
    certificate_days: float = 14.0
    follow_ratio: float = 0.1

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key."""
        bounds = (
            ("poll_seconds", 1.0, 60.0),
            ("remind_seconds", 0.0, _LONGEST_SECONDS),
            ("disk_free_ratio", 0.0, 0.9),
            ("certificate_days", 0.0, 3650.0),
            ("follow_ratio", 0.02, 1.0),
        )
        return [
            f"{key}: {value:g} is not between {low:g} and {high:g}"
            for key, low, high in bounds
            if not low <= (value := getattr(self, key)) <= high
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleConfig:
    """What a site says about one rule; what it does not say stays as the rule has it."""

    name: str
    severity: Severity | None = None
    for_seconds: float | None = None
    keep_seconds: float | None = None
    repeat_seconds: float | None = None
    off: bool = False
    inhibits: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key."""
        found = [
            f"{key}: {value:g} is not between 0 and {_LONGEST_SECONDS:g}"
            for key in ("for_seconds", "keep_seconds", "repeat_seconds")
            if (value := getattr(self, key)) is not None and not 0.0 <= value <= _LONGEST_SECONDS
        ]
        found += [
            f"inhibits: there is no rule {name}{did_you_mean(name, RULES)}"
            for name in self.inhibits
            if name not in RULES
        ]
        if self.name in self.inhibits:
            found.append("inhibits: a rule cannot keep itself quiet; write off = true")
        return found

    def onto(self, rule: AlertRule) -> AlertRule:
        """The rule with what the site says about it."""
        keys = ("severity", "for_seconds", "keep_seconds", "repeat_seconds")
        said = {key: value for key in keys if (value := getattr(self, key)) is not None}
        return replace(rule, **said, off=self.off)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertmanagerConfig:
    """An Alertmanager, by its API version 2. ``token_file`` holds a bearer token."""

    name: str
    url: str
    severity: Severity = Severity.INFO
    resend_seconds: float = 60.0
    timeout_seconds: float = 10.0
    token_file: Path | None = None
    ca_file: Path | None = None

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key."""
        found = _seconds_problems(self, ("resend_seconds", 5.0, 600.0), ("timeout_seconds", 0.5, 60.0))
        parts = urlsplit(self.url)
        try:
            port_good = parts.port is None or parts.port > 0
        except ValueError:
            port_good = False
        if parts.scheme not in ("http", "https") or not parts.hostname or not port_good:
            found.append(f"url: {self.url!r} is no address; write http://HOST:9093")
        elif parts.username is not None or parts.password is not None:
            found.append("url: holds a password; put a token into a file and name it as token_file")
        elif parts.query or parts.fragment:
            found.append(f"url: {self.url!r}: leave out what follows ? or #")
        elif self.token_file is not None and parts.scheme != "https" and not _loopback(parts.hostname):
            found.append("url: a token would travel readable; write https://")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class MailConfig:
    """Mail by SMTP. ``password_file`` holds the password of ``user``."""

    name: str
    server: str
    sender: str
    to: tuple[str, ...]
    severity: Severity = Severity.WARN
    starttls: bool = True
    user: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    timeout_seconds: float = 20.0

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key."""
        found = _seconds_problems(self, ("timeout_seconds", 1.0, 120.0))
        split_address(self.server, "server", found)
        if not self.to:
            found.append("to: names nobody")
        found += [
            f"{key}: {address!r} is no mail address"
            for key, addresses in (("sender", (self.sender,)), ("to", self.to))
            for address in addresses
            if not _is_address(address)
        ]
        if bool(self.user) != (self.password_file is not None):
            found.append("password_file: user and password_file belong together")
        if self.user and not self.starttls:
            found.append("starttls: a password would travel readable; leave starttls on")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class HookConfig:
    """A program of the site's own that gets each alert as JSON on its standard input."""

    name: str
    command: tuple[str, ...]
    severity: Severity = Severity.WARN
    timeout_seconds: float = 10.0
    run_as_root: bool = False

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key."""
        found = _seconds_problems(self, ("timeout_seconds", 0.5, 300.0))
        if not self.command or not self.command[0].startswith("/"):
            found.append(
                'command: must be a list whose first word is an absolute path, ["/usr/local/sbin/page"]'
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsConfig:
    """All tables of ``[alerts]``, checked. ``inhibits``: which rules a firing rule keeps quiet."""

    settings: AlertSettings = field(default_factory=AlertSettings)
    rules: Mapping[str, AlertRule] = field(default_factory=lambda: RULES)
    inhibits: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: INHIBITS)
    alertmanagers: tuple[AlertmanagerConfig, ...] = ()
    mails: tuple[MailConfig, ...] = ()
    hooks: tuple[HookConfig, ...] = ()


def read_alerts(document: dict[str, Any], problems: list[str]) -> AlertsConfig:
    """Read the tables below ``alerts`` of a site.toml; adds each problem with its path."""
    table = document.get("alerts", {})
    if not isinstance(table, dict):
        problems.append("alerts: must be a table, write [alerts]")
        return AlertsConfig()
    groups = ("rule", "alertmanager", "mail", "hook")
    own = {key: value for key, value in table.items() if key not in groups}
    settings = read_record(AlertSettings, own, "alerts.", problems)
    if settings is not None:
        problems += [f"alerts.{problem}" for problem in settings.problems()]
    rules, inhibits = dict(RULES), dict(INHIBITS)
    named = _named(table, "rule", problems)
    check_keys(named, set(RULES), "alerts.rule.", problems)
    for name, words in named.items():
        said = read_record(RuleConfig, words, f"alerts.rule.{name}.", problems, name=name)
        if said is None or name not in RULES:
            continue
        problems += [f"alerts.rule.{name}.{problem}" for problem in said.problems()]
        rules[name] = said.onto(RULES[name])
        inhibits[name] = said.inhibits or INHIBITS.get(name, ())
    return AlertsConfig(
        settings=settings or AlertSettings(),
        rules=rules,
        inhibits=inhibits,
        alertmanagers=_channels(AlertmanagerConfig, "alertmanager", table, problems),
        mails=_channels(MailConfig, "mail", table, problems),
        hooks=_channels(HookConfig, "hook", table, problems),
    )


def _named(table: dict[str, Any], key: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    found: list[str] = []
    tables = subtables(table, key, found)
    problems += [f"alerts.{problem}" for problem in found]
    return tables


def _channels(
    kind: type[Channel], key: str, table: dict[str, Any], problems: list[str]
) -> tuple[Channel, ...]:
    channels = []
    for name, words in _named(table, key, problems).items():
        channel = read_record(kind, words, f"alerts.{key}.{name}.", problems, name=name)
        if channel is not None:
            problems += [f"alerts.{key}.{name}.{problem}" for problem in channel.problems()]
            channels.append(channel)
    return tuple(channels)


def _seconds_problems(record: object, *bounds: tuple[str, float, float]) -> list[str]:
    return [
        f"{key}: {value:g} is not between {low:g} and {high:g}"
        for key, low, high in bounds
        if not (math.isfinite(value := getattr(record, key)) and low <= value <= high)
    ]


def _loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _is_address(text: str) -> bool:
    """Whether it can stand between < and > of SMTP; who is there is the server's business."""
    name, at, host = text.rpartition("@")
    plain = text.isascii() and text.isprintable() and not any(letter in ' <>()[],;:\\"' for letter in text)
    return bool(at and name and host) and plain
