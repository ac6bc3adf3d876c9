"""Drivers, one file each, loaded only when a configuration names them."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the node daemon comes by here too and needs none of it
    from slurm_power.config.devices import DeviceConfig
    from slurm_power.ports import PowerMeter, Storage

DRIVERS = {
    "amdsmi": "slurm_power.devices.amd:AmdGpus",
    "nvml": "slurm_power.devices.nvml:NvmlGpus",
    "SunspecMeter": "slurm_power.devices.meter_sunspec:SunspecMeterDriver",
    "SunspecPcs": "slurm_power.devices.pcs_sunspec:SunspecPcsDriver",
    "SunspecStorage": "slurm_power.devices.storage_sunspec:SunspecStorageDriver",
    "RegisterMeter": "slurm_power.devices.meter_register:RegisterMeterDriver",
    "RegisterPcs": "slurm_power.devices.pcs_register:RegisterPcsDriver",
    "SnmpPdu": "slurm_power.devices.pdu_snmp:SnmpPduDriver",
}


def driver(name: str) -> Any:
    """Return the class of a driver; raises KeyError for an unknown name, ImportError without its library."""
    module, _, attribute = DRIVERS[name].partition(":")
    return getattr(import_module(module), attribute)


def gpu_driver_name(wished: str, modules: Path = Path("/sys/module")) -> str:
    """The driver for this node's GPUs: as wished, or for ``auto`` what the kernel has; NVIDIA's in doubt."""
    if wished != "auto":
        return wished
    only_amd = (modules / "amdgpu").exists() and not (modules / "nvidia").exists()
    return "amdsmi" if only_amd else "nvml"


def build_driver(config: "DeviceConfig") -> "PowerMeter | Storage":
    """Return the driver for a device of site.toml, not yet connected."""
    built: PowerMeter | Storage = driver(type(config).__name__)(config)
    return built
