"""site.toml: the circuits, their meters, the storage, and how powerctld runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Any

from slurm_power.config.admission import AdmissionConfig
from slurm_power.config.checks import check_tree, check_watts
from slurm_power.config.devices import DeviceConfig, RegisterPcs, StorageConfig, read_devices
from slurm_power.config.ess import ess_problems, read_ess
from slurm_power.config.forecast import ForecastConfig
from slurm_power.config.governance import GovernanceConfig
from slurm_power.config.metrics import MetricsConfig
from slurm_power.config.node import LOG_LEVELS
from slurm_power.config.node_record import split_address
from slurm_power.config.problems import ConfigError, check_keys, read_record, read_toml, subtables
from slurm_power.config.register_map import Role, load_register_map
from slurm_power.config.store import StoreConfig
from slurm_power.config.supply import SupplyConfig, read_supply, zone_named
from slurm_power.config.web import WebConfig, read_web
from slurm_power.model.site import Circuit, Ess, LimitKind, Site
from slurm_power.plan.policy import Policy


class SchedulerKind(StrEnum):
    """How Slurm is spoken to."""

    AUTO = "auto"
    """Through pyslurm where one is there that was built for this Slurm, else by commands."""
    CLI = "cli"
    """By squeue, scontrol and sinfo."""
    PYSLURM = "pyslurm"
    """Through pyslurm, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConfig:
    """The ``[controller]`` table: where powerctld listens, what it keeps, how often it looks."""

    listen: str = "127.0.0.1:6820"
    socket: Path = Path("/run/slurm-power/powerctld.sock")
    state_directory: Path = Path("/var/lib/slurm-power/powerctld")
    munge_socket: str | None = None
    node_uid: int = 0
    tls_directory: Path = Path("/etc/slurm-power/tls")
    certificate_hours: float = 24.0
    slurm_conf: Path | None = None
    scheduler: SchedulerKind = SchedulerKind.AUTO
    slurm_poll_seconds: float = 5.0
    planner_seconds: float = 5.0
    day_plan_seconds: float = 300.0
    cap_lease_seconds: float = 10.0
    hold_lease_seconds: float = 60.0
    receipts: bool = True
    tiers_path: Path = Path("/etc/slurm-power/tiers.toml")
    log_level: str = "INFO"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConfig:
    """A whole, checked site.toml."""

    file: Path
    controller: ControllerConfig
    store: StoreConfig
    metrics: MetricsConfig
    forecast: ForecastConfig
    site: Site
    devices: Mapping[str, DeviceConfig]
    ess_devices: Mapping[str, str]
    policy: Policy
    supply: SupplyConfig
    zone: tzinfo
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    web: WebConfig = field(default_factory=WebConfig)
    governance: GovernanceConfig = field(default_factory=GovernanceConfig)


def load_site(file: Path) -> SiteConfig:
    """Read and check site.toml without touching any device; raises ConfigError with all problems."""
    document = read_toml(file)
    problems: list[str] = []
    check_keys(
        document,
        {
            "site",
            "controller",
            "store",
            "metrics",
            "forecast",
            "policy",
            "supply",
            "admission",
            "web",
            "governance",
            "circuit",
            "device",
            "ess",
        },
        "",
        problems,
    )
    name, zone = _site_table(document, problems)
    controller = read_record(
        ControllerConfig, _table(document, "controller", problems), "controller.", problems
    )
    policy = read_record(Policy, _table(document, "policy", problems), "policy.", problems)
    store = read_record(StoreConfig, _table(document, "store", problems), "store.", problems)
    metrics = read_record(MetricsConfig, _table(document, "metrics", problems), "metrics.", problems)
    forecast = read_record(ForecastConfig, _table(document, "forecast", problems), "forecast.", problems)
    supply = read_supply(_table(document, "supply", problems), problems)
    admission = read_record(AdmissionConfig, _table(document, "admission", problems), "admission.", problems)
    web = read_web(_table(document, "web", problems), problems)
    governance = read_record(
        GovernanceConfig, _table(document, "governance", problems), "governance.", problems
    )
    devices = read_devices(document, problems)
    circuits = _read_circuits(document, problems)
    ess, ess_devices = read_ess(document, problems)
    site = Site(name=name, circuits=circuits, ess=ess)
    before = len(problems)
    check_tree(site, problems)
    tree_stands = bool(circuits) and len(problems) == before
    problems += [problem for one in ess.values() for problem in ess_problems(one)]
    _check_references(site, devices, ess_devices, problems)
    if controller is not None:
        _check_controller(controller, problems)
    if policy is not None:
        problems += [f"policy.{problem}" for problem in policy.problems()]
    if store is not None:
        problems += [f"store.{problem}" for problem in store.problems()]
    if metrics is not None:
        problems += [f"metrics.{problem}" for problem in metrics.problems()]
    if forecast is not None:
        problems += [f"forecast.{problem}" for problem in forecast.problems()]
    if governance is not None:
        governance = governance.below(file.parent)
        problems += [f"governance.{problem}" for problem in governance.problems()]
    if admission is not None:
        found = admission.problems(site if tree_stands else None)
        problems += [f"admission.{problem}" for problem in found]
    if (
        problems
        or admission is None
        or web is None
        or governance is None
        or controller is None
        or store is None
        or metrics is None
        or forecast is None
        or policy is None
        or supply is None
    ):
        raise ConfigError(file, problems)
    return SiteConfig(
        file=file,
        controller=controller,
        store=store,
        metrics=metrics,
        forecast=forecast,
        site=site,
        devices=devices,
        ess_devices=ess_devices,
        policy=policy,
        supply=supply.below(file.parent),
        zone=zone,
        admission=admission,
        web=web,
        governance=governance,
    )


