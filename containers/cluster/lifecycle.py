"""Bring a lab up and take it down, leaving nothing behind on any way out."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from containers.cluster import configuration, host, ports
from containers.cluster.accounting import create_accounts, create_database, create_database_user
from containers.cluster.daemons import SYSTEM_PATH, absent, exists
from containers.cluster.lab import Lab, find, running_labs
from containers.cluster.layout import CHECKOUT, LabError, Layout, Options, RefusedError, state_file

IDLE_SECONDS = 60.0
END_SECONDS = 15.0
CONTROL_MODULE = "containers.plant.nvml_control"


class StartedLab:
    """A lab under construction or in a test's hands: it ends when its holder ends, unless detached."""

    def __init__(self, lab: Lab, process: "subprocess.Popen[bytes]", lifeline: socket.socket) -> None:
        self.lab = lab
        self._process = process
        self._lifeline = lifeline

    def detach(self) -> None:
        """Let the lab live on without us; raises LabError when it has ended already."""
        self._lifeline.sendall(b"detach\n")
        if self._lifeline.recv(64) != b"detached\n":
            raise LabError("the lab ended while it was handed over")
        self._lifeline.close()
        self._process.returncode = 0  # nobody waits for it any more

    def discard(self) -> None:
        """End the lab at once and remove its directory; does nothing when it has ended already."""
        self._lifeline.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        if self._process.poll() is None:
            self._process.kill()  # its child, PID 1 of the lab, dies with it
            self._process.wait()
        shutil.rmtree(self.lab.run_directory, ignore_errors=True)

    def down(self) -> None:
        """End the daemons in order, then the lab, and remove its directory."""
        if self.lab.run_directory in running_labs():
            with contextlib.suppress(LabError):
                stop_daemons(self.lab)
        self.discard()


def up(
    options: Options,
    *,
    directory: Path | None = None,
    host_root: Path | None = Path("/"),
    say: Callable[[str], None] = lambda _text: None,
) -> StartedLab:
    """Build a lab and wait until its nodes are idle; it ends with the caller until it is detached.

    ``host_root`` is where the host's own Slurm is looked for, None to not look. Raises RefusedError when
    nothing was changed, LabError when the lab failed to start and was removed again.
    """
    options.check()
    host.check_tools()
    host.check_root()
    if directory is not None:
        directory = Path(os.path.abspath(directory))  # noqa: PTH100 - Path.absolute() leaves '..' in it
        host.check_place(directory, fresh=False)
    if host_root is not None:
        host.refuse_configured_host(host_root)
    host.install_packages(_package_groups(options))
    run = _make_run_directory(directory)
    try:
        base, claim = ports.reserve_block()
        with claim:
            layout = Layout(
                run=run,
                options=options,
                host=socket.gethostname().split(".")[0],
                slurm_version=host.slurm_version(Path(options.slurm_root or "/")),
                ports=ports.assign(base, options.nodes),
                snmp={
                    "community": "public-lab",
                    "user": "meter",
                    "auth_key": secrets.token_hex(12),
                    "priv_key": secrets.token_hex(12),
                },
            )
            configuration.write_record(layout)
            configuration.write_all(layout)
            started = _launch(layout, claim)
    except BaseException:
        shutil.rmtree(run, ignore_errors=True)
        raise
    try:
        _start_all(started.lab, say)
    except BaseException:
        started.discard()
        raise
    return started


def _package_groups(options: Options) -> list[str]:
    groups = ["cluster"]
    groups += ["accounting"] if options.accounting else []
    groups += ["build"] if options.power else []
    return groups


def _make_run_directory(directory: Path | None) -> Path:
    if directory is None:
        run = Path(tempfile.mkdtemp(prefix="slurm-power-")).resolve()
        try:
            host.check_place(run, fresh=True)
        except RefusedError:
            run.rmdir()
            raise
    else:
        run = directory
        run.mkdir(parents=True, exist_ok=True)
    run.chmod(0o755)
    return run


