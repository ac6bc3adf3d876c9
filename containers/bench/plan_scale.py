"""``python -m containers.bench.plan_scale``: what a cycle of the planner costs, from 1,000 to 10,000 nodes.

A made-up site in motion, second after second as powerctld would see it: the guard every second, the whole
planner when its beat says so. "At ease" the site may draw all it is rated for; "at its limit" most flexible
jobs are capped and the queue is held. Times are one thread's processor time. Exits with 1 when a promise is
missed.
"""

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from containers.bench.big_site import BigSite
from containers.bench.figure import Figure, markdown
from slurm_power.controller.garbage import Garbage
from slurm_power.controller.planning.planner_beat import PlannerBeat
from slurm_power.model.action import Plan
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.class_problem import DayPrices, class_problem
from slurm_power.plan.lp_classes import solve
from slurm_power.plan.planner import guard_cycle, plan_cycle
from slurm_power.plan.policy import Policy

SIZES = (1_000, 3_000, 10_000)
CYCLES = 30
_HOLD_SECONDS = 60.0
_AT_LIMIT_WATTS_PER_NODE = 3_600.0
_PLANNER_P50_SECONDS, _PLANNER_P99_SECONDS = 0.3, 1.0
_GUARD_SECONDS = 0.020
_DAY_SECONDS, _DAY_PLANS = 0.5, 5
# Nothing of a plan is simpler than with a price that is the same all day.
_HOURLY = (*(0.06,) * 6, *(0.12,) * 10, *(0.35,) * 4, *(0.09,) * 4)
_MEMORY_BYTES = 1e9
_GROWTH = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One size at ease or at its limit; times in seconds, sorted."""

    nodes: int
    at_limit: bool
    circuits: int
    running: int
    queued: int
    planner: list[float]
    guard: list[float]
    day: list[float]
    peak_bytes: float

    @property
    def name(self) -> str:
        """As the tables call it."""
        return f"{self.nodes:,} nodes {'at their limit' if self.at_limit else 'at ease'}"


def measure(nodes: int, *, at_limit: bool, cycles: int) -> Measured:
    """Let a site of that size go on until the planner has run ``cycles`` times."""
    policy = Policy()
    limit_watts = _AT_LIMIT_WATTS_PER_NODE * nodes if at_limit else None
    site = BigSite(nodes=nodes, limit_watts=limit_watts)
    snapshot = site.step()
    beat = PlannerBeat(5.0)
    garbage = Garbage()
    garbage.start(0.0)
    gc.collect()
    planner: list[float] = []
    guard: list[float] = []
    # The first cycle meets an empty memory, and a site that nobody has steered yet.
    for second in range(-1, 12 * cycles):
        whole = beat.due(snapshot, float(second))
        began = time.thread_time()
        plan: Plan = (
            plan_cycle(snapshot, policy, hold_seconds=_HOLD_SECONDS)
            if whole
            else guard_cycle(snapshot, policy)
        )
        spent = time.thread_time() - began
        if second >= 0:
            (planner if whole else guard).append(spent)
        site.take(plan)
        garbage.after_cycle(float(second))
        if len(planner) >= cycles and len(guard) >= cycles:
            break
        snapshot = site.step()
    garbage.stop()
    running = sum(bool(job.nodes) for job in snapshot.jobs)
    return Measured(
        nodes=nodes,
        at_limit=at_limit,
        circuits=len(snapshot.site.circuits),
        running=running,
        queued=len(snapshot.jobs) - running,
        planner=sorted(planner),
        guard=sorted(guard),
        day=sorted(_day_seconds(snapshot, policy) for _ in range(_DAY_PLANS)),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0,
    )


def _day_seconds(snapshot: Snapshot, policy: Policy) -> float:
    """What a plan of the day takes, from the snapshot on; powerctld makes it in another thread."""
    began = time.thread_time()
    problem = class_problem(snapshot, policy, DayPrices(energy_per_kwh=_HOURLY, demand_per_kw=10.0))
    assert problem is not None
    if solve(problem, snapshot.at) is None:
        raise RuntimeError("the day's plan has no optimum")
    return time.thread_time() - began


def _p99(times: list[float]) -> float:
    return times[min(len(times) - 1, int(0.99 * len(times)))]


def figures(measured: list[Measured]) -> list[Figure]:
    """The rows of the table; the promises are those of the largest site."""
    rows = []
    largest = max(one.nodes for one in measured)
    for one in measured:
        promised = one.nodes == largest
        for what, value, target in (
            ("planner p50", statistics.median(one.planner), _PLANNER_P50_SECONDS),
            ("planner p99", _p99(one.planner), _PLANNER_P99_SECONDS),
            ("guard p50", statistics.median(one.guard), _GUARD_SECONDS),
            ("guard p99", _p99(one.guard), _GUARD_SECONDS),
            ("plan of the day, longest", max(one.day), _DAY_SECONDS),
        ):
            rows.append(
                Figure(
                    what=f"{one.name}: {what}",
                    value=f"{1000.0 * value:.1f} ms (n = {len(getattr(one, what.split()[0], one.day))})",
                    target=f"{1000.0 * target:.0f} ms" if promised else "",
                    ratio=value / target if promised else None,
                )
            )
        rows.append(
            Figure(
                what=f"{one.name}: highest memory",
                value=f"{one.peak_bytes / 1e6:.0f} MB",
                target=f"{_MEMORY_BYTES / 1e6:.0f} MB" if promised else "",
                ratio=one.peak_bytes / _MEMORY_BYTES if promised else None,
            )
        )
    return [*rows, *_growths(measured)]


def _growths(measured: list[Measured]) -> list[Figure]:
    rows = []
    for at_limit in (False, True):
        line = sorted(
            (one for one in measured if one.at_limit == at_limit), key=lambda measured: measured.nodes
        )
        if len(line) < 2:
            continue
        for what in ("planner", "guard"):
            first, last = (statistics.median(getattr(one, what)) for one in (line[0], line[-1]))
            rows.append(
                Figure(
                    what=f"{what} p50, {line[-1].nodes:,} nodes over {line[0].nodes:,},"
                    f" {'at their limit' if at_limit else 'at ease'}",
                    value=f"{last / first:.1f}-fold",
                    target=f"{_GROWTH:.0f}-fold",
                    ratio=last / first / _GROWTH,
                )
            )
    return rows


def draw(measured: list[Measured], file: Path) -> None:
    """The growth as a picture: both axes in powers of ten, a straight line is a power of the size."""
    from matplotlib.figure import Figure as Picture  # noqa: PLC0415  # only who wants a picture needs it

    picture = Picture(figsize=(6.4, 4.0), layout="constrained")
    axes = picture.subplots()
    for at_limit in (False, True):
        line = sorted((one for one in measured if one.at_limit == at_limit), key=lambda one: one.nodes)
        nodes = [one.nodes for one in line]
        words = "at its limit" if at_limit else "at ease"
        for what, colour in (("planner", "tab:blue"), ("guard", "tab:green")):
            times = [1000.0 * statistics.median(getattr(one, what)) for one in line]
            style = "o--" if at_limit else "o-"
            axes.plot(nodes, times, style, color=colour, label=f"{what}, {words}")
    axes.axhline(1000.0 * _PLANNER_P50_SECONDS, color="tab:blue", linewidth=0.8, alpha=0.6)
    axes.axhline(1000.0 * _GUARD_SECONDS, color="tab:green", linewidth=0.8, alpha=0.6)
    axes.set(xscale="log", yscale="log", xlabel="nodes with 8 GPUs each", ylabel="a cycle, p50, in ms")
    axes.set_title("Cost of a cycle (thin lines: what is promised for 10,000 nodes)", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(visible=True, which="both", linewidth=0.3)
    picture.savefig(file)


def main() -> int:
    """Returns 0, 1 when a promise is missed."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.plan_scale", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times to this file")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the growth into this file (.svg)")
    parser.add_argument("--cycles", type=int, default=CYCLES, help="of the planner, for each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="in nodes")
    parser.add_argument("--one", choices=("ease", "limit"), help="measure one size in this process")
    arguments = parser.parse_args()
    if arguments.one is not None:
        one = measure(arguments.sizes[0], at_limit=arguments.one == "limit", cycles=arguments.cycles)
        print(json.dumps(asdict(one)))
        return 0
    measured = [
        _elsewhere(nodes, one, arguments.cycles) for nodes in arguments.sizes for one in ("ease", "limit")
    ]
    rows = figures(measured)
    print(markdown(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(one) for one in measured], indent=1) + "\n")
    if arguments.figure is not None:
        draw(measured, arguments.figure)
    return int(any(row.ratio is not None and row.ratio > 1.0 for row in rows))


def _elsewhere(nodes: int, one: str, cycles: int) -> Measured:
    """Measure in a process of its own, so that none pays for the memory of another."""
    words = [sys.executable, "-m", "containers.bench.plan_scale", "--one", one]
    words += ["--sizes", str(nodes), "--cycles", str(cycles)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return Measured(**json.loads(done.stdout))


if __name__ == "__main__":
    sys.exit(main())
