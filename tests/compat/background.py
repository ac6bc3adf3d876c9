"""Submissions that wait for their jobs, and jobs that run: they take their time while others are compared.

``sbatch --wait`` looks every two seconds at first, then less often.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.compat.case import Case, script
from tests.compat.record import submitted_number
from tests.compat.runner import environment_of
from tests.compat.slurm import Outcome, Slurm, finish, run

PROGRAMS = ("sbatch", "psbatch")
USER = "bob"
PATIENCE_SECONDS = 60.0
NOTE_PID = 'echo $$ >"pid.$1"; exec "$@"'

# All that a job can see of how it was submitted: its words, its environment and what it inherited.
LOOK = script(
    "printf 'word %s\\0' \"$@\"",
    "env -0 | sort -z",
    "umask; ulimit -a; pwd; nice",
    "grep -E '^(Sig[BIC]|Cap|Seccomp:)' /proc/self/status",
    "for one in 0 1 2; do readlink /proc/$$/fd/$one; done",
    'cat "$0"',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitCase:
    """A submission with ``--wait``, and what is done to it once it waits: a signal's name, or ``cancel``."""

    name: str
    words: tuple[str, ...]
    text: bytes
    then: str = ""
    environment: tuple[tuple[str, str], ...] = ()


def _ends(status: str) -> bytes:
    return script(status)


WAITS = (
    WaitCase(name="a job that succeeds", words=("--wait", "job.sh"), text=_ends("exit 0")),
    WaitCase(name="a job that fails", words=("--wait", "job.sh"), text=_ends("exit 3")),
    WaitCase(name="a job that is killed", words=("-W", "job.sh"), text=_ends("kill -KILL $$")),
    WaitCase(name="no script to run", words=("--wait", "job.sh"), text=b"#!/no/such/interpreter\n"),
    WaitCase(name="an array", words=("-W", "-a1-3", "job.sh"), text=_ends("exit $SLURM_ARRAY_TASK_ID")),
    WaitCase(name="parsable", words=("--wait", "--parsable", "job.sh"), text=_ends("exit 4")),
    WaitCase(name="quiet", words=("--wait", "-Q", "job.sh"), text=_ends("exit 5")),
    WaitCase(name="by a line", words=("job.sh",), text=script("#SBATCH --wait", "exit 6")),
    WaitCase(
        name="by a variable", words=("job.sh",), text=_ends("exit 7"), environment=(("SBATCH_WAIT", "1"),)
    ),
    WaitCase(name="a word of ours", words=("--wait", "--flex=2", "job.sh"), text=_ends("exit 8")),
    WaitCase(name="refused", words=("--wait", "-pside", "job.sh"), text=_ends("exit 0")),
    WaitCase(name="cancelled", words=("-H", "--wait", "job.sh"), text=_ends("exit 0"), then="cancel"),
    WaitCase(name="interrupted", words=("-H", "--wait", "job.sh"), text=_ends("exit 0"), then="INT"),
    WaitCase(name="terminated", words=("-H", "--wait", "job.sh"), text=_ends("exit 0"), then="TERM"),
    WaitCase(name="hung up", words=("-H", "--wait", "job.sh"), text=_ends("exit 0"), then="HUP"),
    WaitCase(name="quit", words=("-H", "--wait", "job.sh"), text=_ends("exit 0"), then="QUIT"),
)

RUNS = (
    Case(held=False, name="plain", words=("job.sh",)),
    Case(
        held=False,
        name="with arguments",
        words=("job.sh", "", "a b", "it's", "one\ntwo", "--hold", b"\xff\xfe"),
    ),
    Case(held=False, name="nothing exported", words=("--export=NONE", "job.sh")),
    Case(
        held=False,
        name="some exported",
        words=("--export=OWN,FRESH=a b", "job.sh"),
        environment={"OWN": b"\xff", "NOT": "1"},
    ),
    Case(
        held=False,
        name="odd variables",
        words=("job.sh",),
        environment={"BASH_FUNC_x%%": "() { :\n}", "OWN": "a\nb"},
    ),
    Case(held=False, name="no locale", words=("job.sh",), environment={"LANG": None}),
    Case(held=False, name="on input", stdin=LOOK),
    Case(
        held=False,
        name="ignored signals",
        words=("job.sh",),
        through='trap "" INT PIPE HUP USR1; umask 027; exec "$@"',
    ),
    Case(
        held=False,
        name="limits",
        words=("job.sh",),
        through='ulimit -c 0; ulimit -n 500; ulimit -s 4096; exec nice -n 2 "$@"',
    ),
    Case(held=False, name="closed input", words=("job.sh",), through='exec "$@" <&-'),
)


