"""From GPUs to the grid meter: node = (GPUs + host) / power supply; grid = racks x overhead - battery."""

from collections.abc import Iterable

from slurm_power.simulate.constants import HostConstants, SiteConstants


def host_watts(constants: HostConstants, mean_utilization_ratio: float, gpu_count: int) -> float:
    """Return what CPUs, memory, fans and network cards draw; it follows the mean utilization of the GPUs.

    The constants are for a node of ``gpus_per_host_count`` GPUs; a smaller node draws its share.
    """
    span = constants.full_load_watts - constants.idle_watts
    share = gpu_count / constants.gpus_per_host_count
    return share * (constants.idle_watts + span * min(1.0, max(0.0, mean_utilization_ratio)))


def node_watts(constants: HostConstants, gpu_watts: float, host_draw_watts: float) -> float:
    """Return what a node draws from its rack PDU, with the losses of its power supplies."""
    return (gpu_watts + host_draw_watts) / constants.power_supply_efficiency_ratio


def site_load_watts(constants: SiteConstants, racks_watts: Iterable[float], base_load_watts: float) -> float:
    """Return the load at the grid connection: racks with distribution and cooling, and what else is there."""
    return constants.overhead_ratio * sum(racks_watts) + base_load_watts


def grid_import_watts(load_watts: float, ess_auxiliary_watts: float, ess_discharge_watts: float) -> float:
    """Return what the grid meter sees: load and the battery system's own use, less its discharge."""
    return load_watts + ess_auxiliary_watts - ess_discharge_watts