def _launch(layout: Layout, claim: socket.socket) -> StartedLab:
    """Start the namespaces with their supervisor; it ends when our end of the lifeline closes."""
    ours, theirs = socket.socketpair()
    argv = ["unshare", "--mount-proc", "--pid", "--mount", "--fork", "--kill-child", sys.executable]
    argv += [
        "-m",
        "containers.cluster.supervisor",
        str(layout.run),
        str(theirs.fileno()),
        str(claim.fileno()),
    ]
    with theirs, (layout.run / "log" / "supervisor.out").open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={"PATH": SYSTEM_PATH, "PYTHONPATH": str(CHECKOUT), "LANG": "C.UTF-8"},
            pass_fds=(theirs.fileno(), claim.fileno()),
            start_new_session=True,
        )
    ours.settimeout(END_SECONDS)
    try:
        greeted = ours.recv(64)
    except OSError:
        greeted = b""
    supervisor_pid = running_labs().get(layout.run)
    if greeted != b"up\n" or supervisor_pid is None:
        ours.close()
        process.kill()
        process.wait()
        said = (layout.run / "log" / "supervisor.out").read_text(errors="replace").strip()
        raise LabError(f"cannot make the lab's namespaces: {said or 'the supervisor did not start'}")
    return StartedLab(Lab(layout, supervisor_pid), process, ours)


def _start_all(lab: Lab, say: Callable[[str], None]) -> None:
    if lab.layout.options.power:
        _build_power_parts(lab)
        for name in absent(lab.layout):
            say(f"note: this checkout holds no {name}, the lab goes without it")
    if lab.layout.options.accounting:
        create_database(lab)
    for group in lab.groups():
        say(f"starting {', '.join(group)}")
        for name in group:
            lab.spawn(name)
        for name in group:
            lab.await_service(name)
        if group == ["mariadbd"]:
            create_database_user(lab)
        if group == ["slurmctld"] and lab.layout.options.accounting:
            create_accounts(lab)
    nodes = lab.layout.options.nodes
    lab.wait_until(lambda: lab.idle_nodes() == nodes, f"{nodes} idle nodes", seconds=IDLE_SECONDS)


def _build_power_parts(lab: Lab) -> None:
    """Compile inside the lab, so that no compiler outlives a starter that was killed."""
    sources = configuration.spank_sources()
    if sources:
        target = str(configuration.spank_plugin(lab.layout))
        flags = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra"]
        lab.run(["cc", *flags, "-o", target, *map(str, sources)], timeout_seconds=60.0)
    if exists(CONTROL_MODULE):
        program = f"import pathlib, sys, {CONTROL_MODULE} as c; c.build_library(pathlib.Path(sys.argv[1]))"
        argv = [sys.executable, "-c", program, str(lab.run_directory / "lib")]
        lab.run(argv, environment={"PYTHONPATH": str(CHECKOUT)}, timeout_seconds=120.0, on_host=True)


def stop_daemons(lab: Lab) -> None:
    """Stop the daemons, the last started first; raises LabError when one cannot be ended."""
    for group in reversed(lab.groups()):
        lab.stop(*group)


def down(run: Path, *, keep: bool = False) -> None:
    """End the lab in ``run``, whatever its state, and remove the directory unless ``keep``.

    Does nothing when there is neither a lab nor a directory; raises RefusedError when the directory is not
    a lab's, LabError when its processes cannot be ended.
    """
    run = run.resolve()
    pid = running_labs().get(run)
    if pid is None and run.exists() and not state_file(run).exists():
        raise RefusedError(f"{run}: is no lab of ours; it stays as it is")
    if pid is not None:
        with contextlib.suppress(LabError):  # a broken lab is ended the hard way below
            stop_daemons(find(run))
            find(run).end()
        _await_end(run, pid)
    if not keep:
        shutil.rmtree(run, ignore_errors=True)


def _await_end(run: Path, pid: int) -> None:
    """Wait for the supervisor's end, by SIGKILL if it does not go by itself."""
    deadline = time.monotonic() + (END_SECONDS if _is_ending(run) else 0.0)
    while running_labs().get(run) == pid and time.monotonic() < deadline:
        time.sleep(0.01)
    if running_labs().get(run) == pid:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + END_SECONDS
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise LabError(f"{run}: process {pid} does not end")
        time.sleep(0.01)


def _is_ending(run: Path) -> bool:
    try:
        return "asked to end" in (run / "log" / "supervisor.log").read_text()
    except OSError:
        return False
