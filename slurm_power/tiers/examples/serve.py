"""A small server for one tier: `python -m slurm_power.tiers.examples.serve TASK --tier FOLDER`.

    GET  /health, /ready          200 while it takes requests, 503 once it ends
    POST /infer {"items": [...]}  outputs of raw items, as the task's ``prepare`` takes them
    GET, POST /generate           prompt, tokens, temperature, seed: server-sent events, one for each token

Events are ``token``, at the end ``done``; ``error``, with type and message, where a stream cannot be
finished. Each answer names its tier in a header. The port opens only once the model is loaded, has the
pipeline that it was trained with, and has answered once. After SIGTERM it takes nothing new, finishes what it
has begun, and ends.
"""

import argparse
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import torch
from torch import nn

from slurm_power.model.job import Workload
from slurm_power.tiers.building.artifact import ArtifactError
from slurm_power.tiers.evaluating.evaluation import open_tier
from slurm_power.tiers.evaluating.generation import Sampling, generating, text_pieces, tokens_of
from slurm_power.tiers.evaluating.refusal import EvaluateError
from slurm_power.tiers.task import Task, TaskError, load_task

TIER_HEADER = "X-Model-Tier"
_MOST_BODY_BYTES = 1 << 20
_MOST_TOKENS = 4096
_MOST_ITEMS = 1024
_MOST_CHARACTERS = 20_000
_CLIENT_SECONDS = 30.0
_POLL_SECONDS = 0.05


class BadRequestError(ValueError):
    """A request cannot be answered; the message says what to send instead."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


class TierServer(ThreadingHTTPServer):
    """Serves one model. ``most_requests`` at once, others are told to come again; ``name`` is family/tier."""

    request_queue_size = 128
    daemon_threads = True  # those that are waited for are counted

    def __init__(
        self, address: tuple[str, int], *, task: Task, model: nn.Module, name: str, most_requests: int = 64
    ) -> None:
        self.task, self.model, self.name = task, model, name
        self.stopping = threading.Event()
        """What still streams is to end with an error event."""
        self.draining = threading.Event()
        self._places = threading.Semaphore(most_requests)
        self._open = 0
        self._open_changed = threading.Condition()
        self._idle = False
        super().__init__(address, _Handler, bind_and_activate=False)

    def open(self) -> None:
        """Open the port; raises OSError."""
        try:
            self.server_bind()
            self.server_activate()
        except BaseException:
            self.socket.close()
            raise

    @property
    def open_requests(self) -> int:
        """Requests whose last byte is not written yet."""
        with self._open_changed:
            return self._open

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Count a request from here to its last byte; False where there are too many."""
        taken = self._places.acquire(blocking=False)
        with self._open_changed:
            self._open += 1
        try:
            yield taken
        finally:
            if taken:
                self._places.release()
            with self._open_changed:
                self._open -= 1
                self._open_changed.notify_all()

    def run(self, drain_seconds: float) -> None:
        """Serve until `end` is called; then finish what was begun, with errors after ``drain_seconds``."""
        self.serve_forever(poll_interval=_POLL_SECONDS)
        self.timeout = 0
        while not self._idle:  # whoever is in the queue already has been let in
            self.handle_request()
        self.server_close()
        with self._open_changed:
            self._open_changed.wait_for(lambda: self._open == 0, timeout=drain_seconds)
        self.stopping.set()
        with self._open_changed:
            self._open_changed.wait_for(lambda: self._open == 0, timeout=_CLIENT_SECONDS)

    def end(self) -> None:
        """Take nothing new from now on; the second time, finish nothing either."""
        if self.draining.is_set():
            self.stopping.set()
            return
        self.draining.set()
        threading.Thread(target=self.shutdown, daemon=True).start()

    def handle_timeout(self) -> None:
        """Nobody is in the queue."""
        self._idle = True

    def server_close(self) -> None:
        """Close the listening socket, and wait for no thread: `run` does."""
        self.socket.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no matter; anything else is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed knows more of it

    def answer(self, items: list[Any]) -> dict[str, Any]:
        """Outputs of raw items; raises BadRequestError."""
        try:
            inputs = torch.stack([self.task.prepare(item) for item in items])
        except Exception as error:
            raise BadRequestError(f"items: the task's prepare() refuses them: {error}") from error
        with torch.inference_mode():
            outputs = self.model(inputs)
        if not bool(torch.isfinite(outputs).all()):
            raise BadRequestError(
                "outputs are no finite numbers: this tier must not serve", HTTPStatus.INTERNAL_SERVER_ERROR
            )
        return {"tier": self.name, "outputs": outputs.tolist(), "best": outputs.argmax(-1).tolist()}


