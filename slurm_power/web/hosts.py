"""Which names a request may ask for: a page of another name that is made to point here learns nothing.

A browser on this machine reaches a loopback address under any name whose owner lets it point there (DNS
rebinding). Scripts of that page are then at home here, and may send every header that a proxy would.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from slurm_power.config.web import Tls, WebConfig, is_loopback


class Hosts:
    """The names under which powerweb answers; all where a certificate or a proxy vouches for the name."""

    def __init__(self, config: WebConfig) -> None:
        host = config.address[0]
        self._checks = config.tls is Tls.OFF and is_loopback(host)
        public = urlsplit(config.public_url).hostname or ""
        machine = socket.gethostname().lower()
        self._known = frozenset({"localhost", host, public, machine, machine.partition(".")[0]} - {""})

    def may_ask(self, host: str) -> bool:
        """Whether a ``Host`` header names this powerweb. Nobody can have an address point elsewhere."""
        if not self._checks:
            return True
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".") if _is_host(host) else ""
        return name in self._known or _is_address(name)


def _is_host(text: str) -> bool:
    try:
        _ = urlsplit(f"//{text}").port
    except ValueError:
        return False
    return not set(text) & set("/?#@\\ ")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
