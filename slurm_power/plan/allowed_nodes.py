"""The nodes a waiting job could start on, as far as its pools and its type of GPU tell."""

from collections.abc import Mapping

from slurm_power.model.job import Job
from slurm_power.model.pool import Pool
from slurm_power.plan.memo import LastFew

_Kinds = dict[tuple[tuple[str, ...], str], Mapping[str, int]]

_known: LastFew[_Kinds] = LastFew(2)


def allowed_counts(job: Job, pools: Mapping[str, Pool]) -> Mapping[str, int]:
    """GPUs of each node of a job's pools that takes jobs, has its type, and that it is not kept off.

    Made once for all jobs that want the same of the same pools: there may be ten thousand nodes.
    """
    kinds: _Kinds = _known.of(dict, pools)
    key = job.pools, job.gpu_type
    counts = kinds.get(key)
    if counts is None:
        counts = kinds[key] = _counts(job, pools)
    return {node: counts[node] for node in counts.keys() - job.avoids} if job.avoids else counts


def _counts(job: Job, pools: Mapping[str, Pool]) -> Mapping[str, int]:
    return {
        node: group.gpus_per_node
        for name in job.pools
        if name in pools
        for group in pools[name].groups
        if not job.gpu_type or group.gpu_type == job.gpu_type
        for node in group.nodes
    }
