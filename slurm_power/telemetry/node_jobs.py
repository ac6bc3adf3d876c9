"""What nodes say of the jobs on them, and how it completes the workload manager's list."""

from dataclasses import dataclass, field, replace

from slurm_power.model.job import Flex, Job, JobState, Workload


@dataclass(frozen=True, slots=True)
class Words:
    """What one node says of a job on it."""

    user: str
    workload: Workload | None
    flex: Flex | None
    gpus: tuple[str, ...]


@dataclass(slots=True)
class NodeJob:
    """A job as its nodes registered it in the prolog, the first of them at ``since_seconds``."""

    since_seconds: float
    nodes: dict[str, Words] = field(default_factory=dict)


def unlisted(job_id: str, known: NodeJob, starting: bool) -> Job:
    """A job that only its nodes know."""
    return Job(
        job_id=job_id,
        user=next((words.user for words in known.nodes.values() if words.user), ""),
        account="",
        name="",
        state=JobState.STARTING if starting else JobState.RUNNING,
        gpu_count=sum(len(words.gpus) for words in known.nodes.values()),
    )


def merged(job: Job, known: NodeJob, starting: bool) -> Job:
    """A job with what its nodes say; a job that the list has elsewhere, or still waiting, is not theirs."""
    state = JobState.STARTING if job.state is JobState.PENDING and starting else job.state
    told = {node: words for node, words in known.nodes.items() if not job.nodes or node in job.nodes}
    if state is JobState.PENDING:
        told = {}
    return replace(
        job,
        state=state,
        workload=next((words.workload for words in told.values() if words.workload), job.workload),
        flex=next((words.flex for words in told.values() if words.flex), job.flex),
        nodes=job.nodes or tuple(told),
        gpus_by_node=tuple((node, words.gpus) for node, words in told.items()),
    )
