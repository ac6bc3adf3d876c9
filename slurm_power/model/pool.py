"""Pools: named sets of nodes that a job may be sent to, in words that fit any workload manager."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    """Nodes that are alike: so many GPUs each, of one type in the scheduler's words ("": none said)."""

    nodes: tuple[str, ...]
    gpus_per_node: int
    gpu_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The nodes of a pool that take jobs now. A node may be in several pools."""

    name: str
    groups: tuple[NodeGroup, ...]
