"""What jobs draw, would draw uncapped, and are about to draw, on each circuit of the tree."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import Job, JobState
from slurm_power.model.reading import Quality
from slurm_power.model.site import Circuit, Site
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Tier
from slurm_power.plan.cap_leases import cap_leases
from slurm_power.plan.curves import expected_gpu_watts
from slurm_power.plan.job_readings import PlacedReadings, placed_readings
from slurm_power.plan.job_table import WORKLOADS, Flags, PlacedJobs, placed_jobs, site_weights
from slurm_power.plan.memo import LastFew
from slurm_power.plan.policy import Policy
from slurm_power.plan.site_table import Numbers, Watts, site_table

# A job that has been seen for so long is known better than its model tier.
_OWN_SECONDS = 60.0


# Not frozen, which would double what it costs to make one: thousands are made each second.
@dataclass(slots=True, kw_only=True)
class JobLoad:
    """One job's draw per GPU; ``circuit_weights``: the watts each circuit sees for one watt per GPU.

    ``gpu_watts`` is the mean over its GPUs now, ``busiest_watts`` the highest of them,
    ``uncapped_watts`` what the mean would be without our cap,
    ``coming_watts`` what is still expected on top while it starts (per GPU, host share included).
    ``reachable`` is False while no node reports its GPUs, and in MIG mode, where a cap on a GPU would meet
    all jobs that share it: such a job cannot be capped.
    ``yielded`` is True where it runs on a node that takes no economic cap: a synchronous job is capped whole.
    ``covered`` is False while a GPU of it does not answer: for records its draw is then unknown.
    """

    job: Job
    reachable: bool
    gpu_watts: float
    busiest_watts: float
    uncapped_watts: float
    coming_watts: float
    cap_watts: float | None
    default_cap_watts: float
    min_cap_watts: float
    circuit_weights: dict[str, float]
    yielded: bool = False
    covered: bool = True


def circuit_weights(snapshot: Snapshot, nodes: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Watts seen by each circuit for one watt per GPU, given (node, GPU count) pairs.

    Each circuit adds its own losses (``overhead_ratio``) on the way up.
    """
    return site_weights(snapshot.site, nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTable:
    """The loads of all placed jobs as columns, one value per job of ``placed``; see `JobLoad` for each.

    ``cap_watts`` is infinite without a cap. ``own_cap_watts`` is the cap that its user asks for, infinite
    without one that a job's GPUs can take; ``natural_watts`` what the job would draw without any cap, its
    user's included: no less than ``uncapped_watts``, which is without ours.
    ``circuit_coming_watts``: what starting jobs will still add to each circuit; ``circuit_withheld_watts``:
    what caps keep from it.
    """

    placed: PlacedJobs
    reachable: Flags
    gpu_watts: Watts
    busiest_watts: Watts
    uncapped_watts: Watts
    coming_watts: Watts
    cap_watts: Watts
    default_cap_watts: Watts
    min_cap_watts: Watts
    own_cap_watts: Watts
    natural_watts: Watts
    covered: Flags
    circuit_coming_watts: Mapping[str, float]
    circuit_withheld_watts: Mapping[str, float]


_tables: LastFew[LoadTable] = LastFew(2, passing=True)
_loads: LastFew[tuple[JobLoad, ...]] = LastFew(2, passing=True)


def load_table(snapshot: Snapshot, policy: Policy) -> LoadTable:
    """The loads of a snapshot's placed jobs; made once, however often it is asked for."""
    return _tables.of(lambda: _load_table(snapshot, policy), snapshot, policy)


def job_loads(snapshot: Snapshot, policy: Policy) -> tuple[JobLoad, ...]:
    """The load of every job that has GPUs, in the order of ``snapshot.jobs``."""
    return _loads.of(lambda: _job_loads(snapshot, policy), snapshot, policy)


def _job_loads(snapshot: Snapshot, policy: Policy) -> tuple[JobLoad, ...]:
    table = load_table(snapshot, policy)
    return tuple(loads_of(snapshot, table, range(len(table.placed.jobs))))


def loads_of(snapshot: Snapshot, table: LoadTable, rows: Iterable[int]) -> list[JobLoad]:
    """The loads of the jobs in some rows of a table."""
    rows = list(rows)
    if not rows:
        return []
    columns = [
        column.tolist()
        for column in (
            table.reachable,
            table.gpu_watts,
            table.busiest_watts,
            table.uncapped_watts,
            table.coming_watts,
            table.cap_watts,
            table.default_cap_watts,
            table.min_cap_watts,
            table.covered,
        )
    ]
    reachable, gpu, busiest, uncapped, coming, caps, default, least, covered = columns
    jobs, yielded = table.placed.jobs, snapshot.yielded_nodes
    weights, site = table.placed.circuit_weights, snapshot.site
    return [
        JobLoad(
            job=jobs[row],
            reachable=reachable[row],
            gpu_watts=gpu[row],
            busiest_watts=busiest[row],
            uncapped_watts=uncapped[row],
            coming_watts=coming[row],
            cap_watts=None if caps[row] == math.inf else caps[row],
            default_cap_watts=default[row],
            min_cap_watts=least[row],
            circuit_weights=weights(row, site),
            covered=covered[row],
            yielded=bool(yielded) and any(node in yielded for node, _ in jobs[row].gpus_by_node),
        )
        for row in rows
    ]


def _load_table(snapshot: Snapshot, policy: Policy) -> LoadTable:
    placed, gpus = placed_jobs(snapshot), placed_readings(snapshot)
    seen = gpus.found > 0
    lasting_watts = class_watts(placed.workload, policy)
    young = snapshot.at.timestamp() - placed.started_at < policy.start_expected_seconds
    starting = young & seen
    known = _known(snapshot, placed, np.flatnonzero(starting | ~seen).tolist())
    for row, one in known:
        lasting_watts[row] = one.mean_watts
    natural_watts, own_cap_watts = lasting_watts, _own_caps(placed, gpus)
    lasting_watts = np.minimum(lasting_watts, own_cap_watts)
    gpu_watts = np.where(seen, gpus.sum_watts / np.maximum(gpus.found, 1), lasting_watts)
    default_cap_watts = np.where(seen, gpus.default_cap_watts, lasting_watts)
    leases = cap_leases(snapshot)
    cap_watts, capped = leases.cap_watts, leases.cap_watts < np.inf
    uncapped_watts = np.where(capped, np.maximum(gpu_watts, leases.uncapped_watts), gpu_watts)
    uncapped_watts = np.where(starting, np.maximum(uncapped_watts, lasting_watts), uncapped_watts)
    uncapped_watts = np.minimum(uncapped_watts, own_cap_watts)
    natural_watts = np.where(
        own_cap_watts < np.inf, np.maximum(natural_watts, uncapped_watts), uncapped_watts
    )
    level_watts = class_watts(placed.workload, policy)
    for row, one in known:
        # A percentile of what is hardly known may lie where no GPU can go.
        most_watts = max(default_cap_watts[row], lasting_watts[row])
        level_watts[row] = min(_start_watts(one, policy), most_watts)
    level_watts = np.minimum(level_watts, own_cap_watts)
    missing_watts = np.minimum(level_watts, cap_watts) - gpu_watts
    # The host follows its GPUs: the share of it that is still to come shrinks with theirs.
    span_watts = np.maximum(level_watts - policy.idle_gpu_watts, 1.0)
    host_watts = policy.host_watts_per_gpu * np.clip(missing_watts / span_watts, 0.0, 1.0)
    coming_watts = np.where(starting, np.maximum(missing_watts, 0.0) + host_watts, 0.0)
    withheld_watts = np.where(capped, np.maximum(0.0, uncapped_watts - gpu_watts - coming_watts), 0.0)
    names = site_table(snapshot.site).names
    coming = placed.circuit_watts(coming_watts, len(names)).tolist()
    withheld = placed.circuit_watts(withheld_watts, len(names)).tolist()
    return LoadTable(
        placed=placed,
        reachable=seen & ~gpus.parted,
        gpu_watts=gpu_watts,
        busiest_watts=np.minimum(np.where(seen, gpus.busiest_watts, gpu_watts), own_cap_watts),
        uncapped_watts=uncapped_watts,
        coming_watts=coming_watts,
        cap_watts=cap_watts,
        default_cap_watts=default_cap_watts,
        min_cap_watts=np.where(seen, gpus.min_cap_watts, 0.0),
        own_cap_watts=own_cap_watts,
        natural_watts=natural_watts,
        covered=seen & ~gpus.lost,
        circuit_coming_watts=dict(zip(names, coming, strict=True)),
        circuit_withheld_watts=dict(zip(names, withheld, strict=True)),
    )


def _own_caps(placed: PlacedJobs, gpus: PlacedReadings) -> Watts:
    """The caps that users ask for, as their GPUs can take them; infinite where that is no cap at all."""
    seen = gpus.found > 0
    caps: Watts = np.where(seen, np.maximum(placed.own_cap_watts, gpus.min_cap_watts), placed.own_cap_watts)
    caps[seen & (gpus.parted | (caps >= gpus.default_cap_watts))] = np.inf
    return caps


def _known(snapshot: Snapshot, placed: PlacedJobs, rows: Iterable[int]) -> list[tuple[int, ExpectedPower]]:
    """What is known of the jobs in some rows; it is asked of those that do not show yet what they draw."""
    jobs = placed.jobs
    return [(row, one) for row in rows if (one := known_power(snapshot, jobs[row])) is not None]


def known_power(snapshot: Snapshot, job: Job) -> ExpectedPower | None:
    """What is known of a job's draw beyond its class: its own, its tier's, that of jobs like it.

    Of a job that was asked to change its tier what was seen before says nothing."""
    known = snapshot.expected.get(job.job_id)
    if not job.tier or not snapshot.catalog.families:
        return known
    tier = tier_power(snapshot, job)
    if tier is None or known is None or job.job_id in snapshot.tier_moves:
        return tier or known
    # Who names a light tier for a job that is none is not let past a hold by that.
    return known if known.own_seconds >= _OWN_SECONDS or known.mean_watts > tier.mean_watts else tier


def tier_power(snapshot: Snapshot, job: Job) -> ExpectedPower | None:
    """What a job is expected to draw by the model tier that it names; None where nobody knows."""
    found = snapshot.catalog.find(job.tier)
    if found is None or found[1].watts is None or found[1].watts_per_gpu is None:
        return None
    watts = found[1].watts_per_gpu
    return ExpectedPower(mean_watts=watts, p95_watts=watts, known_from=f"tier {job.tier}", jobs=0)


def class_watts(workload: Numbers, policy: Policy) -> Watts:
    """Draw per GPU to expect of jobs of which no more is known than their class."""
    return np.array([expected_gpu_watts(one, policy) for one in WORKLOADS])[workload]


def expected_watts(snapshot: Snapshot, job: Job, policy: Policy) -> float:
    """The mean draw per GPU to expect of a job: by what jobs like it drew, else by its class.

    For what lasts: holds, coming starts, a job whose GPUs do not answer. A careful figure would hold jobs for
    which there is room, one after the other; when one draws more, caps and batteries are there at once.
    """
    known = known_power(snapshot, job)
    watts = expected_gpu_watts(job.workload, policy) if known is None else known.mean_watts
    return _under_own_cap(job, watts)


def _under_own_cap(job: Job, watts: float) -> float:
    """What is left of a draw under the cap that the job's user asks for."""
    return watts if job.own_cap_watts is None else min(watts, job.own_cap_watts)


def start_watts(snapshot: Snapshot, job: Job, policy: Policy) -> float:
    """The level per GPU to be ready for while a job starts; by its class where no more is known."""
    known = known_power(snapshot, job)
    watts = expected_gpu_watts(job.workload, policy) if known is None else _start_watts(known, policy)
    return _under_own_cap(job, watts)


def _start_watts(known: ExpectedPower, policy: Policy) -> float:
    """Its 95th percentile, at least its usual step.

    Careful, since it is for seconds, guards limits, and costs nothing once the draw itself is seen.
    """
    return max(known.p95_watts, policy.idle_gpu_watts + known.start_step_watts)


def still_starting(snapshot: Snapshot, job: Job, policy: Policy) -> bool:
    """Whether a job that has started may not have reached its draw yet."""
    if job.state is JobState.STARTING:
        return True
    if job.state is not JobState.RUNNING or job.started is None:
        return False
    return (snapshot.at - job.started).total_seconds() < policy.start_expected_seconds


def pending_watts(snapshot: Snapshot, job: Job, policy: Policy) -> float:
    """What a pending job would add at the grid connection if it started now, in watts.

    Nobody knows yet where it will run, so the losses of the worst path to the grid connection are used.
    """
    per_gpu = added_watts(expected_watts(snapshot, job, policy), policy)
    gpus = job.gpu_count * job.task_count
    reported = reported_gpus(snapshot)
    if reported:
        # An array never starts more tasks at once than there are GPUs for.
        gpus = max(job.gpu_count, min(gpus, reported))
    return per_gpu * gpus * worst_factor(snapshot.site)


def added_watts(expected_gpu_watts: float, policy: Policy) -> float:
    """What one GPU and its share of the host add once a job draws ``expected_gpu_watts`` on it."""
    return max(0.0, expected_gpu_watts - policy.idle_gpu_watts + policy.host_watts_per_gpu)


def tier_watts(tier: Tier, policy: Policy) -> float:
    """What a model tier at work adds where its GPUs were idle, their share of the hosts included."""
    return tier.gpu_count * added_watts(tier.watts_per_gpu or 0.0, policy)


_gpus: LastFew[int] = LastFew(2, passing=True)


def reported_gpus(snapshot: Snapshot) -> int:
    """How many GPUs the nodes report."""
    return _gpus.of(lambda: sum([len(node.gpus) for node in snapshot.nodes.values()]), snapshot)


_factors: LastFew[float] = LastFew(4)


def worst_factor(site: Site) -> float:
    """The most that the grid connection sees of one watt at a node; 1.0 for a site without nodes."""
    return _factors.of(
        lambda: max(
            (site.path_factors(circuit.name)[-1][1] for circuit in site.circuits.values() if circuit.nodes),
            default=1.0,
        ),
        site,
    )


_net: LastFew[dict[str, float | None]] = LastFew(2, passing=True)


def circuit_watts(snapshot: Snapshot, name: str) -> float | None:
    """A circuit's net draw: its own reading, else the sum of its children with its losses, else None."""
    return circuits_watts(snapshot)[name]


def circuits_watts(snapshot: Snapshot) -> Mapping[str, float | None]:
    """The net draw of every circuit; see `circuit_watts`."""
    return _net.of(lambda: _net_watts(snapshot), snapshot)


def _net_watts(snapshot: Snapshot) -> dict[str, float | None]:
    """The net draw of all circuits, from the leaves up."""
    found: dict[str, float | None] = {}
    for circuit in snapshot.site.leaves_first():
        reading = snapshot.circuits.get(circuit.name)
        if reading is not None and reading.quality is not Quality.INVALID:
            found[circuit.name] = reading.watts
        else:
            found[circuit.name] = _sum_of_children(snapshot, circuit, found)
    return found


def _sum_of_children(snapshot: Snapshot, circuit: Circuit, found: Mapping[str, float | None]) -> float | None:
    below = [found[child] for child in snapshot.site.children(circuit.name)]
    known = [watts for watts in below if watts is not None]
    if not below or len(known) < len(below):
        return None
    discharging = sum(
        ess.discharge_watts
        for key, ess in snapshot.ess.items()
        if snapshot.site.ess[key].circuit == circuit.name and ess.quality is not Quality.INVALID
    )
    return sum(known) * circuit.overhead_ratio - discharging


def behind_discharge_watts(snapshot: Snapshot, name: str) -> float:
    """What batteries on this circuit or below it feed in now; positive is discharge."""
    return sum(
        ess.discharge_watts
        for key in snapshot.site.ess_behind(name)
        if (ess := snapshot.ess.get(key)) is not None and ess.quality is not Quality.INVALID
    )


_consumers: LastFew[dict[str, float | None]] = LastFew(2, passing=True)


def consumer_watts(snapshot: Snapshot) -> Mapping[str, float | None]:
    """What the consumers behind each circuit draw: its net draw plus what batteries feed in behind it.

    At the grid connection a meter shows the mean of a second that is over, while the battery may be ramping
    now: there the loads that telemetry has put together for the same second count, and of these the highest
    of the last few, so that a load that swings does not pull the battery along.
    """
    return _consumers.of(lambda: _consumer_watts(snapshot), snapshot)


def _consumer_watts(snapshot: Snapshot) -> dict[str, float | None]:
    found = dict(circuits_watts(snapshot))
    for name, watts in found.items():
        if watts is not None and snapshot.site.ess_behind(name):
            found[name] = watts + behind_discharge_watts(snapshot, name)
    root = snapshot.site.root.name
    if found[root] is not None and snapshot.recent_load_watts:
        found[root] = max(snapshot.recent_load_watts)
    return found
