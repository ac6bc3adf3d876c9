"""Jobs and sites in plain numbers for the tests of the virtual machine."""

from slurm_power.model.job import Flex, Workload
from slurm_power.model.site import Circuit, LimitKind, Site
from slurm_power.simulate.cluster import Hardware, Layout, PlantJob

HARDWARE = Hardware(gpus_per_node=8, idle_watts=250.0, board_idle_watts=75.0)


def small_site(
    *, racks: int = 2, nodes: int = 2, overhead_ratio: float = 1.15, limit_watts: float | None = None
) -> Site:
    """Racks of so many nodes under one grid connection."""
    circuits = {
        "grid": Circuit(
            name="grid",
            rating_watts=1e6,
            limit_kind=LimitKind.ECONOMIC,
            limit_watts=limit_watts,
            overhead_ratio=overhead_ratio,
        )
    }
    for rack in range(racks):
        names = tuple(f"r{rack}n{node}" for node in range(nodes))
        circuits[f"rack{rack}"] = Circuit(
            name=f"rack{rack}", parent="grid", rating_watts=5e5, limit_kind=LimitKind.SAFETY, nodes=names
        )
    return Site(name="small", circuits=circuits, ess={})


def layout(**keywords: int) -> Layout:
    return Layout(small_site(**keywords), HARDWARE)


def job(
    job_id: str,
    gpus: int = 8,
    *,
    at: float = 0.0,
    run: float = 3600.0,
    limit: float | None = 7200.0,
    flex: Flex = Flex.FLEX2,
    user: str = "alice",
    watts: float = 500.0,
    workload: Workload = Workload.TRAINING,
) -> PlantJob:
    """One that is submitted and eligible at ``at``."""
    return PlantJob(
        job_id=job_id,
        user=user,
        account="",
        flex=flex,
        workload=workload,
        gpus=gpus,
        dynamic_watts=watts,
        submit_seconds=at,
        eligible_seconds=at,
        ready_seconds=at,
        work_seconds=run,
        limit_seconds=limit,
        board_idle_watts=75.0,
    )
