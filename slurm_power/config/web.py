"""The ``[web]`` table: where the dashboard listens, and who may see and do what there."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slurm_power.config.node_record import split_address
from slurm_power.config.problems import read_record
from slurm_power.model.role import Role

_NAME = re.compile(r"@?[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?\Z")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}\Z")
# What decides elsewhere must not decide who somebody is.
_OTHER_HEADERS = frozenset({"host", "cookie", "authorization", "connection", "content-length", "origin"})


class Tls(StrEnum):
    """Whose certificate powerweb shows."""

    OFF = "off"
    """None: plain HTTP, for a loopback address or behind a proxy alone."""
    SITE = "site"
    """The one of ``controller.tls_directory``, which browsers know only if they are given ``ca.pem``."""
    OWN = "own"
    """The one of ``certificate`` and ``certificate_key``."""


class Anonymous(StrEnum):
    """What somebody sees who has not said who they are."""

    NONE = "none"
    TOTALS = "totals"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """Where powerweb answers, if it does, and to whom."""

    listen: str | None = None
    public_url: str = ""
    tls: Tls = Tls.OFF
    certificate: Path | None = None
    certificate_key: Path | None = None
    trusted_proxy: str = ""
    trusted_header: str = ""
    anonymous: Anonymous = Anonymous.NONE
    session_hours: float = 12.0
    most_clients: int = 1000
    calls_per_second: float = 20.0
    log_level: str = "INFO"
    roles: Mapping[str, Role] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``listen``; ("", 0) where powerweb does not listen."""
        host, port = ("", 0) if self.listen is None else split_address(self.listen, "listen", [])
        return host.strip("[]"), port

    @property
    def url(self) -> str:
        """Where browsers find it, without a slash at its end."""
        scheme = "http" if self.tls is Tls.OFF else "https"
        return self.public_url.rstrip("/") or f"{scheme}://{self.listen or ''}"

    @property
    def secure(self) -> bool:
        """Whether browsers come by HTTPS, so that cookies may be kept to it."""
        return urlsplit(self.url).scheme == "https"

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key."""
        found = [*self._listen_problems(), *self._tls_problems(), *self._proxy_problems()]
        for key, low, high in (
            ("session_hours", 0.1, 24.0 * 31),
            ("most_clients", 1, 100_000),
            ("calls_per_second", 1.0, 10_000.0),
        ):
            value = getattr(self, key)
            if not low <= value <= high:
                found.append(f"{key}: {value:g} is not between {low:g} and {high:g}")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            found.append(f"log_level: {self.log_level!r} is not one of DEBUG, INFO, WARNING, ERROR")
        return found

    def _listen_problems(self) -> list[str]:
        found: list[str] = []
        if self.listen is not None:
            host, _ = split_address(self.listen, "listen", found)
            if not found and self.tls is Tls.OFF and not is_loopback(host) and not self.trusted_proxy:
                found.append(
                    f"listen: {self.listen} without TLS would show passwords to the network; write"
                    ' tls = "site" or tls = "own", listen on 127.0.0.1, or name the trusted_proxy'
                )
        if self.public_url:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
                found.append(f"public_url: {self.public_url!r} is no address; write https://HOST")
        return found

    def _tls_problems(self) -> list[str]:
        files = {"certificate": self.certificate, "certificate_key": self.certificate_key}
        if self.tls is Tls.OWN:
            return [f'{key}: missing; tls is "own"' for key, file in files.items() if file is None]
        wrong = [key for key, file in files.items() if file is not None]
        return [f'{key}: counts only with tls = "own"' for key in wrong]

    def _proxy_problems(self) -> list[str]:
        found = []
        if self.trusted_proxy and not _is_address(self.trusted_proxy):
            found.append(f"trusted_proxy: {self.trusted_proxy!r} is no IP address")
        if self.trusted_header:
            host = "" if self.listen is None else self.address[0]
            if not _HEADER.match(self.trusted_header) or self.trusted_header.lower() in _OTHER_HEADERS:
                found.append(f"trusted_header: {self.trusted_header!r} is no header for a user's name")
            elif not is_loopback(host) and not self.trusted_proxy:
                found.append(
                    "trusted_header: anybody could send it; listen on 127.0.0.1, or name the trusted_proxy"
                )
        return found


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    return _is_address(host.strip("[]")) and ipaddress.ip_address(host.strip("[]")).is_loopback


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def read_web(table: dict[str, Any], problems: list[str]) -> WebConfig | None:
    """Read ``[web]`` with ``[web.roles]``; None with all problems added, each with its path."""
    before = len(problems)
    roles = _read_roles(table.get("roles", {}), problems)
    rest = {key: value for key, value in table.items() if key != "roles"}
    config = read_record(WebConfig, rest, "web.", problems, roles=roles)
    if config is not None:
        problems += [f"web.{problem}" for problem in config.problems()]
    return config if len(problems) == before else None


def _read_roles(table: object, problems: list[str]) -> dict[str, Role]:
    if not isinstance(table, dict):
        problems.append('web.roles: must be a table, write [web.roles] and NAME = "operator"')
        return {}
    found = {}
    for name, role in table.items():
        if not _NAME.match(name):
            problems.append(f"web.roles.{name}: no name of a user, and no @group")
        if role not in list(Role):
            problems.append(f"web.roles.{name}: {role!r} is not one of {', '.join(Role)}")
        else:
            found[name] = Role(role)
    return found
