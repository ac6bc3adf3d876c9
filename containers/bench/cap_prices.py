"""``python -m containers.bench.cap_prices``: how long choosing caps by price takes, and what it saves.

Random populations of running jobs (all from ``--seed``) under one circuit that must shed a share of what
they draw. Beside the choice by price stands the rule it replaced: the most flexible class first, evenly
between draw and floor. Work lost is weighted by flex class, as the prices are. ``--check``: exit 1 where the
choice takes longer than promised or loses more than the even rule.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from slurm_power.model.action import SetCap
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.reading import GpuReading
from slurm_power.model.site import Circuit, LimitKind, Site
from slurm_power.model.snapshot import NodeState, Snapshot
from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.caps import Demand, choose, plan_caps
from slurm_power.plan.curves import promised_floor_watts, slowdown_ratio
from slurm_power.plan.loads import JobLoad, job_loads, load_table
from slurm_power.plan.policy import Policy
from slurm_power.plan.prices import JobWeights

RACKS = 499
REPEATS = 15
CUTS = (0.05, 0.10, 0.15, 0.20)
DEFAULT_CAP_WATTS, MIN_CAP_WATTS = 700.0, 200.0
# What was promised for the choosing itself, at 5,000 jobs.
MOST_CHOOSING_SECONDS = 0.010
# Whole 5-W steps, and prices that differ by 2 % count as the same.
SLACK_RATIO = 1.02


def population(count: int, seed: int) -> Snapshot:
    """Jobs of all flex classes on random racks, two thirds of them training, the others inference."""
    chance = random.Random(seed)  # noqa: S311  # a population, no secret
    jobs: list[Job] = []
    nodes: dict[str, NodeState] = {}
    racks: list[list[str]] = [[] for _ in range(RACKS)]
    for number in range(count):
        gpus, name = chance.choice((8, 8, 16, 32, 64)), f"n{number}"
        uuids = tuple(f"GPU-{number}-{slot}" for slot in range(gpus))
        jobs.append(
            Job(
                job_id=str(number),
                user=f"u{chance.randrange(200)}",
                account=f"a{chance.randrange(20)}",
                name="job",
                state=JobState.RUNNING,
                gpu_count=gpus,
                flex=chance.choice(list(Flex)),
                # Decoding is left out: the rule before set caps on it, which do nothing there.
                workload=chance.choice((Workload.TRAINING, Workload.TRAINING, Workload.INFERENCE)),
                nodes=(name,),
                gpus_by_node=((name, uuids),),
            )
        )
        reading = gpu_reading(chance.uniform(380.0, 690.0))
        nodes[name] = NodeState(name=name, age_seconds=0.0, gpus=dict.fromkeys(uuids, reading))
        chance.choice(racks).append(name)
    return Snapshot(
        at=datetime(2026, 1, 1, tzinfo=UTC),
        site=tree(racks),
        circuits={},
        ess={},
        nodes=nodes,
        jobs=tuple(jobs),
    )


def gpu_reading(watts: float) -> GpuReading:
    """A busy GPU that draws so much."""
    return GpuReading(
        uuid="GPU",
        slot=0,
        name="GPU",
        power_watts=watts,
        energy_joules=0.0,
        utilization_ratio=1.0,
        sm_clock_hertz=1.7e9,
        temperature_celsius=60.0,
        requested_cap_watts=DEFAULT_CAP_WATTS,
        enforced_cap_watts=DEFAULT_CAP_WATTS,
        default_cap_watts=DEFAULT_CAP_WATTS,
        min_cap_watts=MIN_CAP_WATTS,
        max_cap_watts=DEFAULT_CAP_WATTS,
    )


def tree(racks: list[list[str]]) -> Site:
    """Racks with these nodes below one grid connection."""
    circuits = {
        "grid": Circuit(name="grid", rating_watts=1e9, limit_kind=LimitKind.ECONOMIC, overhead_ratio=1.03)
    }
    for number, names in enumerate(racks):
        name = f"rack{number}"
        circuits[name] = Circuit(
            name=name,
            rating_watts=1e7,
            limit_kind=LimitKind.SAFETY,
            parent="grid",
            nodes=tuple(names),
            overhead_ratio=1.02,
        )
    return Site(name="bench", circuits=circuits, ess={})


def evenly(loads: Sequence[JobLoad], watts: float, policy: Policy) -> dict[str, float]:
    """The rule before prices."""
    chosen: dict[str, float] = {}
    for flex in (Flex.FLEX3, Flex.FLEX2, Flex.FLEX1):
        group = []
        for load in loads:
            if load.job.flex is flex and watts > 0.0:
                floor_watts = promised_floor_watts(
                    load.job,
                    uncapped_watts=load.uncapped_watts,
                    default_cap_watts=load.default_cap_watts,
                    min_cap_watts=load.min_cap_watts,
                    policy=policy,
                )
                gives = (load.gpu_watts - floor_watts) * load.circuit_weights["grid"]
                if gives > 0.0:
                    group.append((load, floor_watts, gives))
        total = sum(gives for *_, gives in group)
        share = min(1.0, watts / total) if total else 0.0
        for load, floor_watts, _ in group:
            chosen[load.job.job_id] = load.gpu_watts - share * (load.gpu_watts - floor_watts)
        watts -= share * total
    return chosen


def work_lost(snapshot: Snapshot, loads: Sequence[JobLoad], caps: dict[str, float], policy: Policy) -> float:
    """GPU-hours an hour, weighted by flex class."""
    weights = JobWeights(snapshot, policy)
    return sum(
        load.job.gpu_count
        * weights.work(load.job)
        * slowdown_ratio(load.job.workload, caps[load.job.job_id], load.uncapped_watts)
        for load in loads
        if load.job.job_id in caps
    )


def median_seconds(work: Callable[[], object]) -> float:
    """The median of some runs, after one that warms up; processor time, so that others do not count."""
    work()
    spent = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return statistics.median(spent)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--populations", type=int, default=5, help="how many to compare the work lost on")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    policy = Policy()
    print(f"seed {given.seed}, {given.jobs} running jobs, one core")
    snapshot = population(given.jobs, given.seed)
    loads, table = job_loads(snapshot, policy), load_table(snapshot, policy)
    drawn_watts = sum(load.gpu_watts * load.circuit_weights["grid"] for load in loads)
    columns = CapColumns(snapshot, table, policy)
    print(f"columns {1e3 * median_seconds(lambda: CapColumns(snapshot, table, policy)):.1f} ms")
    slowest = 0.0
    for cut in CUTS:
        demand = Demand(circuit="grid", watts=cut * drawn_watts, kind=LimitKind.ECONOMIC)
        choosing = median_seconds(lambda d=demand: choose(snapshot, columns, [d], policy))  # type: ignore[misc]  # a default binds the loop variable
        whole = median_seconds(lambda d=demand: plan_caps(snapshot, table, [d], policy))  # type: ignore[misc]  # a default binds the loop variable
        slowest = max(slowest, choosing)
        print(
            f"cut {cut:.0%}: choosing {1e3 * choosing:.1f} ms, with columns and actions {1e3 * whole:.1f} ms"
        )
    worst = 0.0
    for number in range(given.populations):
        snapshot = population(given.jobs, given.seed + number)
        loads, table = job_loads(snapshot, policy), load_table(snapshot, policy)
        drawn_watts = sum(load.gpu_watts * load.circuit_weights["grid"] for load in loads)
        for cut in CUTS:
            watts = cut * drawn_watts
            demand = Demand(circuit="grid", watts=watts, kind=LimitKind.ECONOMIC)
            found = plan_caps(snapshot, table, [demand], policy)
            priced = work_lost(snapshot, loads, caps_of(found.actions), policy)
            even = work_lost(snapshot, loads, evenly(loads, watts, policy), policy)
            worst = max(worst, priced / even)
            print(
                f"seed {given.seed + number}, cut {cut:.0%}: {priced:.0f} weighted GPU-hours an hour by"
                f" price, {even:.0f} evenly: {1.0 - priced / even:.0%} less"
            )
    if given.check and (slowest > MOST_CHOOSING_SECONDS or worst > SLACK_RATIO):
        sys.exit(1)


def caps_of(actions: tuple[SetCap, ...]) -> dict[str, float]:
    """The caps set, by job."""
    return {action.job_id: action.cap_watts for action in actions if action.cap_watts is not None}


if __name__ == "__main__":
    main()
