"""A lab whose daemons are killed and stopped on purpose: submit, look, break, mend, and put back in order."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers.cluster.lab import Lab
from containers.cluster.layout import LabError
from containers.demo.stage import ask

PATIENCE_SECONDS = 90.0
LOOK_SECONDS = 5
FINAL = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"}
)
# The smallest lease that a site may set, so that a trial does not take minutes.
HOLD_LEASE_SECONDS = 10
SITE_LINES = """
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL PriorityTier=100 MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """A daemon that is gone (``down``, by SIGKILL) or does not answer (``hung``, by SIGSTOP)."""

    daemon: str
    hung: bool = False

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.daemon} {'hung' if self.hung else 'down'}" if self.daemon else "none"

    @property
    def stops_slurm(self) -> bool:
        """Whether Slurm itself cannot go on meanwhile."""
        return self.daemon in {"munged", "slurmctld"}


NO_FAULT = Fault("")
FAULTS = (
    NO_FAULT,
    *(
        Fault(daemon, hung)
        for daemon in ("powerctld", "powerd", "munged", "slurmctld")
        for hung in (False, True)
    ),
)


class Ground:
    """A running lab; ``ours``: with slurm-power in it, so that jobs go through psbatch."""

    def __init__(self, lab: Lab, *, ours: bool) -> None:
        self.lab = lab
        self.ours = ours
        self._jobs = 0
        self._dead_nodes: set[str] = set()

    @classmethod
    def prepare(cls, lab: Lab, *, ours: bool) -> "Ground":
        """Add what the trials need to a fresh lab: an urgent partition, holds with the shortest lease."""
        with lab.layout.slurm_conf.open("a") as file:
            file.write(SITE_LINES)
        lab.restart("slurmctld")
        if ours:
            site = lab.layout.etc / "site.toml"
            text = site.read_text().replace(
                "[controller]\n", f"[controller]\nhold_lease_seconds = {HOLD_LEASE_SECONDS}\n"
            )
            site.write_text(text)
            lab.restart("powerctld")
        ground = cls(lab, ours=ours)
        ground.tidy()
        return ground

    # --- jobs -------------------------------------------------------------------------------------------

    def submission(self, *options: str, user: str = "alice", plain: bool = False) -> "Submission":
        """Start a submission of a job that runs until it is let go."""
        self._jobs += 1
        go = self.lab.run_directory / "home" / "alice" / f"go.{self._jobs}"
        ours = self.ours and not plain
        words = ["psbatch", "--workload=training", "--flex=flex3"] if ours else ["sbatch"]
        words += ["--parsable", "--gres=gpu:1", "--time=10", "--output=/dev/null", *options]
        # Each component of a heterogeneous job gets the script of the first.
        script = f"touch {go}.up 2>/dev/null; until test -e {go}; do sleep 0.1; done"
        line, environment = self.lab.command([*words, f"--wrap={script}"], user=user)
        process = subprocess.Popen(
            line,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Submission(process, go)

    def submit(self, *options: str, user: str = "alice", plain: bool = False) -> "Job":
        """Submit while nothing is broken; raises LabError."""
        submission = self.submission(*options, user=user, plain=plain)
        job = submission.finish()
        if job is None:
            raise LabError(f"a submission without any fault failed: {submission.said}")
        return job

    def records(self, number: str) -> list[dict[str, str]]:
        """What Slurm says of a job, a dict for each component or task; empty when it does not know it."""
        done = self.slurm("scontrol", "-o", "show", "job", number, check=False)
        return [
            dict(word.split("=", 1) for word in line.split() if "=" in word)
            for line in done.splitlines()
            if line.startswith("JobId=")
        ]

    def states(self, number: str) -> set[str]:
        """The states of all components and tasks."""
        return {record["JobState"] for record in self.records(number)}

    def await_state(self, job: "Job", state: str) -> None:
        """Wait until all of a job is in a state."""
        self.until(lambda: self.states(job.number) == {state}, f"job {job.number} {state}")

    def await_running(self, job: "Job") -> None:
        """Wait until the script of a job of alice's has begun; Slurm calls it running before that."""
        self.await_state(job, "RUNNING")
        self.until(job.up.exists, f"the script of job {job.number}")

    def slurm(self, *words: str, check: bool = True) -> str:
        """Run a command of Slurm's as root; one that gets no answer is ended."""
        done = self.lab.run(["timeout", str(LOOK_SECONDS), *words], check=False)
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def until(self, happened: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Poll; raises LabError naming ``what``."""
        self.lab.wait_until(happened, what, seconds=seconds)

    def await_saved(self) -> None:
        """Wait until Slurm has written its jobs down: killed before, it loses them by itself."""
        state = self.lab.run_directory / "state" / "slurmctld" / "job_state"
        asked_at = time.time()
        # A change, so that there is something to write.
        marker = self.slurm("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true").strip()
        self.until(lambda: state.exists() and state.stat().st_mtime > asked_at, "Slurm's own state")
        self.slurm("scancel", marker)

    def nodes(self) -> dict[str, str]:
        """Each node's state, with the reason where there is one."""
        rows = self.slurm(
            "sinfo", "--noheader", "-N", "-p", "main", "-o", "%N|%T|%E", check=False
        ).splitlines()
        words = [row.split("|") for row in rows]
        return {name: state if reason == "none" else f"{state}: {reason}" for name, state, reason in words}

    def hurry(self, job: "Job") -> None:
        """Let a requeued job start soon, where Slurm makes it wait for two minutes; and let it go.

        Not at once: started within the second of its first run's end it fails with "credential revoked".
        """

        def requeued() -> bool:
            records = self.records(job.number)
            return bool(records) and (records[0]["Restarts"] != "0" or records[0]["JobState"] in FINAL)

        self.until(requeued, "its requeue")
        self.until(
            lambda: self.states(job.number) <= FINAL | {"PENDING", "RUNNING"}, "the end of its first run"
        )
        job.let_go()
        if self.states(job.number) == {"PENDING"}:
            self.slurm("scontrol", "update", f"jobid={job.number}", "starttime=now+2", check=False)

    # --- holds ------------------------------------------------------------------------------------------

    def power(self, **request: Any) -> dict[str, Any]:
        """Ask powerctld as root."""
        return ask(self.lab.run_directory / "run" / "powerctld.sock", request)

    def announce(self, limit_watts: int, seconds: int) -> None:
        """Lower the grid's limit for a while, as an operator does."""
        words = ["slurm-power", "event", "grid", f"--limit-watts={limit_watts}", f"--for={seconds}s"]
        self.lab.run([*words, "--reason=a trial"])

    def holds(self, job: "Job") -> bool:
        """Whether powerctld holds a job."""
        rows = self.power(op="status")["jobs"]
        return any(row["job_id"] == job.number and row["hold_ends_in_seconds"] for row in rows)

    # --- faults -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """Break something, and mend it afterwards."""
        self.begin(fault)
        try:
            yield
        finally:
            self.mend()

    def begin(self, fault: Fault) -> None:
        """Break something."""
        for name in self._daemons(fault):
            if not fault.hung:
                self.lab.kill(name)
            elif fault.daemon == "powerd":
                for process in self._powerd_processes(name):
                    os.kill(process, signal.SIGSTOP)
            else:
                self.lab.send_signal(name, signal.SIGSTOP)

    def mend(self) -> None:
        """Bring back every daemon, whatever was done to it."""
        for name in self.lab.daemon_names:
            if name.partition(".")[2] in self._dead_nodes and name.startswith("slurmd."):
                continue
            if not self.lab.is_running(name):
                self.lab.start(name)
                continue
            self.lab.send_signal(name, signal.SIGCONT)
            if name.startswith("powerd."):
                for process in self._powerd_processes(name):
                    os.kill(process, signal.SIGCONT)
        self.until(lambda: " UP" in self.slurm("scontrol", "ping", check=False), "slurmctld")

    def kill_node(self, node: str) -> None:
        """Kill slurmd and all that runs of jobs, as a loss of power does; mending does not bring it back."""
        self._dead_nodes.add(node)
        self.lab.kill(f"slurmd.{node}")
        for process in self._processes("slurmstepd", "slurm_script"):
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(process, signal.SIGKILL)

    def scripts_stopped(self) -> bool:
        """Whether the scripts of all jobs have been stopped; Slurm calls a job suspended before that."""
        scripts = self._processes("slurm_script")
        stopped = [
            Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] for process in scripts
        ]
        return bool(stopped) and set(stopped) == {"T"}

    def _processes(self, *names: str) -> list[int]:
        """This lab's processes of these names, as the host numbers them."""
        ours = Path(f"/proc/{self.lab.supervisor_pid}/ns/pid").readlink()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                name = (folder / "comm").read_text().strip()
                if name in names and (folder / "ns/pid").readlink() == ours:
                    found.append(int(folder.name))
        return found

    def revive_nodes(self) -> None:
        """Bring dead nodes back, and up, as an operator does where slurmd alone does not do it."""
        nodes, self._dead_nodes = self._dead_nodes, set()
        self.mend()
        for node in nodes:
            self.slurm("scontrol", "update", f"nodename={node}", "state=resume", check=False)

    def _daemons(self, fault: Fault) -> Sequence[str]:
        return [name for name in self.lab.daemon_names if fault.daemon and name.split(".")[0] == fault.daemon]

    def _powerd_processes(self, name: str) -> list[int]:
        """A node's powerd with its children and its watchdog, as the host numbers them."""
        node = name.partition(".")[2]
        of_daemon = f"{self.lab.layout.etc}/node.toml"
        of_watchdog = str(self.lab.run_directory / "state" / f"powerd.{node}")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(
                OSError, UnicodeDecodeError
            ):  # it ended meanwhile, or is somebody else's
                words = (folder / "cmdline").read_bytes().decode().split("\0")
                if (of_daemon in words and node in words) or of_watchdog in words:
                    found.append(int(folder.name))
        return found

    # --- order ------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Bring the lab back to rest: daemons, jobs, nodes, events."""
        self._dead_nodes.clear()
        self.mend()
        for user in ("alice", "bob", "root"):
            self.slurm("scancel", f"--user={user}", check=False)
        for go in (self.lab.run_directory / "home" / "alice").glob("go.*"):
            go.unlink()
        self.until(lambda: not self.slurm("squeue", "--noheader").strip(), "an empty queue")
        for name, state in self.nodes().items():
            if not state.startswith(("idle", "completing")):
                self.slurm("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        self.until(lambda: set(self.nodes().values()) == {"idle"}, "idle nodes")
        if self.ours:
            self.until(self._answers, "powerctld")
            for event in self.power(op="status")["events"]:
                self.lab.run(["slurm-power", "cancel-event", event["event_id"]])

    def _answers(self) -> bool:
        try:
            return bool(self.power(op="status"))
        except (OSError, json.JSONDecodeError):  # it is coming up
            return False


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted job, and the file that ends it."""

    number: str
    go: Path

    @property
    def up(self) -> Path:
        """The file that its script makes first."""
        return self.go.with_name(f"{self.go.name}.up")

    def let_go(self) -> None:
        """Let it, all its tasks and its later runs end."""
        self.go.touch()
        self.go.chmod(0o644)


class Submission:
    """A submission under way; ``said`` is what it printed when it did not submit."""

    def __init__(self, process: "subprocess.Popen[str]", go: Path) -> None:
        self._process = process
        self._go = go
        self.status: int | None = None
        self.said = ""

    def finish(self, seconds: float = PATIENCE_SECONDS) -> Job | None:
        """Wait for its end; returns the job, None when none was made."""
        with self._process:
            try:
                stdout, stderr = self._process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self.said = f"no answer after {seconds:g} s"
                return None
        self.status = self._process.returncode
        self.said = stderr.strip()
        return Job(stdout.strip().split(";")[0], self._go) if self.status == 0 else None
