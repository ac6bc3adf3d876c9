"""Configuration files into checked, frozen values; every problem is reported at once, each with its path."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurm_power.config.devices import (
        DeviceConfig,
        RegisterMeter,
        RegisterPcs,
        SnmpPdu,
        StorageConfig,
        SunspecMeter,
        SunspecPcs,
        SunspecStorage,
    )
    from slurm_power.config.metrics import MetricsConfig
    from slurm_power.config.node import load_node
    from slurm_power.config.node_record import NodeConfig
    from slurm_power.config.problems import ConfigError
    from slurm_power.config.site import ControllerConfig, SiteConfig, load_site
    from slurm_power.config.store import StoreConfig
    from slurm_power.config.supply import SupplyConfig

__all__ = [
    "ConfigError",
    "ControllerConfig",
    "DeviceConfig",
    "ForecastConfig",
    "MetricsConfig",
    "NodeConfig",
    "RegisterMeter",
    "RegisterPcs",
    "SiteConfig",
    "SnmpPdu",
    "StorageConfig",
    "StoreConfig",
    "SunspecMeter",
    "SunspecPcs",
    "SunspecStorage",
    "SupplyConfig",
    "load_node",
    "load_site",
]

_MODULES = ("node_record", "node", "problems", "devices", "metrics", "store", "forecast", "supply", "site")


def __getattr__(name: str) -> Any:
    """Find a name when it is asked for: a node never loads what describes a site."""
    if name in __all__:
        for module in _MODULES:
            found = getattr(import_module(f"{__name__}.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
