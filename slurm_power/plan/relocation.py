"""Send a held job where there is room: keep it off the nodes of the circuits that have none.

Only a job that we hold anyway, for a circuit other than the grid connection. Where it may start was its
user's choice, as a list of pools, and stays it: the workload manager picks among the nodes that are left. A
job whose user named nodes or features of nodes is left alone. What is left to it has room and free GPUs for
all of it on each circuit that it could come to, even if it came there whole.

It costs no work and no money: a job starts that would have waited. What it could cost is time, where others
take those GPUs first; so after a while that passes unused every node is given back, once, and the job is left
alone for as long again. Nodes are given back at once where nobody knows why they are avoided (the job was
requeued, or we have started anew), and where the job is held by its user.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from slurm_power.model.action import RelocateJob
from slurm_power.model.job import Job, JobState
from slurm_power.model.pool import Pool
from slurm_power.model.site import Site
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.allowed_nodes import allowed_counts
from slurm_power.plan.job_table import PendingJobs, gpu_counts, placed_jobs, worst_shares
from slurm_power.plan.memo import LastFew
from slurm_power.plan.policy import Policy
from slurm_power.plan.site_table import Numbers, SiteTable, Watts, site_table

# Each is a call to the workload manager; those behind come with the next plan.
_MOST_MOVES = 20
# So many are on their way at once, and so many are looked at for another place in one plan.
_MOST_STANDING = 100
_MOST_TRIES = 200
# So long the list of jobs may be behind what we have asked for.
_LISTED_SECONDS = 30.0

_avoiding: LastFew[tuple[Job, ...]] = LastFew(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What the release has found for jobs that wait, a value per row of ``jobs``.

    ``binding``: the number of the circuit without room for a job that we hold, negative for any other;
    ``gpus`` of all its tasks that may start, ``added_watts`` for each. ``left_watts`` and ``spare_watts``, by
    circuit: what stays free, and what must.
    """

    jobs: PendingJobs
    binding: Numbers
    gpus: Watts
    added_watts: Watts
    left_watts: Watts
    spare_watts: Watts


def plan_relocations(
    snapshot: Snapshot, waiting: Waiting, policy: Policy, busy: frozenset[str]
) -> tuple[RelocateJob, ...]:
    """Whom to send elsewhere, and whose nodes to give back; ``busy`` jobs have another word of ours now."""
    back = tuple(_back(snapshot, policy, busy))
    if not policy.relocate or not snapshot.pools:
        return back
    table = site_table(snapshot.site)
    rows = np.flatnonzero((waiting.binding >= 0) & (waiting.binding != table.root)).tolist()
    moved = [
        row
        for row in rows
        if waiting.jobs.jobs[row].job_id not in busy and _may(snapshot, waiting, row, policy)
    ]
    if not moved:
        return back
    room = _Room(snapshot, waiting, table)
    standing = sum(not one.given_back for one in snapshot.relocations.values())
    most = min(_MOST_MOVES, _MOST_STANDING - standing)
    found: list[RelocateJob] = []
    for row in moved[:_MOST_TRIES]:
        if len(found) >= most:
            break
        action = room.relocation(row)
        if action is not None:
            found.append(action)
    return (*back, *found)


def _may(snapshot: Snapshot, waiting: Waiting, row: int, policy: Policy) -> bool:
    """Whether a job may be sent elsewhere: we hold it, it leaves the choice to others, is not just back."""
    job = waiting.jobs.jobs[row]
    last = snapshot.relocations.get(job.job_id)
    if job.pinned or not job.pools or job.avoids or job.job_id not in snapshot.holds:
        return False
    return last is None or (last.given_back and last.asked_seconds_ago >= 2 * policy.relocate_dwell_seconds)


def _back(snapshot: Snapshot, policy: Policy, busy: frozenset[str]) -> Iterable[RelocateJob]:
    """Jobs that may start anywhere again."""
    listed = snapshot.jobs
    avoiding = _avoiding.of(lambda: tuple([job for job in listed if job.avoids]), listed)
    for job in avoiding:
        last = snapshot.relocations.get(job.job_id)
        why = ""
        if job.state is not JobState.PENDING or job.job_id in busy:
            continue
        if not policy.relocate:
            why = "jobs are no longer sent elsewhere"
        elif job.held_by_user:
            why = "it is held by its user, or cannot start on the nodes that were left"
        elif last is None:
            why = "it waits anew"
        elif last.given_back and last.asked_seconds_ago - policy.relocate_dwell_seconds > _LISTED_SECONDS:
            why = "its nodes were to be given back"
        elif not last.given_back and last.asked_seconds_ago >= policy.relocate_dwell_seconds:
            why = f"it has not started elsewhere within {policy.relocate_dwell_seconds:.0f} s"
        if why:
            yield RelocateJob(job_id=job.job_id, avoid=(), reason=f"{why}: it may start on any of its nodes")


