"""Configuration files into checked, frozen values; every problem is reported at once, each with its path."""

from slurm_power.config.devices import ApcPdu, DeviceConfig, SunspecMeter, SunspecPcs
from slurm_power.config.node import NodeConfig, load_node
from slurm_power.config.problems import ConfigError
from slurm_power.config.site import ControllerConfig, SiteConfig, load_site

__all__ = [
    "ApcPdu",
    "ConfigError",
    "ControllerConfig",
    "DeviceConfig",
    "NodeConfig",
    "SiteConfig",
    "SunspecMeter",
    "SunspecPcs",
    "load_node",
    "load_site",
]
