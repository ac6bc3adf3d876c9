"""PID 1 of a lab's namespaces: starts what it is told to, records exits, ends all with itself.

``python -m containers.cluster.supervisor RUN LIFELINE CLAIM`` with two inherited sockets: LIFELINE leads to
the starter and ends the lab at end-of-file unless 'detach' came before; CLAIM holds the lab's block of ports.
Requests come as one JSON object per connection on RUN/run/supervisor.sock.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers.cluster.layout import CHECKOUT, load
from containers.cluster.mounts import furnish, give_own_etc, make_visible

REQUEST_SECONDS = 2.0


@dataclass(slots=True, kw_only=True)
class Daemon:
    """A process started by name; ``status`` is its exit status (negative: signal) once it has ended."""

    pid: int
    starts: int
    status: int | None = None


class Supervisor:
    """The state of one lab's processes."""

    def __init__(self, run: Path, lifeline: socket.socket) -> None:
        self._run = run
        self._lifeline = lifeline
        self._detached = False
        self._daemons: dict[str, Daemon] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def serve(self) -> None:
        """Handle children, requests and the starter until told to end."""
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        address = self._run / "run" / "supervisor.sock"
        self._listener.bind(str(address))
        address.chmod(0o600)
        self._listener.listen(16)
        for source in (self._wake_read, self._listener, self._lifeline):
            self._selector.register(source, selectors.EVENT_READ)
        self._log("up")
        self._lifeline.sendall(b"up\n")
        while True:
            for key, _events in self._selector.select():
                if not self._handle(key.fileobj):
                    return

    def _handle(self, source: object) -> bool:
        if source is self._wake_read:
            numbers = self._wake_read.recv(4096)
            self._reap()
            return not {signal.SIGTERM, signal.SIGINT} & set(numbers)
        if source is self._lifeline:
            return self._hear_starter()
        connection, _address = self._listener.accept()
        with connection:
            return self._answer(connection)

    def _hear_starter(self) -> bool:
        try:
            said = self._lifeline.recv(64)
        except OSError:
            said = b""
        if not said and not self._detached:
            self._log("the starter is gone: ending the lab")
            return False
        if said.startswith(b"detach"):
            self._detached = True
            self._lifeline.sendall(b"detached\n")
        if not said or self._detached:
            self._selector.unregister(self._lifeline)
            self._lifeline.close()
        return True

    def abandoned(self) -> bool:
        """Say whether the starter went away before it handed the lab over."""
        return not self._detached

    def _answer(self, connection: socket.socket) -> bool:
        connection.settimeout(REQUEST_SECONDS)
        try:
            with connection.makefile("r") as lines:
                request = json.loads(lines.readline())
            if request["op"] == "end":
                self._log("asked to end")
                connection.sendall(b"{}\n")
                return False
            connection.sendall(json.dumps(self._obey(request)).encode() + b"\n")
        except (OSError, ValueError, KeyError, TypeError) as error:
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        return True

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["op"]:
            case "spawn":
                return {"pid": self._spawn(request)}
            case "signal":
                daemon = self._daemons[request["name"]]
                if daemon.status is None:
                    self._log(
                        f"{request['name']}: sending signal {request['signal']} to process {daemon.pid}"
                    )
                    os.kill(daemon.pid, request["signal"])
                return {"running": daemon.status is None}
            case "status":
                return {
                    name: {"pid": daemon.pid, "starts": daemon.starts, "status": daemon.status}
                    for name, daemon in self._daemons.items()
                }
            case unknown:
                raise ValueError(f"unknown op {unknown!r}")

    def _spawn(self, request: dict[str, Any]) -> int:
        name = request["name"]
        before = self._daemons.get(name)
        if before is not None and before.status is None:
            raise ValueError(f"{name} runs already as process {before.pid}")
        argv = request["argv"]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, request["output"], flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        pid = os.posix_spawn(argv[0], argv, request["environment"], file_actions=actions, setsid=True)
        self._daemons[name] = Daemon(pid=pid, starts=1 if before is None else before.starts + 1)
        self._log(f"{name}: started as process {pid}: {' '.join(argv)}")
        return pid

    def _reap(self) -> None:
        while True:
            try:
                pid, raw_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for name, daemon in self._daemons.items():
                if daemon.pid == pid and daemon.status is None:
                    daemon.status = os.waitstatus_to_exitcode(raw_status)
                    self._log(f"{name}: process {pid} ended with status {daemon.status}")

    def _log(self, text: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # The directory may have been removed under us; a lab must still be able to end.
        with contextlib.suppress(OSError), (self._run / "log" / "supervisor.log").open("a") as log:
            log.write(f"{now} {text}\n")


def main(arguments: list[str]) -> int:
    """Run as PID 1; returns when the lab has ended."""
    run = Path(arguments[0])
    lifeline = socket.socket(fileno=int(arguments[1]))
    claim = socket.socket(fileno=int(arguments[2]))
    if os.getpid() != 1:
        raise SystemExit("the supervisor is PID 1 of a lab's namespace; use: python -m containers.cluster up")
    os.chdir("/")
    os.umask(0o022)
    lifeline.set_inheritable(False)
    claim.set_inheritable(False)
    make_visible()
    give_own_etc(run / "etc", run / "run")
    layout = load(run)
    if layout.options.slurm_root:
        give_own_etc(layout.root_etc, run / "run", layout.slurm_root / "etc")
        furnish(layout.slurm_root, (run, CHECKOUT))
    supervisor = Supervisor(run, lifeline)
    supervisor.serve()
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    if supervisor.abandoned():
        shutil.rmtree(run, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
