"""A real HTTP server in a thread that does what a test tells it, well or badly."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class BadServer:
    """``answer`` is what it does with each GET; ``asked`` are the requests, with their headers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Answer = body(b"[]")
        self.over = threading.Event()


def body(content: bytes, status: int = 200, **headers: str) -> Answer:
    """Answer with this; header names with underscores in place of hyphens."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


@contextmanager
def bad_server(tls: ssl.SSLContext | None = None) -> Iterator[BadServer]:
    """Serve on loopback while the block runs, by HTTPS as localhost where there is ``tls``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
            try:
                server.answer(self)
            except OSError:
                # The client has hung up, as it should on the worse answers.
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as http.server has it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        if tls is None:
            server = BadServer(f"http://127.0.0.1:{listening.server_port}")
        else:
            listening.socket = tls.wrap_socket(
                listening.socket, server_side=True, do_handshake_on_connect=False
            )
            server = BadServer(f"https://localhost:{listening.server_port}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            listening.shutdown()
            thread.join()