class _Handler(BaseHTTPRequestHandler):
    """One connection with one request: after SIGTERM no kept connection may promise to take another."""

    protocol_version = "HTTP/1.1"
    server_version = "slurm-power-tier"
    timeout = _CLIENT_SECONDS
    server: TierServer

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _MOST_BODY_BYTES:
            self._say(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE if length.isdigit() else HTTPStatus.LENGTH_REQUIRED,
                _error("bad_request", f"Content-Length: a whole number up to {_MOST_BODY_BYTES}"),
            )
            return
        self._handle(self.rfile.read(int(length)))

    def _handle(self, body: bytes) -> None:
        self.close_connection = True
        with self.server.place() as taken:
            try:
                if not taken:
                    raise BadRequestError("too many requests are open", HTTPStatus.SERVICE_UNAVAILABLE)
                self._route(body)
            except BadRequestError as error:
                name = "bad_request" if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else "unavailable"
                self._say(error.status, _error(name, str(error)))

    def _route(self, body: bytes) -> None:
        address = urlsplit(self.path)
        match self.command, address.path:
            case "GET", "/health" | "/ready":
                away = self.server.draining.is_set()
                state = {
                    "tier": self.server.name,
                    "state": "draining" if away else "serving",
                    "open_requests": self.server.open_requests - 1,
                }
                self._say(HTTPStatus.SERVICE_UNAVAILABLE if away else HTTPStatus.OK, state)
            case "POST", "/infer":
                self._say(HTTPStatus.OK, self.server.answer(_items(_object(body))))
            case (("GET" | "POST"), "/generate"):
                if self.server.task.workload != Workload.GENERATION:
                    raise BadRequestError("this tier does not generate: POST /infer", HTTPStatus.NOT_FOUND)
                fields = _object(body) if body else dict(parse_qsl(address.query))
                prompt, sampling = _sampling(fields)
                if not self.server.task.prepare(prompt).numel():
                    raise BadRequestError("prompt: is empty; say how the text is to begin")
                self._stream(prompt, sampling)
            case _:
                raise BadRequestError("there are /health, /ready, /infer and /generate", HTTPStatus.NOT_FOUND)

    def _stream(self, prompt: str, sampling: Sampling) -> None:
        server = self.server
        task = generating(server.task)
        self.send_response(HTTPStatus.OK)
        for name, value in (
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-store"),
            ("Transfer-Encoding", "chunked"),  # a stream that broke off is then told from one that is whole
            ("Connection", "close"),
            (TIER_HEADER, server.name),
        ):
            self.send_header(name, value)
        self.end_headers()
        count = 0
        try:
            for piece in text_pieces(task, tokens_of(server.model, task, prompt, sampling)):
                if server.stopping.is_set():
                    self._event(
                        "error", _error("tier_ended", "the server had to end before this was complete")
                    )
                    break
                self._event("token", {"index": count, "text": piece})
                count += 1
            else:
                self._event("done", {"tier": server.name, "tokens": count, "finish": "length"})
        except (EvaluateError, RuntimeError) as error:
            self._event("error", _error("model_failed", str(error)))
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, name: str, data: Mapping[str, Any]) -> None:
        text = f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))
        self.wfile.flush()

    def _say(self, status: HTTPStatus, message: Mapping[str, Any]) -> None:
        self.close_connection = True
        body = json.dumps(message).encode()
        self.send_response(status)
        for name, value in (
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            (TIER_HEADER, self.server.name),
            *((("Retry-After", "1"),) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Requests are not told; whoever wants them logged has them in the proxy."""


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise BadRequestError("the body must be a JSON object")
    return said


def _items(said: Mapping[str, Any]) -> list[Any]:
    items = said.get("items")
    if not isinstance(items, list) or not 0 < len(items) <= _MOST_ITEMS:
        raise BadRequestError(f"items: a list of 1 to {_MOST_ITEMS} raw items")
    return items


def _sampling(said: Mapping[str, Any]) -> tuple[str, Sampling]:
    """The prompt and how to go on from it; raises BadRequestError with all problems at once."""
    problems = [f"{name}: is not known here" for name in said if name not in _BOUNDS and name != "prompt"]
    prompt = said.get("prompt")
    if not isinstance(prompt, str) or not 0 < len(prompt) <= _MOST_CHARACTERS:
        problems.append(f"prompt: a text of 1 to {_MOST_CHARACTERS} characters")
    numbers: dict[str, float] = {}
    for name, (least, most) in _BOUNDS.items():
        if name not in said:
            continue
        try:
            numbers[name] = float(said[name])
        except (TypeError, ValueError):
            numbers[name] = float("nan")
        whole = name == "temperature" or numbers[name] == numbers[name] // 1
        if not least <= numbers[name] <= most or not whole:
            problems.append(
                f"{name}: a {'' if name == 'temperature' else 'whole '}number from {least:g} to {most:g}"
            )
    if problems:
        raise BadRequestError("; ".join(problems))
    usual = Sampling()
    return str(prompt), Sampling(
        tokens=int(numbers.get("tokens", usual.tokens)),
        temperature=numbers.get("temperature", usual.temperature),
        seed=int(numbers.get("seed", usual.seed)),
    )


_BOUNDS = {"tokens": (1, _MOST_TOKENS), "temperature": (0, 10), "seed": (0, 2**31 - 1)}


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; returns 0, or 2 where the tier must not be served or has no port."""
    parser = argparse.ArgumentParser(prog="python -m slurm_power.tiers.examples.serve", description=__doc__)
    parser.add_argument("task", help="module:object or file.py:object")
    parser.add_argument("--tier", type=Path, required=True, help="the tier's folder")
    parser.add_argument("--sha256", default="", help="the folder's sum as the catalog has it")
    parser.add_argument("--name", help="FAMILY/TIER for the header (default: the folder's name)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, which is then printed")
    parser.add_argument("--address-file", type=Path, help="write http://HOST:PORT here once it listens")
    parser.add_argument("--most-requests", type=int, default=64, help="at once")
    parser.add_argument("--drain-seconds", type=float, default=600.0, help="for streams, after SIGTERM")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for each request")
    said = parser.parse_args()
    torch.set_num_threads(max(1, said.threads))
    began = time.perf_counter()
    try:
        task = load_task(said.task)
        _, model = open_tier(said.tier, task, sha256=said.sha256)
        server = TierServer(
            (said.host, said.port),
            task=task,
            model=model,
            name=said.name or said.tier.name,
            most_requests=said.most_requests,
        )
        _warm(server)
        server.open()
        if said.address_file is not None:
            _tell(said.address_file, *server.server_address[:2])
    except (TaskError, ArtifactError, EvaluateError, BadRequestError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Error: --host {said.host} --port {said.port}: {error.strerror or error}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.end())
    host, port = server.server_address[:2]
    print(
        f"serving {server.name} on http://{host!s}:{port} after {time.perf_counter() - began:.1f} s",
        flush=True,
    )
    server.run(said.drain_seconds)
    return 0


def _tell(file: Path, host: object, port: int) -> None:
    """Say where it listens, as the jobs of a service do; the file comes whole. Raises OSError."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(f"http://{name!s}:{port}\n")
    fresh.replace(file)


def _warm(server: TierServer) -> None:
    """Answer once before anybody may ask; a first answer takes longest, and shows a tier that cannot."""
    if server.task.workload == Workload.GENERATION:
        task = generating(server.task)
        for _ in tokens_of(server.model, task, str(server.task.probe()[0]), Sampling(tokens=2)):
            pass
    else:
        server.answer(list(server.task.probe())[:1])


if __name__ == "__main__":
    sys.exit(main())
