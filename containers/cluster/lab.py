"""Talk to a running lab: run commands inside it, and start, stop and kill its daemons by name."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from containers.cluster.daemons import SYSTEM_PATH, DaemonPlan, base_environment, plan
from containers.cluster.host import enter
from containers.cluster.layout import CHECKOUT, USERS, LabError, Layout, load, venv_programs

POLL_SECONDS = 0.02
START_SECONDS = 60.0
STOP_SECONDS = 10.0
LOG_LINES = 12
# Commands of ours that a root directory with another Slurm does not hold: they need more than the stdlib.
HOST_PROGRAMS = frozenset({"slurm-power"})


class Lab:
    """A running lab; raises LabError when it does not answer."""

    def __init__(self, layout: Layout, supervisor_pid: int) -> None:
        self.layout = layout
        self.run_directory = layout.run
        self.supervisor_pid = supervisor_pid
        self._plans = {daemon.name: daemon for daemon in plan(layout)}

    # --- commands ---------------------------------------------------------------------------------------

    def command(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        directory: Path | None = None,
        on_host: bool | None = None,
    ) -> tuple[list[str], dict[str, str]]:
        """Return the host's command line and environment that run ``argv`` inside the lab as ``user``.

        With a ``slurm_root`` programs are found there; ``on_host``: on the host (default: only a few are).
        """
        people = {person.name: self.run_directory / "home" / person.name for person in USERS}
        if user != "root" and user not in people:
            raise LabError(f"no user {user!r} in the lab; there are root, {', '.join(people)}")
        home = people.get(user, Path("/root"))
        start = directory or people.get(user, self.run_directory)
        line = ["nsenter", "--target", str(self.supervisor_pid), "--mount", "--pid", "--root", "--"]
        if on_host is None:
            on_host = argv[0] in HOST_PROGRAMS
        line += () if on_host else enter(self.layout.slurm_root)
        if user != "root":
            line += [
                "setpriv",
                f"--reuid={user}",
                f"--regid={user}",
                "--init-groups",
                "--inh-caps=-all",
                "--",
            ]
        environment = {
            "HOME": str(home),
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/bash",
            "PATH": f"{self.layout.run}/bin:{venv_programs()}:{SYSTEM_PATH}",
            "SLURM_CONF": str(self.layout.slurm_conf),
            "LANG": "C.UTF-8",
            "TERM": os.environ.get("TERM", "dumb"),
        }
        return [*line, "env", f"--chdir={start}", "--", *argv], environment

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        directory: Path | None = None,
        on_host: bool | None = None,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the lab and capture what it says; raises LabError on failure if ``check``."""
        line, clean = self.command(argv, user=user, directory=directory, on_host=on_host)
        try:
            done = subprocess.run(
                line,
                check=False,
                capture_output=True,
                text=True,
                input=stdin,
                env={**clean, **(environment or {})},
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{' '.join(argv)}: not done after {timeout_seconds:g} s") from error
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()}")
        return done

    def login_link(self) -> str:
        """A link that logs root into the dashboard, once, within a minute; raises LabError."""
        own = {"PYTHONPATH": str(CHECKOUT)}
        return self.run(["slurm-power", "web", "login"], environment=own).stdout.strip()

    def job(self, job_id: int | str) -> dict[str, str]:
        """Return what ``scontrol -o show job`` says of a job, by field; empty when Slurm does not know it."""
        done = self.run(["scontrol", "-o", "show", "job", str(job_id)], check=False, timeout_seconds=10.0)
        return dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)

    # --- daemons ----------------------------------------------------------------------------------------

    @property
    def daemon_names(self) -> tuple[str, ...]:
        """All daemons in their starting order."""
        return tuple(self._plans)

    def status(self) -> dict[str, dict[str, Any]]:
        """Each started daemon's process (in the lab's numbering), number of starts, exit status or None."""
        return self._ask({"op": "status"})

    def is_running(self, name: str) -> bool:
        """Say whether the daemon's process is there."""
        daemon = self.status().get(self._plan(name).name)
        return daemon is not None and daemon["status"] is None

    def start(self, name: str) -> None:
        """Start a daemon and wait until it serves."""
        self.spawn(name)
        self.await_service(name)

    def spawn(self, name: str) -> None:
        """Start a daemon's process without waiting for its service."""
        daemon = self._plan(name)
        environment = {**base_environment(self.layout), **daemon.environment}
        self.spawn_command(name, daemon.argv, environment)

    def spawn_command(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a daemon by a command of the caller's own, as a unit of systemd has one."""
        daemon = self._plan(name)
        for file in daemon.stale_files:
            file.unlink(missing_ok=True)
        request = {
            "op": "spawn",
            "name": name,
            "argv": list(argv),
            "environment": dict(environment),
            "output": str(self.run_directory / "log" / f"{name}{daemon.output_suffix}"),
        }
        self._ask(request)

    def await_service(self, name: str) -> None:
        """Wait until a daemon serves; raises LabError with the end of its log when it ends before."""
        daemon = self._plan(name)
        deadline = time.monotonic() + START_SECONDS
        while not self._serves(daemon):
            state = self.status()[name]
            if state["status"] is not None:
                raise LabError(f"{name} ended with status {state['status']}:\n{self.last_words(name)}")
            if time.monotonic() > deadline:
                raise LabError(f"{name} does not serve after {START_SECONDS:g} s:\n{self.last_words(name)}")
            time.sleep(POLL_SECONDS)

    def send_signal(self, name: str, number: int) -> None:
        """Send a signal to a daemon's process; nothing happens when it has ended already."""
        self._ask({"op": "signal", "name": self._plan(name).name, "signal": number})

    def stop(self, *names: str) -> None:
        """End daemons with SIGTERM, after some seconds with SIGKILL, and wait until they are gone."""
        running = [name for name in names if self.is_running(name)]
        for number in (SIGTERM, SIGKILL):
            for name in running:
                self.send_signal(name, number)
            deadline = time.monotonic() + STOP_SECONDS
            while running and time.monotonic() < deadline:
                states = self.status()
                running = [name for name in running if states[name]["status"] is None]
                time.sleep(POLL_SECONDS if running else 0.0)
        if running:
            raise LabError(f"still there after SIGKILL: {', '.join(running)}")

    def kill(self, name: str, number: int = SIGKILL) -> None:
        """Send a signal; after SIGKILL wait until the process is gone."""
        self.send_signal(name, number)
        if number == SIGKILL:
            self.wait_until(lambda: not self.is_running(name), f"the end of {name}", seconds=STOP_SECONDS)

    def restart(self, name: str) -> None:
        """Stop a daemon if it runs, start it, and wait until it serves."""
        self.stop(name)
        self.start(name)

    def groups(self) -> list[list[str]]:
        """The daemons that start together, in starting order."""
        grouped: dict[str, list[str]] = {}
        for daemon in self._plans.values():
            grouped.setdefault(daemon.group, []).append(daemon.name)
        return list(grouped.values())

    def idle_nodes(self) -> int:
        """Count the nodes Slurm calls idle."""
        done = self.run(["timeout", "5", "sinfo", "-h", "-N", "-t", "idle", "-o", "%N"], check=False)
        return len(done.stdout.split()) if done.returncode == 0 else 0

    def wait_until(self, happened: Callable[[], bool], what: str, *, seconds: float) -> None:
        """Poll until ``happened()``; raises LabError naming ``what`` after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                raise LabError(f"gave up after {seconds:g} s waiting for {what}")
            time.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Tell the supervisor to end everything at once."""
        self._ask({"op": "end"})

    def last_words(self, name: str) -> str:
        """Return the last lines of a daemon's log and of what it printed."""
        lines = []
        for suffix in (".log", ".out"):
            with contextlib.suppress(OSError):
                text = (self.run_directory / "log" / f"{name}{suffix}").read_text(errors="replace")
                lines += text.splitlines()[-LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines)

    def _serves(self, daemon: DaemonPlan) -> bool:
        if not daemon.serves():
            return False
        if daemon.name != "slurmctld":
            return True
        # Its port opens before it has read its state.
        done = self.run(["timeout", "2", "scontrol", "ping"], check=False)
        return " UP" in done.stdout

    def _plan(self, name: str) -> DaemonPlan:
        if name not in self._plans:
            raise LabError(f"no daemon {name!r} in this lab; there are {', '.join(self._plans)}")
        return self._plans[name]

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        address = str(self.run_directory / "run" / "supervisor.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5.0)
            try:
                connection.connect(address)
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("r") as lines:
                    answer: dict[str, Any] = json.loads(lines.readline() or "{}")
            except (OSError, ValueError) as error:
                raise LabError(
                    f"{self.run_directory}: the lab's supervisor does not answer ({error})"
                ) from error
        if "error" in answer:
            raise LabError(f"{request['op']} {request.get('name', '')}: {answer['error']}")
        return answer


def running_labs() -> dict[Path, int]:
    """Find every running lab by its supervisor's command line: run directory to process id on the host."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            outer, inner = _namespaced_pids(process)
        except OSError:  # it ended meanwhile
            continue
        # The same words stand in unshare's command line, but unshare is not PID 1 of the inner namespace.
        if inner == 1 and outer == int(process.name) and "containers.cluster.supervisor" in words:
            found[Path(words[words.index("containers.cluster.supervisor") + 1])] = outer
    return found


def _namespaced_pids(process: Path) -> tuple[int, int]:
    """Return a process's id in our namespace and in its own innermost one."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("NSpid:"):
            numbers = [int(word) for word in line.split()[1:]]
            return (numbers[0], numbers[-1]) if len(numbers) > 1 else (numbers[0], 0)
    return 0, 0


def find(run: Path | None) -> Lab:
    """Return the running lab in ``run``, or the only one there is; raises LabError."""
    labs = running_labs()
    if run is None:
        if len(labs) != 1:
            names = ", ".join(map(str, sorted(labs))) or "none"
            raise LabError(f"name the lab with --dir; running: {names}")
        run = next(iter(labs))
    run = run.resolve()
    if run not in labs:
        raise LabError(f"{run}: no lab runs there")
    return Lab(load(run), labs[run])
