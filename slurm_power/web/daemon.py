"""powerweb's life: listen, take pictures, hang up on who says nothing, and end cleanly."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from slurm_power import clock, powerctld_line
from slurm_power.config import SiteConfig
from slurm_power.config.web import Tls, WebConfig
from slurm_power.tasks import end_all
from slurm_power.web.app import make_app
from slurm_power.web.site import Web, make_web
from slurm_power.web.table import TABLE
from slurm_power.wire import Message

log = logging.getLogger(__name__)

_ASK_SECONDS = 5.0
# A connection that has not asked for anything by then takes a place from others.
_SILENT_SECONDS = 15.0
_LOOK_SECONDS = 2.0
_STOP_SECONDS = 5.0
# Beside the streams: calls, and browsers that fetch the page.
_MORE_CONNECTIONS = 500
_BACKLOG = 1024


class ListenError(Exception):
    """powerweb cannot listen; the text begins with the key of site.toml."""


class PowerWeb:
    """One powerweb; ``run`` returns after ``stop``."""

    def __init__(self, config: SiteConfig) -> None:
        """Bind the address; raises ListenError, KeysError."""
        self._socket = _listening(config.web)
        self._path = config.controller.socket
        self.web: Web = make_web(config, self._ask, TABLE)
        self._server = _Server(_server_config(config, self.web))
        self._quiet: dict[int, tuple[object, float]] = {}

    async def _ask(self, message: Message) -> Message:
        return await powerctld_line.ask(Path(self._path), message, timeout_seconds=_ASK_SECONDS)

    def stop(self) -> None:
        """Say goodbye to all streams and end ``run``."""
        self.web.pictures.close()
        self._server.should_exit = True

    async def run(self) -> None:
        """Serve until stopped."""
        tasks = [asyncio.create_task(self.web.pictures.run()), asyncio.create_task(self._watch())]
        served = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        log.info("powerweb answers at %s", self.web.config.web.url)
        try:
            done, _ = await asyncio.wait((served, *tasks), return_when=asyncio.FIRST_COMPLETED)
            if served not in done and not self.web.pictures.closing:
                for task in done:
                    task.result()
            await served
        finally:
            await end_all([*tasks, served])
            self.web.stored.close()
            self._socket.close()

    async def _watch(self) -> None:
        """Hang up on connections that ask for nothing, that send on after their answer, or never end."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now_seconds = clock.monotonic()
            seen: dict[int, tuple[object, float]] = {}
            for connection in list(self._server.server_state.connections):
                transport = connection.transport
                cycle = getattr(connection, "cycle", None)
                answered = cycle is None or cycle.response_complete
                if not answered and not transport.is_closing():
                    continue
                # uvicorn's own time for a next request begins anew with every byte: it is not enough.
                known, since = self._quiet.get(id(connection), (cycle, now_seconds))
                if known is not cycle:
                    since = now_seconds
                elif now_seconds - since > _SILENT_SECONDS:
                    transport.abort()
                seen[id(connection)] = cycle, since
            self._quiet = seen


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `PowerWeb`, which has streams to end first."""
        yield


def _listening(config: WebConfig) -> socket.socket:
    host, port = config.address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ListenError(f"web.listen: {config.listen}: {error.strerror or error}") from None


def _server_config(config: SiteConfig, web: Web) -> uvicorn.Config:
    certificate, key = _certificate(config)
    found = uvicorn.Config(
        make_app(web),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http="h11",
        h11_max_incomplete_event_size=16_384,
        limit_concurrency=config.web.most_clients + _MORE_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=round(_STOP_SECONDS),
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        found.load()
    except (OSError, ValueError) as error:
        raise ListenError(f"web.tls: {certificate}: {error}") from None
    return found


def _certificate(config: SiteConfig) -> tuple[str | None, str | None]:
    match config.web.tls:
        case Tls.OFF:
            return None, None
        case Tls.OWN:
            return str(config.web.certificate), str(config.web.certificate_key)
        case Tls.SITE:
            folder = config.controller.tls_directory
            return str(folder / "server.pem"), str(folder / "server.key")
