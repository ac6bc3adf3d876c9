"""A stand-in for sbatch that writes down, byte for byte, what it was started with."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = """#!/bin/sh
cat /proc/$$/cmdline > "$RECORD/argv"
cat /proc/$$/environ > "$RECORD/environ"
grep SigIgn /proc/$$/status > "$RECORD/signals"
echo $$ > "$RECORD/pid"
cat > "$RECORD/stdin"
if [ -n "$RECORD_SAYS" ]; then printf '%s\n' "$RECORD_SAYS" >&2; fi
case " $* " in
    *" --test-only "*) ;;
    *" --parsable "*) echo "7;north" ;;
    *) echo "Submitted batch job 7" ;;
esac
exit "${RECORD_STATUS:-0}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of psbatch left behind; ``argv`` is None when sbatch was never started."""

    status: int
    stdout: bytes
    stderr: bytes
    pid: int
    argv: list[bytes] | None
    environ: dict[bytes, bytes]
    stdin: bytes
    ignored_signals: int
    sbatch_pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """A directory with the recording sbatch, and a home without settings."""

    directory: Path

    @property
    def home(self) -> Path:
        return self.directory / "home"

    def run(
        self,
        *arguments: str | bytes,
        stdin: bytes = b"",
        status: int = 0,
        path: str | None = None,
        environ: Mapping[bytes, bytes] | None = None,
        controller: str | None = None,
        command: tuple[str, ...] = (sys.executable, "-m", "slurm_power.cli.psbatch"),
    ) -> Outcome:
        """Run psbatch to its end and collect what sbatch saw."""
        record = self.directory / "record"
        for old in record.iterdir():
            old.unlink()
        conf = self.directory / "slurm-power.conf"
        if controller is not None:
            with conf.open("a") as file:
                file.write(f"controller={controller}\n")
        given = {
            b"PATH": os.fsencode(path or f"{self.directory}/bin:/usr/bin:/bin"),
            b"HOME": os.fsencode(self.home),
            b"PYTHONPATH": os.fsencode(PROJECT),
            b"RECORD": os.fsencode(record),
            b"RECORD_STATUS": str(status).encode(),
            b"SLURM_POWER_CONF": os.fsencode(conf),
            **(environ or {}),
        }
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=given,
            cwd=self.directory,
        )
        stdout, stderr = process.communicate(stdin, timeout=30)
        argv = record / "argv"
        seen = argv.exists()
        return Outcome(
            status=process.returncode,
            stdout=stdout,
            stderr=stderr,
            pid=process.pid,
            argv=argv.read_bytes().split(b"\0")[2:-1] if seen else None,
            environ=_environ(record / "environ") if seen else {},
            stdin=(record / "stdin").read_bytes() if seen else b"",
            ignored_signals=int((record / "signals").read_text().split()[1], 16) if seen else 0,
            sbatch_pid=int((record / "pid").read_text()) if seen else 0,
        )

    def site(self, text: str) -> None:
        """Write slurm-power.conf."""
        (self.directory / "slurm-power.conf").write_text(text)

    def user(self, text: str) -> None:
        """Write the user's psbatch.conf."""
        file = self.home / ".config/slurm-power/psbatch.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def script(self, text: str, name: str = "job.sh") -> str:
        """Write a job script and return its path."""
        file = self.directory / name
        file.write_text(text)
        return str(file)


def make_recorder(directory: Path) -> Recorder:
    """Create the recording sbatch in ``directory``."""
    for name in ("bin", "home", "record"):
        (directory / name).mkdir()
    sbatch = directory / "bin/sbatch"
    sbatch.write_text(SCRIPT)
    sbatch.chmod(0o755)
    return Recorder(directory=directory)


def _environ(file: Path) -> dict[bytes, bytes]:
    pairs = (item.partition(b"=") for item in file.read_bytes().split(b"\0") if item)
    return {name: value for name, _, value in pairs}


@contextmanager
def controller(answer: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """Listen on a port; answer the first line with ``answer``, or never if None; yield what came in."""
    received: list[bytes] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while not stop.is_set():
                    connection, _ = server.accept()
                    with connection:
                        received.append(connection.recv(4096))
                        if answer is None:
                            stop.wait(10)
                        else:
                            connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", received
        finally:
            stop.set()
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()
