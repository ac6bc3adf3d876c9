"""``python -m containers.bench.hooks``: time that hooks and the SPANK plugin add; daemons up, hung or gone.

Each hook is run whole, its interpreter's start included, as Slurm runs it. What the plugin adds to a step and
to a submission is the difference of runs in pairs, with the plugin in plugstack.conf and without. Exits 1
where a figure is worse than promised.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from containers.bench.figure import Figure, markdown
from containers.bench.measures import percentile, spread
from containers.bench.processes import processes_with
from containers.cluster import lifecycle
from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, LabError, Options

ON_NODE = ("prolog", "epilog")
ON_CONTROLLER = ("prolog_slurmctld", "epilog_slurmctld")
HOOKS = (*ON_NODE, *ON_CONTROLLER, "task_prolog")
RUNS, HUNG_RUNS, PAIRS = 200, 10, 40
MEDIAN_SECONDS, MOST_SECONDS, HUNG_SECONDS = 0.030, 0.100, 2.0
ASK_SECONDS = 0.200
# Of the machine, not of the plugin: what two runs of the same command differ by at times.
PAIR_NOISE_SECONDS = 0.050


class HookBench:
    """A lab of two nodes with our daemons; jobs come to c1 as far as its hooks know."""

    def __init__(self, lab: Lab, runs: int) -> None:
        self._lab = lab
        self._run = lab.run_directory
        self._runs = runs
        self._job_id = 90_000
        self._plugstack = lab.layout.etc / "plugstack.conf"
        self._with_plugin = self._plugstack.read_text()
        # The lab's TaskProlog is its own; here ours stands beside the others, as a site would install it.
        self._hooks = lab.layout.etc / "power"
        self._hooks.mkdir()
        shutil.copy(lab.layout.etc / "slurm-power.conf", self._hooks)
        for name in HOOKS:
            shutil.copy(CHECKOUT / "prolog_epilog" / name, self._hooks / name)

    def figures(self) -> list[Figure]:
        """All of them, the daemons back as they were after each."""
        figures = [self._interpreter()]
        figures += [figure for name in HOOKS for figure in self._up(name)]
        with self._stopped("powerd.c1"):
            figures += [self._hung(name, "powerd hung") for name in (*ON_NODE, "task_prolog")]
            figures.append(self._step("powerd hung", ASK_SECONDS + PAIR_NOISE_SECONDS))
        with self._stopped("powerctld"):
            figures += [self._hung(name, "powerctld hung") for name in ON_CONTROLLER]
        with self._gone("powerctld"), self._gone("munged"):
            figures += [self._hung(name, "powerctld and MUNGE gone") for name in HOOKS]
        with self._gone("powerd.c1"):
            figures += [self._hung(name, "powerd gone") for name in (*ON_NODE, "task_prolog")]
        figures.append(self._step("powerd up", PAIR_NOISE_SECONDS))
        figures.append(self._submission())
        return figures

    def _interpreter(self) -> Figure:
        """What of each hook's time is the interpreter's, on this machine and under its load of now."""
        seconds = []
        for _ in range(self._runs):
            began = time.perf_counter()
            subprocess.run(["/usr/bin/python3", "-IS", "-c", "pass"], env={}, check=True)
            seconds.append(time.perf_counter() - began)
        what = f"python3 -IS alone, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        return _figure(what, spread(seconds, "ms", 1000.0))

    def _once(self, name: str) -> float:
        """Run a hook to its end, which has to be a good one; returns the seconds it took."""
        words = {"SLURM_JOB_ID": str(self._job_id), "SLURM_JOB_USER": "alice", "SLURM_JOB_UID": "20001"}
        if name not in ON_CONTROLLER:
            words |= {"SLURM_CONF": str(self._lab.layout.slurm_conf), "SLURMD_NODENAME": "c1"}
            words |= {"SLURM_JOB_GPUS": "0,1", "SPANK_POWER_FLEX": "flex0"}
        began = time.perf_counter()
        subprocess.run(
            [str(self._hooks / name)],
            env=words,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - began

    def _up(self, name: str) -> list[Figure]:
        seconds = []
        for _ in range(self._runs):
            self._job_id += 1
            if name in {"epilog", "task_prolog"}:
                self._once("prolog")
            seconds.append(self._once(name))
            if name != "epilog" and name not in ON_CONTROLLER:
                self._once("epilog")
        what = f"{name}, daemons up"
        value = spread(seconds, "ms", 1000.0)
        return [
            _figure(what, value, _most("p50", MEDIAN_SECONDS), percentile(seconds, 0.5) / MEDIAN_SECONDS),
            _figure(what, "", _most("p99", MOST_SECONDS), percentile(seconds, 0.99) / MOST_SECONDS),
        ]

    def _hung(self, name: str, state: str) -> Figure:
        seconds = [self._once(name) for _ in range(HUNG_RUNS)]
        target = f"max {HUNG_SECONDS:g} s"
        return _figure(f"{name}, {state}", spread(seconds, "s"), target, max(seconds) / HUNG_SECONDS)

    def _step(self, state: str, most_seconds: float) -> Figure:
        """What the plugin adds to a step of a job that runs: no prolog is in it."""
        words = ["salloc", "--quiet", "--nodelist=c1"]
        words += [sys.executable, "-m", "containers.bench.hooks", "--steps"]
        environment = {"PYTHONPATH": str(CHECKOUT)}
        self._plugstack.chmod(0o666)  # a user's job turns the plugin on and off
        done = self._lab.run(words, user="alice", environment=environment, timeout_seconds=120.0)
        self._plugstack.write_text(self._with_plugin)
        more = [float(value) for value in json.loads(done.stdout)]
        value = spread(more, "ms", 1000.0)
        target = _most("p50", most_seconds)
        return _figure(f"plugin in srun true, {state}", value, target, percentile(more, 0.5) / most_seconds)

    def _submission(self) -> Figure:
        """What the plugin and its option add to sbatch."""
        more = []
        environment = {**os.environ, "SLURM_CONF": str(self._lab.layout.slurm_conf)}
        for _ in range(PAIRS):
            seconds = {}
            for text, option in (("", []), (self._with_plugin, ["--flex=flex1"])):
                self._plugstack.write_text(text)
                began = time.perf_counter()
                subprocess.run(
                    ["sbatch", "--hold", "--output=/dev/null", *option, "--wrap=true"],
                    env=environment,
                    check=True,
                    capture_output=True,
                )
                seconds[text] = time.perf_counter() - began
            more.append(seconds[self._with_plugin] - seconds[""])
        self._lab.run(["scancel", "--user=root", "--state=PENDING"])
        return _figure("plugin in sbatch", spread(more, "ms", 1000.0))

    @contextmanager
    def _stopped(self, name: str) -> Iterator[None]:
        """Stop a daemon's every process for a while."""
        node = name.partition(".")[2]
        site = f"{self._run}/etc/site.toml"
        processes = processes_with("powerd", str(self._run), node) if node else processes_with(name, site)
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    @contextmanager
    def _gone(self, name: str) -> Iterator[None]:
        self._lab.stop(name)
        try:
            yield
        finally:
            self._lab.start(name)


