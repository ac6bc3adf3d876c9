"""What the GPUs of placed jobs draw, as columns; summed again only where a node has reported since.

Of ten thousand nodes two thousand have reported since the second before. To find them the nodes are gone
through in the snapshot's own order, in which they lie in memory: looked up by name they take four times as
long.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from operator import attrgetter, is_, is_not

import numpy as np

from slurm_power.model.reading import GpuReading, GpuSums, gpu_sums
from slurm_power.model.snapshot import NodeState, Snapshot
from slurm_power.plan.job_table import Flags, PlacedJobs, placed_jobs
from slurm_power.plan.memo import LastFew
from slurm_power.plan.site_table import Numbers, Watts, summed

_GPUS = attrgetter("gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedReadings:
    """What the GPUs of placed jobs draw in one snapshot; one value per job, its GPUs' together.

    ``found`` is how many of its GPUs are reported, ``lost`` is set where one of them does not answer or is
    not reported at all, ``parted`` where one is in MIG mode. Without any found the rest means nothing.
    """

    found: Numbers
    sum_watts: Watts
    busiest_watts: Watts
    default_cap_watts: Watts
    min_cap_watts: Watts
    parted: Flags
    lost: Flags
    _parts: "_Parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The same per part of a job on one node, a column each.

    ``seen`` are the reports it was made from, ``parts_at`` the numbers of the parts, by the place of the
    node in ``nodes``, which is the snapshot's order of them.
    """

    of: PlacedJobs
    columns: Watts
    nodes: Sequence[str]
    seen: Sequence[Mapping[str, GpuReading] | None]
    parts_at: Sequence[Sequence[int]]


_readings: LastFew[PlacedReadings] = LastFew(2, passing=True)


def placed_readings(snapshot: Snapshot) -> PlacedReadings:
    """The readings of a snapshot's placed jobs, put together from the one before where nothing is new."""
    placed = placed_jobs(snapshot)
    before = _readings.newest()
    return _readings.of(lambda: _summed(snapshot, placed, before), snapshot)


def _summed(snapshot: Snapshot, placed: PlacedJobs, before: PlacedReadings | None) -> PlacedReadings:
    parts = _parts(snapshot, placed, None if before is None else before._parts)
    count, job_of = len(placed.jobs), placed.part_job
    found, watts, busiest, default, least, parted, lost = parts.columns
    sums = [summed(job_of, column, count) for column in (found, watts, parted, lost)]
    bounds = [np.full(count, edge) for edge in (-np.inf, np.inf, -np.inf)]
    np.maximum.at(bounds[0], job_of, busiest)
    np.minimum.at(bounds[1], job_of, default)
    np.maximum.at(bounds[2], job_of, least)
    return PlacedReadings(
        found=sums[0].astype(np.int64),
        sum_watts=sums[1],
        busiest_watts=bounds[0],
        default_cap_watts=bounds[1],
        min_cap_watts=bounds[2],
        parted=sums[2] > 0.0,
        lost=sums[3] > 0.0,
        _parts=parts,
    )


def _parts(snapshot: Snapshot, placed: PlacedJobs, before: _Parts | None) -> _Parts:
    """The readings of every part, those of nodes that have reported since ``before`` summed again."""
    states = list(snapshot.nodes.values())
    reports = list(map(_GPUS, states))
    if before is None or before.of is not placed:
        before = _unread(placed)
    columns = before.columns.copy()
    if len(before.nodes) != len(states) or not all(map(is_, before.nodes, snapshot.nodes)):
        before = _among(snapshot, before, columns)
    # Ten thousand nodes are asked every second: not in a loop of our own.
    news = list(compress(range(len(states)), map(is_not, reports, before.seen)))
    numbers = list(chain.from_iterable(map(before.parts_at.__getitem__, news)))
    if numbers:
        found = chain.from_iterable(_sums(placed, states, news, before.parts_at))
        values = np.fromiter(found, dtype=float, count=len(numbers) * len(columns))
        columns[:, numbers] = values.reshape(len(numbers), len(columns)).T
    return _Parts(of=placed, columns=columns, nodes=before.nodes, seen=reports, parts_at=before.parts_at)


def _unread(placed: PlacedJobs) -> _Parts:
    """All parts before any node is known."""
    missing = [gpu_sums({}, uuids) for _, uuids in placed.parts]
    columns = np.array(missing, dtype=float).reshape(len(missing), len(GpuSums._fields)).T
    return _Parts(of=placed, columns=columns, nodes=(), seen=(), parts_at=())


def _among(snapshot: Snapshot, before: _Parts, columns: Watts) -> _Parts:
    """``before`` with the nodes of this snapshot; in ``columns`` parts on nodes that are gone are unread."""
    nodes = list(snapshot.nodes)
    places = {node: place for place, node in enumerate(nodes)}
    parts_at: list[list[int]] = [[] for _ in nodes]
    for number, (node, uuids) in enumerate(before.of.parts):
        place = places.get(node)
        if place is None:
            columns[:, number] = gpu_sums({}, uuids)
        else:
            parts_at[place].append(number)
    seen = dict(zip(before.nodes, before.seen, strict=True))
    return _Parts(
        of=before.of,
        columns=columns,
        nodes=nodes,
        seen=[seen.get(node) for node in nodes],
        parts_at=parts_at,
    )


def _sums(
    placed: PlacedJobs, states: Sequence[NodeState], news: Iterable[int], parts_at: Sequence[Sequence[int]]
) -> Iterable[GpuSums]:
    """The sums of the parts on the nodes ``news``."""
    parts = placed.parts
    for place in news:
        state = states[place]
        for number in parts_at[place]:
            yield _sums_of(state, parts[number][1])


def _sums_of(state: NodeState, uuids: tuple[str, ...]) -> GpuSums:
    # Mostly it is the very same tuple; to find an equal one, each UUID in it is touched.
    for known, sums in state.sums.items():
        if known is uuids:
            return sums
    found = state.sums.get(uuids)
    return gpu_sums(state.gpus, uuids) if found is None else found
