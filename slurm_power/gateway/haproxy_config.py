"""Writes HAProxy's configuration for one service, with the servers of now: a restart is right by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm_power.gateway import relay
from slurm_power.gateway.haproxy import CHECK, ServerWish
from slurm_power.gateway.service_file import ServiceFile

BACKEND = "tiers"
FRONTEND = "clients"
TIER_HEADER = "X-Model-Tier"
CONVERSATION_HEADER = "X-Conversation-Id"
IDEMPOTENCY_HEADER = "Idempotency-Key"


_NONE = '{"error":"no tier serves"}'
_IDEMPOTENT = "GET HEAD OPTIONS PUT DELETE TRACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """Where a gateway keeps its own: private, and on a local disk, for the sake of the sockets."""

    path: Path

    @property
    def admin_socket(self) -> Path:
        """HAProxy's runtime API."""
        return self.path / "admin.sock"

    @property
    def inner_socket(self) -> Path:
        """Where streams come back in."""
        return self.path / "inner.sock"

    @property
    def gateway_socket(self) -> Path:
        """The gateway's own, for `slurm-power gateway status` and `switch`."""
        return self.path / "gateway.sock"

    @property
    def config(self) -> Path:
        """HAProxy's configuration."""
        return self.path / "haproxy.cfg"

    @property
    def lua(self) -> Path:
        """The relay of streams."""
        return self.path / "relay.lua"

    @property
    def pid(self) -> Path:
        """HAProxy's process id."""
        return self.path / "haproxy.pid"

    @property
    def log(self) -> Path:
        """What HAProxy says."""
        return self.path / "haproxy.log"

    @property
    def state(self) -> Path:
        """The gateway's state."""
        return self.path / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the one gateway that runs."""
        return self.path / "lock"


def configuration(service: ServiceFile, folder: Folder, servers: Sequence[ServerWish]) -> str:
    """The whole file. A server that is not ready is left out: the gateway adds it within a second."""
    tls = f" ssl crt {service.certificate}" if service.certificate is not None else ""
    idle = f"{service.stream_idle_seconds:.0f}s"
    hard_stop = f"{service.limits.drain_seconds + 30.0:.0f}s"
    return f"""# Written by slurm-power gateway at each change: do not edit.
global
    stats socket unix@{folder.admin_socket} mode 600 level admin expose-fd listeners
    maxconn {service.most_connections}
    hard-stop-after {hard_stop}
    # A request is replayed only while it fits into one buffer.
    tune.bufsize 65536
    setenv SLURM_POWER_GATEWAY_INNER unix@{folder.inner_socket}
    lua-load {folder.lua}
defaults
    mode http
    timeout connect 2s
    timeout queue 30s
    timeout client {idle}
    timeout server {idle}
    timeout http-request 30s
    timeout http-keep-alive 30s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response
frontend {FRONTEND}
    bind {service.listen}{tls}
{_routing()}
frontend inner
    bind unix@{folder.inner_socket} mode 600
    default_backend {BACKEND}
{backend(service)}{_servers(servers)}"""


def write(service: ServiceFile, folder: Folder, servers: Sequence[ServerWish]) -> None:
    """Write the configuration and what it loads, each whole; raises OSError."""
    for path, content in (
        (folder.lua, relay.lua(stream_idle_seconds=service.stream_idle_seconds)),
        (folder.config, configuration(service, folder, servers)),
    ):
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(content)
        fresh.replace(path)


def _routing() -> str:
    """What of a frontend sends streams through the relay: asked for by header, or by the body's own word."""
    return f"""    option http-buffer-request
    acl wants_events req.hdr(Accept) -m sub text/event-stream
    acl wants_stream req.body,json_query('$.stream') -m str true
    http-request use-service lua.slurm_power_stream if wants_events or wants_stream
    default_backend {BACKEND}"""


def backend(service: ServiceFile) -> str:
    """The backend alone, also for a site's own HAProxy.

    ``balance first`` asks the server with the least number, the newest, and the next where that one fails:
    so the old tier stands by as long as it is there, without any word of ours.
    """
    name = service.haproxy.backend if service.haproxy else BACKEND
    return f"""backend {name}
    balance first
    option httpchk GET {service.health_path}
    http-check expect status 200
    # What is not idempotent is not sent twice, unless its sender says that it may be.
    acl idempotent method {_IDEMPOTENT}
    acl idempotent req.hdr({IDEMPOTENCY_HEADER}) -m found
    http-request disable-l7-retry unless idempotent
    # Who names a conversation stays on its tier for as long as that one takes requests.
    stick-table type string len 128 size 100k expire 30m
    stick on req.hdr({CONVERSATION_HEADER}) if {{ req.hdr({CONVERSATION_HEADER}) -m found }}
    http-response set-header {TIER_HEADER} {service.family}/%[srv_name,field(1,:)]
    http-error status 503 content-type application/json string '{_NONE}' hdr Retry-After 10
"""


def _servers(servers: Sequence[ServerWish]) -> str:
    return "".join(
        f"    server {server.name} {server.address} id {server.order} check {CHECK}\n"
        for server in sorted(servers, key=lambda server: server.order)
        if server.ready
    )
