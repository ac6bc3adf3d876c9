"""What a node said last, summed once when it comes: all who plan and compare ask for it every second."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from slurm_power.model.progress import JobProgress
from slurm_power.model.reading import GpuReading, GpuSums, NodeDraw, gpu_sums
from slurm_power.telemetry.circuits import Draw


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """The GPUs of one node, ``sums`` of those of each job on it by their UUIDs, and the draw of all.

    ``progress`` is what jobs here tell of themselves, aged ``age_seconds`` already when it came;
    ``drawn`` what all draws that answers.
    """

    gpus: dict[str, GpuReading]
    sums: dict[tuple[str, ...], GpuSums]
    draw: Draw
    at_seconds: float
    progress: Mapping[str, JobProgress] = field(default_factory=dict)
    drawn: NodeDraw | None = None


def node_report(
    gpus: dict[str, GpuReading],
    parts: Iterable[tuple[str, ...]],
    now_seconds: float,
    progress: Mapping[str, JobProgress] | None = None,
    host_watts: float | None = None,
) -> NodeReport:
    """A report of ``gpus``; ``parts`` are the GPUs of each job on the node."""
    sums = {uuids: gpu_sums(gpus, uuids) for uuids in parts}
    held = {uuid for uuids in sums for uuid in uuids}
    answering = [gpu for gpu in gpus.values() if not gpu.error]
    return NodeReport(
        gpus=gpus,
        sums=sums,
        draw=Draw(
            watts=sum(_worst_watts(gpu) for gpu in gpus.values()),
            doubt_watts=sum(max(_worst_watts(gpu), 1.0) for gpu in gpus.values() if gpu.error),
        ),
        at_seconds=now_seconds,
        progress=progress or {},
        drawn=NodeDraw(
            gpu_watts=sum([gpu.power_watts for gpu in answering]),
            held_watts=sum([gpu.power_watts for gpu in answering if gpu.uuid in held]),
            host_watts=host_watts,
        ),
    )


def _worst_watts(gpu: GpuReading) -> float:
    """A GPU that does not answer may draw what its cap allows."""
    return max(gpu.power_watts, gpu.enforced_cap_watts) if gpu.error else gpu.power_watts
