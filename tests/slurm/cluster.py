"""The lab as these tests use it: from outside its namespaces, through SLURM_CONF, as powerctld does."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

from containers.cluster.lab import Lab


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until ``condition`` holds; raises TimeoutError naming ``what``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"gave up after {seconds:g} s waiting for {what}")
        time.sleep(0.05)


class Cluster:
    """Slurm's commands against a lab, as root."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.conf = lab.layout.slurm_conf

    def run(self, *words: str, check: bool = True) -> str:
        """Run one Slurm command and return what it printed."""
        environment = {"PATH": os.environ["PATH"], "SLURM_CONF": str(self.conf), "TZ": "UTC"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def run_as(self, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of the lab, whatever comes of it."""
        return self._lab.run(words, user=user, check=False)

    def submit(self, *options: str, seconds: float = 60) -> str:
        """Submit a job that sleeps; returns its id."""
        printed = self.run(
            "sbatch", "--parsable", "-o", "/dev/null", "-D", "/tmp", *options, "--wrap", f"sleep {seconds}"
        )
        return printed.strip().split(";")[0]

    @contextlib.contextmanager
    def silent_controller(self) -> Iterator[None]:
        """Stop slurmctld's process for a while: its port still accepts, nobody answers."""
        self._lab.send_signal("slurmctld", signal.SIGSTOP)
        try:
            yield
        finally:
            self._lab.send_signal("slurmctld", signal.SIGCONT)
            eventually(lambda: " UP" in self.run("scontrol", "ping", check=False), 10, "slurmctld")

    @contextlib.contextmanager
    def no_controller(self) -> Iterator[None]:
        """End slurmctld for a while: its port refuses."""
        self._lab.stop("slurmctld")
        try:
            yield
        finally:
            self._lab.start("slurmctld")
