"""Tell the controller that a job is about to be submitted, within a fixed time whatever happens.

The public ``socket`` and ``signal`` cost 10 ms at import, more than all of psbatch's own work; the C modules
below them are enough here.
"""

from __future__ import annotations

import _socket
import _thread
import os

TIMEOUT_SECONDS = 0.150
# Only so that the thread ends where sbatch is a child; who waits has gone on long before.
_SOCKET_SECONDS = 1.0
HINT = b'{"type":"submitting"}\n'
MAX_ANSWER_BYTES = 4096


def announce(address: str) -> str:
    """Send the hint to ``host:port``; return an empty text if it was noted, else the reason why not.

    A thread does the work: name service and connect know no total time-out, but waiting for a lock does, and
    the exec that follows takes a hanging thread with it.
    """
    result: list[str] = []
    done = _thread.allocate_lock()
    done.acquire()

    def ask() -> None:
        try:
            result.append(_ask(address))
        finally:
            done.release()

    try:
        _thread.start_new_thread(ask, ())
    except RuntimeError:
        return "no thread could be started"
    if not done.acquire(timeout=TIMEOUT_SECONDS):
        return f"no answer within {TIMEOUT_SECONDS * 1000:.0f} ms"
    return result[0] if result else "failed"


def _ask(address: str) -> str:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        if not host or not 0 < int(port) < 65536:
            return "not host:port"
        family, kind, protocol, _, target = _socket.getaddrinfo(host, int(port), 0, _socket.SOCK_STREAM)[0]
        connection = _socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_SOCKET_SECONDS)
            connection.connect(target)
            connection.sendall(HINT)
            answer = _first_line(connection)
        finally:
            connection.close()
    except (OSError, ValueError) as error:
        return _reason(error)
    return "" if answer.startswith(b"{") and b'"noted"' in answer else "it answered something else"


def _first_line(connection: _socket.socket) -> bytes:
    answer = b""
    while b"\n" not in answer and len(answer) < MAX_ANSWER_BYTES:
        piece = connection.recv(MAX_ANSWER_BYTES)
        if not piece:
            break
        answer += piece
    return answer.partition(b"\n")[0]


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "not host:port"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
