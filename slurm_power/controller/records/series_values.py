"""A snapshot into one tick of named values: what circuits, batteries, GPUs and jobs draw."""

from slurm_power.controller.jobs.job_rates import Rates
from slurm_power.controller.sensing.load_feed import circuit_loads
from slurm_power.controller.sensing.rack_draws import rack_draws
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import job_loads
from slurm_power.plan.policy import Policy


def series_values(snapshot: Snapshot, policy: Policy, rates: Rates | None = None) -> dict[str, float | None]:
    """Named values of one moment; None where nothing is known. ``rates``: what energy costs and emits now."""
    values: dict[str, float | None] = {}
    for name, reading in snapshot.circuits.items():
        values[f"circuit.{name}.watts"] = reading.known_watts()
        values[f"circuit.{name}.limit_watts"] = snapshot.limit_watts(name)
        values[f"circuit.{name}.estimated_ratio"] = float(reading.estimated)
    for name, draw in rack_draws(snapshot).items():
        values[f"circuit.{name}.gpu_watts"] = draw.gpu_watts
        values[f"circuit.{name}.idle_gpu_watts"] = draw.idle_gpu_watts
        values[f"circuit.{name}.host_watts"] = draw.host_watts
    loads = job_loads(snapshot, policy)
    for name, watts in circuit_loads(snapshot, loads).items():
        values[f"circuit.{name}.load_watts"] = watts
    for name, ess in snapshot.ess.items():
        values[f"ess.{name}.discharge_watts"] = ess.discharge_watts
        values[f"ess.{name}.setpoint_watts"] = snapshot.setpoints.get(name, 0.0)
        values[f"ess.{name}.soc_ratio"] = ess.soc_ratio
        values[f"ess.{name}.soh_ratio"] = ess.soh_ratio
    for node in snapshot.nodes.values():
        for uuid, gpu in node.gpus.items():
            values[f"gpu.{node.name}.{uuid}.watts"] = None if gpu.error else gpu.power_watts
    root = snapshot.site.root.name
    withheld_watts = 0.0
    for load in loads:
        weight = load.circuit_weights.get(root, 0.0)
        watts = load.gpu_watts * load.job.gpu_count
        values[f"job.{load.job.job_id}.gpu_watts"] = watts if load.covered else None
        values[f"job.{load.job.job_id}.cap_watts"] = load.cap_watts
        if load.cap_watts is not None:
            withheld_watts += max(0.0, load.uncapped_watts - load.gpu_watts) * weight
    values["caps.withheld_watts"] = withheld_watts
    values["supply.price_per_kwh"] = None if rates is None else rates.price_per_kwh
    values["supply.carbon_g_per_kwh"] = None if rates is None else rates.carbon_g_per_kwh
    return values
