"""The ASGI application: routes from the table, who may what, and the headers that keep a browser safe."""

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slurm_power.config.web import is_loopback
from slurm_power.model.role import Role
from slurm_power.powerctld_line import LineError
from slurm_power.web.asking import BusyError
from slurm_power.web.calls import Endpoint, answer_of, read_call
from slurm_power.web.hosts import Hosts
from slurm_power.web.keys import KeysError
from slurm_power.web.openapi import openapi
from slurm_power.web.people import Person, RefusedProofError
from slurm_power.web.problems import RequestError
from slurm_power.web.site import Web
from slurm_power.web.static_files import StaticFiles
from slurm_power.web.table import PAGES, ROOT

log = logging.getLogger(__name__)

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
_NOBODY = Person("", Role.VIEWER, "")
_OTHER_NAME = "powerweb does not answer under this name; give the name as web.public_url"
_LOG_IN = "nobody is logged in: run `slurm-power web login` on the cluster, or send a token"


def make_app(web: Web, files: StaticFiles | None = None) -> ASGIApp:
    """The application of one powerweb."""
    static = files or StaticFiles()
    by_path: dict[str, dict[str, Endpoint]] = {}
    for one in (*web.table, *PAGES):
        by_path.setdefault(one.path, {})[one.method] = one
    routes = [Route(path, _served(web, methods), methods=list(methods)) for path, methods in by_path.items()]
    document = JSONResponse(openapi(web.table))
    routes.append(Route(f"{ROOT}/openapi.json", lambda _: document, methods=["GET"]))

    def static_file(request: Request) -> Response:
        found = static.answer(request)
        assert found is not None, "only known paths have a route"
        return found

    routes += [Route(path, static_file, methods=["GET"]) for path in static.paths]
    app = Starlette(
        routes=routes,
        exception_handlers={
            RequestError: _told,
            HTTPException: _http,
            LineError: _away,
            BusyError: _away,
            KeysError: _away,
            Exception: _broken,
        },
    )
    return _Safe(app, secure=web.config.web.secure, proxy=_only_proxy(web), hosts=Hosts(web.config.web))


def _only_proxy(web: Web) -> str:
    """The one peer beside this machine that may come, "" where all may."""
    config = web.config.web
    return config.trusted_proxy if not is_loopback(config.address[0]) else ""


def _served(web: Web, methods: dict[str, Endpoint]) -> Callable[[Request], Awaitable[Any]]:
    async def serve(request: Request) -> Any:
        endpoint = methods.get(request.method)
        if endpoint is None:
            # HEAD, which comes along with GET: it would use a ticket up, or begin a stream that nobody reads.
            raise RequestError(405, "Method Not Allowed", headers={"Allow": ", ".join(methods)})
        person = await _person(web, endpoint, request)
        call = await read_call(web, endpoint, request, person)
        return answer_of(await endpoint.do(call), endpoint)

    return serve


async def _person(web: Web, endpoint: Endpoint, request: Request) -> Person:
    """Who asks, if they may; raises RequestError."""
    if endpoint.role is None:
        return _NOBODY
    try:
        person = await web.people.of(request)
    except RefusedProofError as error:
        await web.throttle.failed()
        raise RequestError(401, str(error), headers={"WWW-Authenticate": "Bearer"}) from None
    if person is None:
        raise RequestError(401, _LOG_IN, headers={"WWW-Authenticate": "Bearer"})
    if not person.role.covers(endpoint.role):
        who = person.name if person.proof else "who is not logged in"
        raise RequestError(403, f"{who} is {person.role}; {endpoint.name} needs the role {endpoint.role}")
    return person


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error.answer()


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return RequestError(error.status_code, str(error.detail), headers=error.headers).answer()


async def _away(_: Request, error: Exception) -> Response:
    return RequestError(503, str(error), headers={"Retry-After": "2"}).answer()


async def _broken(request: Request, error: Exception) -> Response:
    log.error("%s %s went wrong", request.method, request.url.path, exc_info=error)
    if isinstance(error, sqlite3.Error):
        return RequestError(503, "a file cannot be read; powerweb's log has more").answer()
    return RequestError(500, "this went wrong here; powerweb's log has more").answer()


class _Safe:
    """Adds each answer's headers; lets in only the proxy where there is one, and under known names."""

    def __init__(self, app: ASGIApp, *, secure: bool, proxy: str, hosts: Hosts) -> None:
        self._app = app
        self._headers = [*_HEADERS, *([_STRICT_TRANSPORT] if secure else [])]
        self._proxy = proxy
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        peer = (scope.get("client") or ("", 0))[0]

        async def safe_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        if self._proxy and peer != self._proxy and not is_loopback(peer):
            await RequestError(403, "come through the proxy").answer()(scope, receive, safe_send)
            return
        named = [value for name, value in scope["headers"] if name == b"host"]
        if not all(self._hosts.may_ask(value.decode("latin-1").lower()) for value in named):
            await RequestError(421, _OTHER_NAME).answer()(scope, receive, safe_send)
            return
        await self._app(scope, receive, safe_send)
