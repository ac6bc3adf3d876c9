"""A small VTN of OpenADR 3.1 for a test bed: tokens, lists by pages, everything that comes in checked."""

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
from aiohttp import web

from containers.vtn.schema3 import BY_PATH

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_TYPES = {
    "programs": "PROGRAM",
    "events": "EVENT",
    "reports": "REPORT",
    "vens": "VEN",
    "resources": "RESOURCE",
}
_UNIQUE = {"programs": "programName", "vens": "venName", "resources": "resourceName"}
_FILTERS = ("programID", "eventID", "clientName", "venName", "resourceName", "venID")
_MOST_PAGE = 50
_CHECKS = {kind: jsonschema_rs.validator_for(schema) for kind, schema in BY_PATH.items()}


class Vtn3:
    """One VTN on loopback. ``objects`` is its memory: by kind, then id; given to another, it survives."""

    def __init__(
        self,
        *,
        objects: dict[str, dict[str, dict[str, Any]]] | None = None,
        client_id: str = "ven",
        client_secret: str = "",
        token_seconds: float = 3600.0,
        port: int = 0,
    ) -> None:
        self.objects = objects if objects is not None else {kind: {} for kind in BY_PATH}
        self.client_id, self.client_secret = client_id, client_secret
        self.token_seconds = token_seconds
        self.requests: list[tuple[str, int]] = []
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.invalid: list[str] = []
        self.answer_instead: Callable[[web.Request], web.StreamResponse | None] = lambda _: None
        self.token_path, self.token_host = "/auth/token", ""
        self._tokens: set[str] = set()
        self._runner: web.AppRunner | None = None
        self._port = port

    async def start(self) -> str:
        """Listen; returns the address."""
        app = web.Application(middlewares=[self._around])
        app.router.add_post("/{path:(?:auth|elsewhere)/token}", self._token)
        app.router.add_get("/auth/server", self._server)
        app.router.add_get("/{kind}", self._list)
        app.router.add_post("/{kind}", self._create)
        app.router.add_get("/{kind}/{id}", self._one)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Hang up."""
        if self._runner is not None:
            await self._runner.cleanup()

    # --- what the utility does -----------------------------------------------------------------------------

    def put(self, kind: str, words: dict[str, Any], object_id: str = "") -> str:
        """Create an object, or put another state in its place; returns its id."""
        _CHECKS[kind].validate(words)
        return self._store(kind, words, object_id)

    def delete(self, kind: str, object_id: str) -> None:
        """Take an object away."""
        del self.objects[kind][object_id]

    def reports(self, event_id: str) -> list[dict[str, Any]]:
        """The reports on an event, oldest first."""
        return [row for row in self.objects["reports"].values() if row["eventID"] == event_id]

    def forget_tokens(self) -> None:
        """From now on no token counts that was given before."""
        self._tokens.clear()

    def _store(self, kind: str, words: dict[str, Any], object_id: str = "") -> str:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        object_id = object_id or f"{kind}-{len(self.objects[kind])}-{secrets.token_hex(3)}"
        known = self.objects[kind].get(object_id, {})
        made = known.get("createdDateTime", now)
        meta = {"id": object_id, "createdDateTime": made, "modificationDateTime": now}
        self.objects[kind][object_id] = {**words, **meta, "objectType": _TYPES[kind]}
        return object_id

    # --- the interface -------------------------------------------------------------------------------------

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        instead = self.answer_instead(request)
        if instead is not None:
            answer = instead
        elif (
            not request.path.endswith(("/token", "/server"))
            and self.client_secret
            and not self._knows(request)
        ):
            answer = _problem(401, "who are you?")
        else:
            answer = await handler(request)
        self.requests.append((f"{request.method} {request.path_qs}", answer.status))
        return answer

    def _knows(self, request: web.Request) -> bool:
        return request.headers.get("Authorization", "").removeprefix("Bearer ") in self._tokens

    async def _server(self, request: web.Request) -> web.StreamResponse:
        """Where tokens are, as a VTN of 3.1 says it."""
        host = self.token_host or str(request.url.origin())
        return web.json_response({"tokenURL": host + self.token_path})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        if request.path != self.token_path:
            return _problem(404, "no tokens here")
        form = await request.post()
        good = form.get("client_id") == self.client_id and form.get("client_secret") == self.client_secret
        if form.get("grant_type") != "client_credentials" or not good:
            return web.json_response({"error": "invalid_client"}, status=401)
        token = secrets.token_urlsafe(16)
        self._tokens.add(token)
        return web.json_response(
            {"access_token": token, "token_type": "Bearer", "expires_in": self.token_seconds}
        )

    async def _list(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["kind"]
        if kind not in BY_PATH:
            return _problem(404, "no such list")
        skip, limit = int(request.query.get("skip", 0)), int(request.query.get("limit", _MOST_PAGE))
        if not 0 <= limit <= _MOST_PAGE or skip < 0:
            return _problem(400, "skip and limit")
        rows = list(self.objects[kind].values())
        for key in _FILTERS:
            if key in request.query:
                rows = [row for row in rows if row.get(key) == request.query[key]]
        targets = set(request.query.getall("targets", []))
        rows = [row for row in rows if _is_shown(row.get("targets") or [], targets)]
        text = json.dumps(rows[skip : skip + limit])
        mark = f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == mark:
            return web.Response(status=304)
        return web.Response(text=text, content_type="application/json", headers={"ETag": mark})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["kind"]
        if kind not in BY_PATH:
            return _problem(404, "no such list")
        words = await request.json()
        self.posted.append((kind, words))
        try:
            _CHECKS[kind].validate(words)
        except jsonschema_rs.ValidationError as error:
            self.invalid.append(f"{kind}: {error.message}")
            return _problem(400, error.message)
        name = _UNIQUE.get(kind)
        if name is not None and any(row[name] == words[name] for row in self.objects[kind].values()):
            return _problem(409, f"{name} is taken")
        if kind == "reports" and words["eventID"] not in self.objects["events"]:
            return _problem(404, "no such event")
        return web.json_response(self.objects[kind][self._store(kind, words)], status=201)

    async def _one(self, request: web.Request) -> web.StreamResponse:
        found = self.objects.get(request.match_info["kind"], {}).get(request.match_info["id"])
        return _problem(404, "gone") if found is None else web.json_response(found)


def _is_shown(targets: list[Any], asked: set[str]) -> bool:
    """Plain words, as of 3.1, decide who sees an object; those of 3.0 leave that to the reader."""
    words = {word for word in targets if isinstance(word, str)}
    return not words or bool(words & asked)


def _problem(status: int, title: str) -> web.Response:
    return web.json_response({"title": title, "status": status}, status=status)
