"""``python -m containers.bench.scheduler``: what it costs to speak to a Slurm with 10,000 jobs in its queue.

A cluster of its own with that many waiting jobs, and each adapter that works here: the whole list, a look at
one job, a hold and a release. Processor time is this process's and that of all commands and workers it
started. pyslurm is measured where it can be imported. Needs root, as the lab does.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from containers.bench.figure import Figure, markdown
from containers.cluster.lab import Lab
from containers.cluster.layout import Options
from containers.cluster.lifecycle import up
from slurm_power.ports import Scheduler
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.parse import JobReader, squeue_format
from slurm_power.slurm.scheduler_cli import CliScheduler
from slurm_power.slurm.scheduler_pyslurm import PyslurmScheduler, PyslurmWorker

JOBS = 10_000
LISTS, CALLS = 10, 100
_TAGS = '{"power":{"workload":"training","flex":"flex2","max_hold_seconds":1800}}'
_MARK = "~bench~"
_OLD_LIST = """
import json, resource, sys, time
import pyslurm
found = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    jobs = pyslurm.job().get()
    found.append(time.perf_counter() - began)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([len(jobs), found, (used.ru_utime + used.ru_stime) / len(found)]))
"""


@dataclass(slots=True)
class Timed:
    """Wall seconds of each call, and processor seconds of all of them."""

    wall_seconds: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0

    def figures(self, what: str) -> list[Figure]:
        """The median, and the processor time of one call."""
        count = len(self.wall_seconds)
        median = 1000.0 * statistics.median(self.wall_seconds)
        worst = 1000.0 * max(self.wall_seconds)
        return [
            Figure(what=what, value=f"p50 {median:.1f}, most {worst:.1f} ms (n = {count})"),
            Figure(what=f"{what}: processor time", value=f"{1000.0 * self.cpu_seconds / count:.1f} ms"),
        ]


def cpu_seconds() -> float:
    """What this process has used, and its children, those that have ended and those that live."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ticks = 0
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            stat = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            ticks += int(stat[11]) + int(stat[12])
    return sum(used.ru_utime + used.ru_stime for used in each) + ticks / os.sysconf("SC_CLK_TCK")


async def timed(call: Callable[[int], Awaitable[object]], count: int) -> Timed:
    """Make that many calls, one after the other."""
    found, before = Timed(), cpu_seconds()
    for number in range(count):
        began = time.perf_counter()
        await call(number)
        found.wall_seconds.append(time.perf_counter() - began)
    found.cpu_seconds = cpu_seconds() - before
    return found


def fill(lab: Lab, jobs: int) -> list[str]:
    """Let that many jobs wait, each with a record of its own; returns the ids of some."""
    conf = lab.layout.slurm_conf
    conf.write_text(f"{conf.read_text()}\nMaxJobCount={2 * jobs}\nMaxArraySize={jobs + 1}\n")
    lab.restart("slurmctld")
    environment = {"PATH": os.environ["PATH"], "SLURM_CONF": str(conf), "TZ": "UTC"}

    def run(*words: str, text: str | None = None) -> str:
        done = subprocess.run(
            words, env=environment, input=text, capture_output=True, text=True, timeout=600, check=True
        )
        return done.stdout.strip()

    words = (
        "sbatch",
        "--parsable",
        "-o/dev/null",
        "-D/tmp",
        "-n1",
        "--gres=gpu:1",
        "-t60",
        "--begin=now+2days",
    )
    array = run(*words, f"--array=0-{jobs - 1}", "--wrap=true")
    # A task that differs from its array becomes a record of its own; one scontrol writes to all of them.
    run(
        "scontrol",
        text="".join(
            f"update JobId={array}_{task} Name=j{task} AdminComment={_TAGS}\n" for task in range(jobs)
        ),
    )
    alone = [run(*words, "--wrap=true") for _ in range(CALLS)]
    for job_id in alone:
        run("scontrol", "update", f"JobId={job_id}", f"AdminComment={_TAGS}")
    return alone


async def measured(name: str, port: Scheduler, alone: list[str]) -> list[Figure]:
    """All figures of one adapter."""
    listed = await port.jobs()
    figures = [Figure(what=f"{name}: jobs listed", value=str(len(listed)))]
    figures += (await timed(lambda _: port.jobs(), LISTS)).figures(f"{name}: all jobs")
    hold = await timed(lambda number: port.hold(alone[number], 300_000.0, "a bench"), len(alone))
    release = await timed(lambda number: port.release(alone[number]), len(alone))
    return [*figures, *hold.figures(f"{name}: hold"), *release.figures(f"{name}: release")]


async def parse_figures(conf: Path) -> list[Figure]:
    """How much of a list is our own reading of it."""
    commands = CommandRunner(conf)
    words = ("squeue", "--noheader", "--all", "--states=all", f"--Format={squeue_format(_MARK)}")
    text = await commands.run(*words)

    reader = JobReader()

    async def parse(_: int) -> None:
        JobReader().read(text, _MARK)

    async def again(_: int) -> None:
        reader.read(text, _MARK)

    async def command(_: int) -> None:
        await commands.run(*words)

    await again(0)
    parsed, same, printed = await timed(parse, LISTS), await timed(again, LISTS), await timed(command, LISTS)
    return [
        *printed.figures("squeue alone"),
        *parsed.figures("reading its list for the first time"),
        *same.figures("reading a list in which nothing is new"),
    ]


def old_list(conf: Path) -> list[Figure]:
    """What pyslurm's own list with all attributes costs, in a process of its own."""
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    done = subprocess.run(
        (sys.executable, "-c", _OLD_LIST, str(LISTS)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        return [Figure(what="pyslurm.job().get()", value="is not in this version")]
    count, wall_seconds, cpu = json.loads(done.stdout)
    found = Timed(wall_seconds, cpu * len(wall_seconds))
    return [Figure(what="pyslurm.job().get(): jobs", value=str(count)), *found.figures("pyslurm.job().get()")]


async def run(jobs: int) -> list[Figure]:
    """Bring a cluster up, measure, take it down."""
    started = up(Options(nodes=1))
    try:
        alone = fill(started.lab, jobs)
        conf = started.lab.layout.slurm_conf
        with tempfile.TemporaryDirectory() as folder:
            holds = Path(folder) / "holds.json"
            figures = await measured("commands", CliScheduler(CommandRunner(conf), hold_file=holds), alone)
            figures += await parse_figures(conf)
            if importlib.util.find_spec("pyslurm"):
                port = PyslurmScheduler(PyslurmWorker(conf), CommandRunner(conf), hold_file=holds)
                try:
                    figures += await measured("pyslurm", port, alone)
                finally:
                    await port.close()
                figures += old_list(conf)
        return figures
    finally:
        started.down()


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.scheduler", description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    print(markdown(asyncio.run(run(parser.parse_args().jobs))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