def steps() -> list[float]:
    """In a job: run steps with and without the plugin, in pairs; returns the seconds it took more with it."""
    plugstack = Path(os.environ["SLURM_CONF"]).parent / "plugstack.conf"
    with_plugin = plugstack.read_text()
    more = []
    for _ in range(PAIRS):
        seconds = {}
        for text in ("", with_plugin):
            plugstack.write_text(text)
            began = time.perf_counter()
            subprocess.run(["srun", "true"], check=True, capture_output=True)
            seconds[text] = time.perf_counter() - began
        more.append(seconds[with_plugin] - seconds[""])
    return more


def _most(which: str, seconds: float) -> str:
    return f"{which} {1000 * seconds:.0f} ms"


def _figure(what: str, value: str, target: str = "", ratio: float | None = None) -> Figure:
    return Figure(what=what, value=value, target=target, ratio=ratio)


def main() -> int:
    """Print a Markdown table; returns 0, 1 where a promise does not hold, 2 without a lab."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.hooks", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="of each hook with the daemons up")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps:
        print(json.dumps(steps()))
        return 0
    try:
        started = lifecycle.up(Options(nodes=2, power=True))
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_status
    try:
        figures = HookBench(started.lab, arguments.runs).figures()
    finally:
        started.discard()
    print(json.dumps([asdict(one) for one in figures], indent=1) if arguments.json else markdown(figures))
    return int(any(one.ratio is not None and one.ratio > 1.0 for one in figures))


if __name__ == "__main__":
    sys.exit(main())
