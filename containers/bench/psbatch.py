"""What psbatch adds to a submission: paired runs of sbatch and psbatch on a lab, in every state of powerctld.

Jobs are submitted held, so that nothing starts. Which of a pair comes first is drawn, so that a machine that
grows slower or faster tells nothing.
"""

import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from containers.bench.figure import Figure
from containers.bench.measures import percentile
from containers.cluster import lifecycle
from containers.cluster.lab import Lab
from containers.cluster.layout import Options

PAIRS = 50
WARM_UPS = 5
SCRIPT = "#!/bin/sh\n#SBATCH --time=5\n#PSBATCH --workload=training --flex=flex2 --max-hold=1h\ntrue\n"
# What psbatch may take more than sbatch, by the state of powerctld.
STATES = (("answering", 0.060), ("gone", 0.060), ("hung", 0.250))


class Submissions:
    """A lab to which jobs are submitted by either program."""

    def __init__(self, lab: Lab) -> None:
        self._environment = {
            "SLURM_CONF": str(lab.layout.slurm_conf),
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": "/root",
        }
        if "PYTHONPATH" in os.environ:
            self._environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self._chance = random.Random(11)  # noqa: S311  # an order, no secret
        self._script = lab.run_directory / "submitted.sh"
        self._script.write_text(SCRIPT)
        self.psbatch = str(Path(sys.executable).with_name("psbatch"))

    def pairs(self, count: int, *more: str) -> tuple[list[float], list[float]]:
        """Seconds of sbatch, and of psbatch with ``more`` options, run by run."""
        took: dict[str, list[float]] = {"sbatch": [], self.psbatch: []}
        for _ in range(count):
            names = list(took)
            self._chance.shuffle(names)
            for name in names:
                took[name].append(self._submit(name, *(more if name == self.psbatch else ())))
        return took["sbatch"], took[self.psbatch]

    def _submit(self, program: str, *more: str) -> float:
        words = [program, *more, "--hold", "--output=/dev/null", str(self._script)]
        began = time.perf_counter()
        subprocess.run(words, env=self._environment, check=True, capture_output=True)
        return time.perf_counter() - began


def psbatch_figures() -> list[Figure]:
    """Rows for docs/benchmarks.md; raises LabError when no lab can be built."""
    started = lifecycle.up(Options(power=True, nodes=1))
    try:
        submissions = Submissions(started.lab)
        submissions.pairs(WARM_UPS)
        figures = []
        for state, target_seconds in STATES:
            _bring(started.lab, state)
            figures.append(_figure(f"psbatch over sbatch, controller {state}", submissions, target_seconds))
            if state == "answering":
                figures.append(_figure("psbatch --json over sbatch", submissions, None, "--json"))
    finally:
        started.discard()
    return figures


def _bring(lab: Lab, state: str) -> None:
    match state:
        case "gone":
            lab.kill("powerctld", SIGKILL)
        case "hung":
            lab.start("powerctld")
            lab.send_signal("powerctld", SIGSTOP)
        case _:
            lab.send_signal("powerctld", SIGCONT)


def _figure(what: str, submissions: Submissions, target_seconds: float | None, *more: str) -> Figure:
    plain, ours = submissions.pairs(PAIRS, *more)
    over = [one - other for one, other in zip(ours, plain, strict=True)]
    ratio = statistics.median(ours) / statistics.median(plain)
    python = f"Python {platform.python_version()}, {os.path.realpath(sys.executable)}"
    return Figure(
        what=f"{what} ({python})",
        value=(
            f"p50 {_ms(over, 0.5)}, p99 {_ms(over, 0.99)} ms more; medians {_ms(plain, 0.5)} and"
            f" {_ms(ours, 0.5)} ms, ratio {ratio:.1f} (n = {len(over)})"
        ),
        target="" if target_seconds is None else f"p50 {1000.0 * target_seconds:.0f} ms more",
        ratio=None if target_seconds is None else percentile(over, 0.5) / target_seconds,
    )


def _ms(seconds: list[float], share: float) -> str:
    return f"{1000.0 * percentile(seconds, share):.1f}"