@dataclass(frozen=True, slots=True)
class _Places:
    """The circuits that feed the nodes a kind of job may start on, and the GPUs these have, an entry each."""

    leaves: Numbers
    gpus: Watts
    nodes: list[list[str]]

    @classmethod
    def of(cls, counts: Mapping[str, int], table: SiteTable) -> "_Places":
        by_leaf: dict[int, list[str]] = {}
        for node in sorted(counts):
            leaf = table.leaf_of_node.get(node)
            if leaf is not None:
                by_leaf.setdefault(leaf, []).append(node)
        gpus = [float(sum(counts[node] for node in nodes)) for nodes in by_leaf.values()]
        return cls(np.array(list(by_leaf), dtype=np.int64), np.array(gpus), list(by_leaf.values()))


class _Room:
    """The room and the free GPUs that are left while one job after the other is sent somewhere."""

    def __init__(self, snapshot: Snapshot, waiting: Waiting, table: SiteTable) -> None:
        self._site: Site = snapshot.site
        self._pools: Mapping[str, Pool] = snapshot.pools
        self._waiting = waiting
        self._table = table
        self._left = waiting.left_watts.copy()
        self._free = _free_gpus(snapshot)
        self._places: dict[tuple[tuple[str, ...], str], _Places] = {}
        for job in waiting.jobs.jobs:
            if job.avoids:  # sent somewhere earlier, and not there yet
                self._take_gpus(sorted(allowed_counts(job, self._pools)), job.gpu_count * job.task_count)

    def _take_gpus(self, nodes: Iterable[str], gpus: float) -> None:
        for node in nodes:
            taken = min(gpus, self._free.get(node, 0))
            self._free[node] = self._free.get(node, 0) - int(taken)
            gpus -= taken
            if gpus <= 0:
                return

    def relocation(self, row: int) -> RelocateJob | None:
        """Where a job fits, as the nodes it is to be kept off; None if it fits nowhere."""
        job, gpus = self._waiting.jobs.jobs[row], float(self._waiting.gpus[row])
        added_watts = float(self._waiting.added_watts[row])
        counts = allowed_counts(job, self._pools)
        places = self._places.get((job.pools, job.gpu_type))
        if places is None:
            places = self._places[job.pools, job.gpu_type] = _Places.of(counts, self._table)
        slack_watts = self._slack_watts(places, gpus, added_watts)
        left: list[str] = []
        chosen: list[int] = []
        for place in np.argsort(-slack_watts, kind="stable").tolist():
            if slack_watts[place] < 0.0:
                break
            left += places.nodes[place]
            chosen.append(place)
            if self._enough(job, gpus, left):
                break
        shares = worst_shares(gpus, {node: counts[node] for node in left}, self._table)
        if not self._enough(job, gpus, left) or not self._fits(shares, added_watts):
            return None
        kept = set(left)
        avoid = tuple(node for nodes in places.nodes for node in nodes if node not in kept)
        if not avoid:
            return None
        for circuit, share in shares.items():
            self._left[circuit] -= share * added_watts
        self._take_gpus(left, gpus)
        full = self._table.names[int(self._waiting.binding[row])]
        roomy = ", ".join(self._table.names[int(places.leaves[place])] for place in chosen)
        needed = kilowatts_text(gpus * added_watts)
        return RelocateJob(
            job_id=job.job_id,
            avoid=avoid,
            reason=f"would add {needed} where {full} has no room for it: it starts behind {roomy}, which has",
            saved_watts=gpus * added_watts,
        )

    def _slack_watts(self, places: _Places, gpus: float, added_watts: float) -> Watts:
        """By place: what stays free at the tightest circuit above it, if a job came there as a whole."""
        paths, factors = self._table.paths[places.leaves], self._table.factors[places.leaves]
        free = (self._left - self._waiting.spare_watts)[paths]
        taken = factors * (np.minimum(gpus, places.gpus) * added_watts)[:, None]
        slack_watts: Watts = np.where(paths >= 0, free - taken, np.inf).min(axis=1, initial=np.inf)
        return slack_watts

    def _fits(self, shares: Mapping[int, float], added_watts: float) -> bool:
        """Whether all circuits have room for what they may get of a job at the worst."""
        spare = self._waiting.spare_watts
        return all(
            share * added_watts + spare[circuit] <= self._left[circuit] for circuit, share in shares.items()
        )

    def _enough(self, job: Job, gpus: float, nodes: list[str]) -> bool:
        """Whether these nodes have free GPUs for a job, spread over as many of them as it asks for."""
        free = [self._free.get(node, 0) for node in nodes]
        each = -(-job.gpu_count // max(job.node_count, 1))
        return sum(free) >= gpus and sum(count >= each for count in free) >= job.node_count


def _free_gpus(snapshot: Snapshot) -> dict[str, int]:
    """GPUs without a job on each node that reports; one that does not has none for us."""
    free = {name: len(node.gpus) for name, node in snapshot.nodes.items()}
    for job in placed_jobs(snapshot).jobs:
        for node, count in gpu_counts(job):
            if node in free:
                free[node] = max(0, free[node] - count)
    return free
