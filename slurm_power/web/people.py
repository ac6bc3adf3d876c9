"""Who asks: a session's cookie, a token, a proxy's word, or nobody; and the role that goes with it."""

import asyncio
import grp
import ipaddress
import os
import pwd
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.requests import HTTPConnection

from slurm_power import clock
from slurm_power.config.web import Anonymous, WebConfig
from slurm_power.controller.answers.behalf import NOBODY, user_name
from slurm_power.model.role import Role
from slurm_power.web.keys import Keys

COOKIE = "slurm_power_session"
# Behind names may be a directory service; who was just proved is not looked up again.
_PROVED_SECONDS = 2.0
_MOST_REMEMBERED = 5000
_LONGEST_SECRET = 200


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks, and what they may. ``proof`` tells how: session, token, proxy, or nothing."""

    name: str
    role: Role
    proof: str

    @property
    def sees_all(self) -> bool:
        """Whether others' names and jobs are shown."""
        return self.role.covers(Role.AUDITOR)

    def message(self) -> dict[str, str]:
        """On whose behalf powerctld is asked."""
        return {"name": self.name, "role": self.role.value, "via": "web"}


class RefusedProofError(Exception):
    """What was given proves nothing; the text says what to do."""


class People:
    """Finds out who asks. Questions to files and directory services are asked in a thread."""

    def __init__(self, config: WebConfig, keys: Keys) -> None:
        self._config = config
        self._keys = keys
        self._known: OrderedDict[tuple[str, str], tuple[float, Person | None]] = OrderedDict()

    async def of(self, connection: HTTPConnection) -> Person | None:
        """Who asks, None for somebody who may see nothing; raises RefusedProofError for a wrong proof."""
        given = connection.headers.get("authorization")
        if given is not None:
            kind, _, secret = given.partition(" ")
            if kind.lower() != "bearer" or not 0 < len(secret) <= _LONGEST_SECRET:
                raise RefusedProofError("Authorization: write Bearer and a token of `slurm-power web token`")
            person = await self._remembered("token", secret.strip())
            if person is None:
                raise RefusedProofError("the token is unknown, revoked or over; ask an operator for another")
            return person
        header = self._config.trusted_header
        if header and (name := connection.headers.get(header)) and from_proxy(connection, self._config):
            return await self._remembered("proxy", name[:_LONGEST_SECRET])
        secret = session_cookie(connection)
        if secret:
            person = await self._remembered("session", secret)
            if person is not None:
                return person
        return Person(NOBODY, Role.VIEWER, "") if self._config.anonymous is Anonymous.TOTALS else None

    def forget(self, kind: str, secret: str) -> None:
        """Look at a proof anew when it comes again."""
        self._known.pop((kind, secret), None)

    async def _remembered(self, kind: str, secret: str) -> Person | None:
        now_seconds = clock.monotonic()
        known = self._known.get((kind, secret))
        if known is not None and now_seconds < known[0]:
            return known[1]
        person = await asyncio.to_thread(self._proved, kind, secret)
        # What is revoked ends within seconds; what proves nothing is not remembered at all.
        self._known.pop((kind, secret), None)
        if person is not None:
            self._known[kind, secret] = now_seconds + _PROVED_SECONDS, person
            while len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return person

    def _proved(self, kind: str, secret: str) -> Person | None:
        now_seconds = clock.now().timestamp()
        if kind == "token":
            token = self._keys.token(secret, now_seconds)
            return None if token is None else Person(token.name, token.role, "token")
        if kind == "session":
            session = self._keys.session(secret, now_seconds)
            if session is None:
                return None
            role = self._config_role(session.name, known=True)
            return Person(session.name, Role.OPERATOR if session.operator else role, "session")
        if not user_name(secret):
            return None
        return Person(secret, self._config_role(secret, known=_in_passwd(secret)), "proxy")

    def _config_role(self, name: str, *, known: bool) -> Role:
        """The highest role that the site gives a name or one of its groups."""
        return role_of(name, self._config.roles, known=known)


def role_of(name: str, roles: Mapping[str, Role], *, known: bool) -> Role:
    """The highest role of a name and its groups. ``known``: they have proved to be a user of the cluster."""
    found = [Role.USER if known else Role.VIEWER]
    if name in roles:
        found.append(roles[name])
    groups = {key[1:]: role for key, role in roles.items() if key.startswith("@")}
    if groups and known:
        found += [groups[group] for group in _groups(name) & groups.keys()]
    order = list(Role)
    return max(found, key=order.index)


def _in_passwd(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except (KeyError, OSError, ValueError):
        return False
    return True


def _groups(name: str) -> set[str]:
    """All groups of a user, as the system knows them."""
    try:
        entry = pwd.getpwnam(name)
        numbers = os.getgrouplist(name, entry.pw_gid)
    except (KeyError, OSError, ValueError):
        return set()
    found = set()
    for number in numbers:
        try:
            found.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return found


def session_cookie(connection: HTTPConnection) -> str:
    """What the browser holds of its session, "" for nothing."""
    try:
        morsel = SimpleCookie(connection.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None or len(morsel.value) > _LONGEST_SECRET else morsel.value


def from_proxy(connection: HTTPConnection, config: WebConfig) -> bool:
    """Whether a request comes straight from the proxy that the site trusts."""
    peer = connection.client.host if connection.client else ""
    if config.trusted_proxy:
        return peer == config.trusted_proxy
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False
