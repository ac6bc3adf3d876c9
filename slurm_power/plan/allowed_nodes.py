"""The nodes a waiting job could start on, as far as its pools and its type of GPU tell."""

from collections.abc import Mapping

from slurm_power.model.job import Job
from slurm_power.model.pool import Pool


def allowed_counts(job: Job, pools: Mapping[str, Pool]) -> dict[str, int]:
    """GPUs of each node of a job's pools that takes jobs, has its type, and that it is not kept off."""
    avoided = frozenset(job.avoids)
    return {
        node: group.gpus_per_node
        for name in job.pools
        if name in pools
        for group in pools[name].groups
        if not job.gpu_type or group.gpu_type == job.gpu_type
        for node in group.nodes
        if node not in avoided
    }
