"""Run streams of tests side by side; what fails there is judged once more, alone.

    python -m tests.streams 'loop=tests/loop' 'rest=--ignore=tests/loop' 'sums~=-n 2 tests/plan' -- -q

Each stream is one pytest, with what comes after ``--`` added; ``~`` marks one that only calculates and takes
what the others leave of the machine. The streams share few cores, and many tests watch clocks: one that was
late beside the others has to be right alone, and is named at the end. More than a few that failed are no
matter of lateness: then nothing is judged again (docs/decisions/0127).
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

MOST_JUDGED_AGAIN = 10
_SOME_FAILED = 1  # pytest's exit status for it; all others mean that it did not get through
_TELL_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_PERCENT = re.compile(r"\[ *(\d+)%\]")


@dataclass(slots=True)
class Stream:
    """One pytest: its words, where its output and its cache are, and how it ended."""

    name: str
    words: tuple[str, ...]
    folder: Path
    calculates: bool = False
    pid: int = 0
    status: int | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / f"{self.name}-tests.txt"

    @property
    def cache(self) -> Path:
        """The folder in which its pytest remembers what failed."""
        return self.folder / f"{self.name}-cache"

    def command(self, *more: str) -> list[str]:
        """The command of its pytest."""
        pytest = [sys.executable, "-m", "coverage", "run", "-m", "pytest"]
        return [*pytest, "-o", f"cache_dir={self.cache.absolute()}", *self.words, *more]

    def failed(self) -> list[str]:
        """The tests that failed, by their names."""
        try:
            return sorted(json.loads((self.cache / "v/cache/lastfailed").read_text()))
        except FileNotFoundError:
            return []

    def percent(self) -> str:
        """How far it is."""
        found = _PERCENT.findall(self.log.read_text(errors="replace")[-4000:])
        return f"{self.name} {found[-1] if found else 0} %"

    def start(self) -> None:
        """Start it, with its output in its log."""
        shutil.rmtree(self.cache, ignore_errors=True)
        with self.log.open("wb") as log:
            made = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=self.calculates,
            )
        if self.calculates:
            _stand_back(made.pid)
        self.pid, self.seconds = made.pid, time.monotonic()
        _started.append(made)

    def look(self) -> bool:
        """Whether it has just ended."""
        if self.status is not None:
            return False
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if not pid:
            return False
        self.status = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - self.seconds
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        return True


# Kept, so that nobody complains of children that were not waited for: wait4 does that here.
_started: list[subprocess.Popen[bytes]] = []


def _stand_back(pid: int) -> None:
    """Have a new process give way to all others, also where the kernel shares cores out by session."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, 19)
        Path(f"/proc/{pid}/autogroup").write_text("19")


def run_beside(streams: Sequence[Stream]) -> None:
    """Run all at once, and print each one's output when it ends."""
    began = told = time.monotonic()
    for stream in streams:
        stream.start()
    while any(stream.status is None for stream in streams):
        time.sleep(_LOOK_SECONDS)
        for stream in streams:
            if stream.look():
                print(stream.log.read_text(errors="replace"), flush=True)
                minutes = f"{stream.seconds / 60:.1f} minutes, {stream.cpu_seconds / 60:.1f} of a core"
                print(f"== {stream.name}: exit status {stream.status} after {minutes}", flush=True)
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            rest = ", ".join(stream.percent() for stream in streams if stream.status is None)
            print(f"== after {(told - began) / 60:.0f} minutes: {rest}", flush=True)


def judge_again(streams: Sequence[Stream]) -> int:
    """Run what failed once more, stream by stream; returns the exit status for all."""
    broken = [stream for stream in streams if stream.status not in (0, _SOME_FAILED)]
    doubtful = [stream for stream in streams if stream.status == _SOME_FAILED]
    failed = {stream.name: stream.failed() for stream in doubtful}
    count = sum(map(len, failed.values()))
    if broken or count > MOST_JUDGED_AGAIN or not all(failed.values()):
        return 1
    status = 0
    for stream in doubtful:
        print(f"== once more, alone: {' '.join(failed[stream.name])}", flush=True)
        if subprocess.call(stream.command("--last-failed", "--last-failed-no-failures=none")) != 0:
            status = 1
    if status == 0:
        for name in (name for names in failed.values() for name in names):
            print(f"== failed beside others, passed alone: {name}", flush=True)
    return status


def _end_all(number: int, _frame: FrameType | None) -> None:
    for made in _started:
        with suppress(OSError):
            os.kill(made.pid, number)
    sys.exit(128 + number)


def main(words: Sequence[str]) -> int:
    """Run the streams that ``words`` name; 0 when all that failed was right alone."""
    own, common = list(words), []
    if "--" in own:
        at = own.index("--")
        own, common = own[:at], own[at + 1 :]
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    streams = []
    for word in own:
        name, _, arguments = word.partition("=")
        options = (*shlex.split(arguments), *common)
        streams.append(Stream(name.rstrip("~"), options, folder, calculates=name.endswith("~")))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_all)
    run_beside(streams)
    return judge_again(streams)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