def _table(document: dict[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    table = document.get(key, {})
    if isinstance(table, dict):
        return table
    problems.append(f"{key}: must be a table, write [{key}]")
    return {}


def _site_table(document: dict[str, Any], problems: list[str]) -> tuple[str, tzinfo]:
    table = _table(document, "site", problems)
    check_keys(table, {"name", "timezone"}, "site.", problems)
    name, zone_name = table.get("name"), table.get("timezone", "UTC")
    if not isinstance(name, str) or not name:
        problems.append("site.name: missing; give the site a name")
        name = ""
    zone = zone_named(zone_name) if isinstance(zone_name, str) else None
    if zone is None:
        problems.append(
            f"site.timezone: {zone_name!r} is no time zone that this machine knows; write Europe/Berlin"
        )
        zone = UTC
    return name, zone


def _read_circuits(document: dict[str, Any], problems: list[str]) -> dict[str, Circuit]:
    circuits = {}
    for name, table in subtables(document, "circuit", problems).items():
        circuit = read_record(Circuit, table, f"circuit.{name}.", problems, name=name)
        if circuit is not None:
            circuits[name] = circuit
        else:
            _check_rest(name, table, problems)
    if not document.get("circuit"):
        problems.append("circuit: missing; describe at least the grid connection as [circuit.grid]")
    return circuits


def _check_rest(name: str, table: dict[str, Any], problems: list[str]) -> None:
    """Check the watts of a circuit that has other problems, so that all are said at once."""
    watts = {key: table.get(key) for key in ("rating_watts", "limit_watts")}
    numbers = {
        key: float(value)
        for key, value in watts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    nodes = table.get("nodes")
    if "rating_watts" in numbers:
        rough = Circuit(
            name=name,
            rating_watts=numbers["rating_watts"],
            limit_kind=LimitKind.ECONOMIC,
            limit_watts=numbers.get("limit_watts"),
            nodes=tuple(map(str, nodes)) if isinstance(nodes, list) else (),
        )
        check_watts(rough, problems)


def _check_references(
    site: Site, devices: Mapping[str, DeviceConfig], ess_devices: Mapping[str, str], problems: list[str]
) -> None:
    for circuit in site.circuits.values():
        if circuit.meter is not None and circuit.meter not in devices:
            problems.append(f"circuit.{circuit.name}.meter: there is no [device.{circuit.meter}]")
        elif circuit.meter is not None and isinstance(devices[circuit.meter], StorageConfig):
            problems.append(f"circuit.{circuit.name}.meter: {circuit.meter} is a PCS, no meter")
    for name, device in ess_devices.items():
        if not isinstance(devices.get(device), StorageConfig):
            problems.append(
                f"ess.{name}.device: {device} is no PCS (driver sunspec_pcs, sunspec_storage or register_pcs)"
            )
        elif isinstance(config := devices[device], RegisterPcs):
            _check_lease(site.ess[name], config, problems)


def _check_lease(ess: Ess, device: RegisterPcs, problems: list[str]) -> None:
    """A lease must not promise an end that comes sooner than that of the device itself."""
    try:
        seconds = load_register_map(device.map, Role.PCS).reversion_seconds(ess.lease_seconds)
    except ConfigError:  # told with the device
        return
    if ess.lease_seconds < seconds:
        problems.append(
            f"ess.{ess.name}.lease_seconds: {ess.lease_seconds:g} is too short, {device.name} keeps a"
            f" setpoint for {seconds:g} s when powerctld is gone; write lease_seconds = {seconds:g}"
        )


def _check_controller(controller: ControllerConfig, problems: list[str]) -> None:
    split_address(controller.listen, "controller.listen", problems)
    if controller.log_level not in LOG_LEVELS:
        problems.append(
            f"controller.log_level: {controller.log_level!r} is not one of {', '.join(LOG_LEVELS)}"
        )
    for key, low, high in (
        ("slurm_poll_seconds", 1.0, 60.0),
        ("planner_seconds", 1.0, 60.0),
        ("day_plan_seconds", 0.0, 3600.0),
        ("cap_lease_seconds", 3.0, 120.0),
        ("hold_lease_seconds", 10.0, 3600.0),
        ("certificate_hours", 0.05, 8760.0),
    ):
        value = getattr(controller, key)
        if not low <= value <= high:
            problems.append(f"controller.{key}: {value:g} is not between {low:g} and {high:g}")