class Background:
    """Everything started at once; the results are asked for at the end."""

    def __init__(self, slurm: Slurm) -> None:
        self._slurm = slurm
        self._base = slurm.home / "background"
        self._base.mkdir()
        self._base.chmod(0o777)
        self._waiting = {
            (case.name, program): self._start(case, program) for case in WAITS for program in PROGRAMS
        }
        self._submitted = {
            (case.name, program): self._submit(case, program) for case in RUNS for program in PROGRAMS
        }
        for case in WAITS:
            if case.then:
                self._meddle(case)

    # --- submissions that wait ---------------------------------------------------------------------------

    def _folder(self, kind: str, name: str) -> Path:
        # Without digits, which could be taken for a job's number.
        folder = self._base / kind / re.sub(r"\W+", "_", name)
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o777)
        return folder

    def _start(self, case: WaitCase, program: str) -> "subprocess.Popen[bytes]":
        folder = self._folder("wait", case.name)
        (folder / "job.sh").write_bytes(case.text)
        return self._slurm.start(
            [
                b"sh",
                b"-c",
                NOTE_PID.encode(),
                b"sh",
                program.encode(),
                *(word.encode() for word in case.words),
            ],
            user=USER,
            directory=os.fsencode(folder),
            environment={name.encode(): value.encode() for name, value in case.environment},
        )

    def _meddle(self, case: WaitCase) -> None:
        """Cancel both jobs, or signal both commands once they sleep between two looks."""
        folder = self._folder("wait", case.name)
        if case.then == "cancel":
            self._until(lambda: len(self.jobs_in(folder)) == 2, f"both jobs of {case.name!r}")
            for number in self.jobs_in(folder):
                run(self._slurm, [b"scancel", number.encode()])
            return
        for program in PROGRAMS:
            self._until(partial(self._sleeps, folder / f"pid.{program}"), f"{program}'s wait")
            pid = (folder / f"pid.{program}").read_text().strip()
            run(self._slurm, [b"kill", f"-{case.then}".encode(), pid.encode()])

    def _sleeps(self, file: Path) -> bool:
        if not file.exists() or not file.read_text().endswith("\n"):
            return False
        place = f"/proc/{file.read_text().strip()}"
        done = run(self._slurm, [b"cat", f"{place}/comm".encode(), f"{place}/wchan".encode()])
        return done.stdout.startswith(b"sbatch\n") and b"nanosleep" in done.stdout

    def jobs_in(self, folder: Path) -> dict[str, str]:
        """The jobs submitted in a folder, with their states."""
        done = run(
            self._slurm, [b"squeue", b"--noheader", b"--user=bob", b"--states=all", b"--format=%i|%T|%Z"]
        )
        rows = [line.split("|") for line in done.stdout.decode().splitlines()]
        return {number: state for number, state, place in rows if place == str(folder)}

    def _until(self, happened: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            if time.monotonic() > deadline:
                raise TimeoutError(f"gave up waiting for {what}")
            time.sleep(0.05)

    def waited(self, case: WaitCase) -> tuple[Outcome, Outcome]:
        """How both commands ended, and the jobs of theirs that still wait, as they are now."""
        one, other = (
            finish(self._waiting[case.name, program], timeout_seconds=PATIENCE_SECONDS)
            for program in PROGRAMS
        )
        return one, other

    def states(self, case: WaitCase) -> list[str]:
        """The states of all the case's jobs."""
        return sorted(self.jobs_in(self._folder("wait", case.name)).values())

    # --- jobs that run -----------------------------------------------------------------------------------

    def _submit(self, case: Case, program: str) -> int:
        folder = self._folder("run", case.name)
        (folder / "job.sh").write_bytes(LOOK)
        words = case.command(program, 0)
        place = words.index(program.encode()) + 1
        words[place:place] = [b"--nodelist=c1", b"--output=%j.txt"]
        done = run(
            self._slurm,
            words,
            user=USER,
            directory=os.fsencode(folder),
            environment=environment_of(case),
            stdin=case.stdin,
        )
        number = submitted_number(done.stdout)
        if number is None:
            raise RuntimeError(f"{program}, {case.name}: {done.stderr!r}")
        return number

    def seen(self, case: Case, program: str) -> list[bytes]:
        """What a job saw, its own numbers taken out."""
        folder = self._folder("run", case.name)
        number = self._submitted[case.name, program]
        self._until(lambda: self.jobs_in(folder)[str(number)] == "COMPLETED", f"job {number}")
        text = (folder / f"{number}.txt").read_bytes()
        text = re.sub(rb"(SLURM_TASK_PID|SLURM_JOB_(?:START|END)_TIME|SLURM_JOB_SLUID)=\w+", rb"\1=N", text)
        return re.sub(rb"(?<!\d)%d(?!\d)" % number, b"<job>", text).split(b"\0")
