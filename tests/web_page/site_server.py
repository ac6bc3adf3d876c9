"""A small server with the dashboard's page and the HTTP interface, answering from a recorded site."""

import copy
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import slurm_power

STATIC = Path(slurm_power.__file__).parent / "web" / "static"
RECORDED = Path(__file__).parent / "recorded"
# The policy of slurm_power/web/app.py.
POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_TYPES_OF_ANSWERS = "application/json"
_TICK_SECONDS = 0.1


def recorded(name: str) -> Any:
    """What a running lab has answered once."""
    return json.loads((RECORDED / f"{name}.json").read_text())


class Site:
    """What the server tells; tests change it while a browser looks. Times are moved to now."""

    def __init__(self) -> None:
        self.picture: dict[str, Any] = recorded("live")
        self.recorded_seconds = datetime.fromisoformat(self.picture["at"]).timestamp()
        self.me = {
            "name": "root",
            "role": "operator",
            "may": ["add_event", "cancel_event", "control", "release", "weights"],
        }
        self.answers: dict[str, Any] = {
            name: recorded(name) for name in ("history", "forecast", "ledger", "savings", "events", "why")
        }
        self.refusals: dict[str, tuple[int, dict[str, Any]]] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.clock_stands = False
        self.stream_refused = False
        self.tick_seconds = _TICK_SECONDS
        self.connections = 0
        self.played: list[dict[str, Any]] = []
        self.plays = False
        self.changed = threading.Condition()

    def now_picture(self) -> dict[str, Any]:
        """The picture of this moment."""
        at = self.recorded_seconds if self.clock_stands else time.time()
        role = {"name": self.me["name"], "role": self.me["role"]}
        return {**self.picture, "at": datetime.fromtimestamp(at, UTC).isoformat(), "you": role}

    def change(self, **parts: Any) -> None:
        """Tell something else from now on, in the next picture."""
        with self.changed:
            self.picture = {**self.picture, **parts}
            self.changed.notify_all()

    def play(self, pictures: list[dict[str, Any]]) -> None:
        """Tell just these from now on, one after the other as fast as they are taken."""
        with self.changed:
            self.plays = True
            self.played += pictures
            self.changed.notify_all()

    def next_pictures(self) -> list[dict[str, Any]]:
        """What is to be told now."""
        with self.changed:
            found, self.played = self.played, []
            return found if self.plays else [self.now_picture()]

    def answer(self, name: str, query: dict[str, str]) -> Any:
        """The answer to one path of the interface."""
        shift = time.time() - self.recorded_seconds
        found = copy.deepcopy(self.answers[name])
        if name == "history":
            found["at_seconds"] = [at + shift for at in found["at_seconds"]]
        if name == "forecast":
            for each in found["forecasts"].values():
                if each is not None:
                    each["issued_seconds"] += shift
        if name == "ledger":
            entries = [
                entry
                for entry in found["entries"]
                if entry["sequence"] < int(query.get("before", 1 << 60))
                and query.get("kind", entry["kind"]) == entry["kind"]
                and query.get("job", entry["job_id"]) == entry["job_id"]
            ]
            most = int(query.get("most", 50))
            found = {"entries": entries[-most:], "more": len(entries) > most}
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site
    stopping: threading.Event

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Say nothing."""

    def do_GET(self) -> None:
        """Files of the page, answers of the interface, and the stream."""
        where = urlparse(self.path)
        if not where.path.startswith("/api/v1/"):
            self._file(where.path)
            return
        pieces = [unquote(piece) for piece in where.path.removeprefix("/api/v1/").split("/")]
        name = pieces[-1] if pieces[0] == "jobs" else pieces[0]
        if name in self.site.refusals:
            status, words = self.site.refusals[name]
            self._json(words, status)
        elif name == "stream":
            self._stream()
        elif name == "me":
            self._json(self.site.me)
        elif name == "live":
            self._json(self.site.now_picture())
        else:
            query = {key: values[0] for key, values in parse_qs(where.query).items()}
            self.site.asked.append(("GET", self.path, {}, None))
            self._json(self.site.answer(name, query))

    def _deed(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.site.asked.append((self.command, self.path, headers, body))
        name = self.path.removeprefix("/api/v1/").split("/")[0]
        if name in self.site.refusals:
            status, words = self.site.refusals[name]
            self._json(words, status)
        elif name == "events" and self.command == "POST":
            self._json({"event_id": "ev-9", "limit_watts": body.get("limit_watts"), "shortfall": None})
        else:
            self._json({"released": {"cap": 2}, "kept_for_safety_count": 0})

    do_POST = _deed  # noqa: N815 - the base class finds it by this name
    do_PUT = _deed  # noqa: N815 - the same
    do_DELETE = _deed  # noqa: N815 - the same

    def _file(self, path: str) -> None:
        file = (STATIC / (path.lstrip("/") or "index.html")).resolve()
        if not (file.is_relative_to(STATIC) and file.is_file()):
            self._send(b"not found", "text/plain", 404)
            return
        self._send(file.read_bytes(), _TYPES.get(file.suffix, "text/plain"))

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store" if kind == _TYPES_OF_ANSWERS else "max-age=600")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        if self.site.stream_refused:
            self._json({"error": "powerweb is going away", "problems": []}, 503)
            return
        self.site.connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            while not (self.stopping.is_set() or self.site.stream_refused):
                for picture in self.site.next_pictures():
                    self.wfile.write(f"event: site\ndata: {json.dumps(picture)}\n\n".encode())
                self.wfile.flush()
                with self.site.changed:
                    if not self.site.played:
                        self.site.changed.wait(self.site.tick_seconds)
        except (BrokenPipeError, ConnectionResetError):
            return  # the browser has gone


@dataclass(frozen=True)
class Serving:
    """A running server."""

    address: str
    handler: type[_Handler]

    def tell(self, site: Site) -> None:
        """Answer as ``site`` from now on."""
        self.handler.site = site


@contextmanager
def serving(site: Site) -> Iterator["Serving"]:
    """Serve a site on loopback; another one may take its place while the browser keeps the page's files."""
    stopping = threading.Event()
    handler = type("Handler", (_Handler,), {"site": site, "stopping": stopping})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Serving(f"http://127.0.0.1:{server.server_address[1]}/", handler)
    finally:
        stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
