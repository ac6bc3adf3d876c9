"""plant.toml: every constant of the simulated plant, each with its value, unit and source.

The unit is implied by the end of a constant's name and must be stated again in the file, where a slip shows.
"""

import math
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from slurm_power.config.problems import ConfigError, check_keys, read_toml

Section = TypeVar("Section")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuConstants:
    """One GPU. The names are those of the NVML stand-in's ``PHYSICS.md``."""

    idle_watts: float
    loaded_idle_watts: float
    limit_default_watts: float
    limit_min_watts: float
    limit_max_watts: float
    cap_dead_time_seconds: float
    cap_time_constant_seconds: float
    load_time_constant_seconds: float
    regulator_delay_seconds: float
    regulator_release_seconds: float
    cap_tracking_ratio: float
    peak_ratio: float
    clock_exponent: float
    clock_min_ratio: float
    duty_min_ratio: float
    clock_max_megahertz: float
    clock_min_megahertz: float
    clock_idle_megahertz: float
    clock_step_megahertz: float
    memory_clock_megahertz: float
    memory_bytes: float
    cuda_driver_version: int
    model_name: str
    driver_version: str
    nvml_version: str
    thermal_ambient_celsius: float
    thermal_resistance_celsius_per_watt: float
    thermal_time_constant_seconds: float
    thermal_slowdown_celsius: float
    thermal_hysteresis_celsius: float
    thermal_slowdown_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConstants:
    """What an eight-GPU node draws beside its GPUs, before the losses of its power supplies."""

    idle_watts: float
    full_load_watts: float
    gpus_per_host_count: int
    power_supply_efficiency_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConstants:
    """The grid connection: what is lost and added between it and the racks, and its voltage."""

    overhead_ratio: float
    base_load_watts: float
    phase_voltage_volts: float
    frequency_hertz: float
    power_factor_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterConstants:
    """The grid meter. Its registers hold the mean over the last refresh interval."""

    refresh_seconds: float
    resolution_watts: float
    first_phase_ratio: float
    second_phase_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PduConstants:
    """A rack PDU: how often it refreshes and in which steps it counts."""

    refresh_seconds: float
    resolution_watts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PcsConstants:
    """PCS and battery. ``ramp_full_seconds`` is from zero to rated power; power limits are magnitudes."""

    rated_watts: float
    rated_capacity_wh: float
    state_of_health_ratio: float
    initial_soc_ratio: float
    min_soc_ratio: float
    max_soc_ratio: float
    taper_soc_ratio: float
    discharge_efficiency_ratio: float
    charge_efficiency_ratio: float
    auxiliary_watts: float
    dead_time_seconds: float
    ramp_full_seconds: float
    heartbeat_timeout_seconds: float
    ambient_celsius: float
    thermal_resistance_celsius_per_watt: float
    thermal_time_constant_seconds: float
    derating_start_celsius: float
    derating_end_celsius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadConstants:
    """The power shape of one workload class; ``*_demand_ratio`` are shares of the GPU's highest limit.

    Demand moves between ``low_demand_ratio`` and ``high_demand_ratio``. ``static_ratio`` is the share of the
    demand that does not follow the clock, ``compute_bound_ratio`` the share of the throughput that does. With
    a batch b the draw scales with (b / reference) ** power exponent, the throughput with its own exponent.
    """

    low_demand_ratio: float
    high_demand_ratio: float
    startup_seconds: float
    startup_demand_ratio: float
    swing_min_hertz: float
    swing_max_hertz: float
    swing_low_share_ratio: float
    pause_period_seconds: float
    pause_seconds: float
    pause_demand_ratio: float
    static_ratio: float
    compute_bound_ratio: float
    batch_reference_count: int
    batch_power_exponent: float
    batch_throughput_exponent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantConstants:
    """All tables of plant.toml."""

    gpu: GpuConstants
    host: HostConstants
    site: SiteConstants
    meter: MeterConstants
    pdu: PduConstants
    pcs: PcsConstants
    training: WorkloadConstants
    inference: WorkloadConstants
    generation: WorkloadConstants


# The longest matching ending decides.
UNITS = {
    "_celsius_per_watt": "°C/W",
    "_watts": "W",
    "_wh": "Wh",
    "_seconds": "s",
    "_ratio": "1",
    "_exponent": "1",
    "_count": "1",
    "_celsius": "°C",
    "_volts": "V",
    "_hertz": "Hz",
    "_megahertz": "MHz",
    "_bytes": "B",
    "_name": "text",
    "_version": "text",
    "cuda_driver_version": "1",
}
MAY_BE_NEGATIVE = ("_celsius",)
AT_LEAST_ONE = ("peak_ratio", "overhead_ratio")


def load_constants(file: Path) -> PlantConstants:
    """Read plant.toml; raises ConfigError with every problem, each with its path."""
    document = read_toml(file)
    problems: list[str] = []
    sections = get_type_hints(PlantConstants)
    check_keys(document, set(sections), "", problems)
    found = {name: _read_section(kind, document.get(name), name, problems) for name, kind in sections.items()}
    if not problems:
        constants = PlantConstants(**found)  # type: ignore[arg-type]  # without problems none is None
        _check_together(constants, problems)
    if problems:
        raise ConfigError(file, problems)
    return constants


def unit_of(name: str) -> str:
    """Return the unit that a constant's name implies; raises KeyError for a name without one."""
    ending = max((ending for ending in UNITS if name.endswith(ending)), key=len, default=name)
    return UNITS[ending]


def _read_section(kind: type[Section], table: object, path: str, problems: list[str]) -> Section | None:
    if not isinstance(table, dict):
        problems.append(f"{path}: missing" if table is None else f"{path}: must be a table")
        return None
    before = len(problems)
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass type
    check_keys(table, set(names), f"{path}.", problems)
    values = {}
    for name in names:
        if name in table:
            values[name] = _read_constant(table[name], name, hints[name], f"{path}.{name}", problems)
        else:
            problems.append(f"{path}.{name}: missing")
    return kind(**values) if len(problems) == before else None


def _read_constant(entry: object, name: str, kind: Any, path: str, problems: list[str]) -> object:
    if not isinstance(entry, dict):
        problems.append(f"{path}: must be a table with value, unit and source")
        return None
    check_keys(entry, {"value", "unit", "source"}, f"{path}.", problems)
    source = entry.get("source")
    if not isinstance(source, str) or not source.strip():
        problems.append(f"{path}.source: must say where the value comes from")
    if entry.get("unit") != unit_of(name):
        problems.append(f"{path}.unit: must be {unit_of(name)!r}, not {entry.get('unit')!r}")
    value = entry.get("value")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        word = {float: "a number", int: "a whole number", str: "a string"}[kind]
        problems.append(f"{path}.value: must be {word}, not {value!r}")
    elif isinstance(value, int | float):
        _check_range(value, name, path, problems)
    elif not value:
        problems.append(f"{path}.value: must not be empty")
    return value


def _check_range(number: float, name: str, path: str, problems: list[str]) -> None:
    if not math.isfinite(number) or (number < 0 and not name.endswith(MAY_BE_NEGATIVE)):
        problems.append(f"{path}.value: {number:g} is out of range")
    elif name in AT_LEAST_ONE and number < 1.0:
        problems.append(f"{path}.value: {number:g} is below 1")
    elif name.endswith("_ratio") and name not in AT_LEAST_ONE and number > 1.0:
        problems.append(f"{path}.value: {number:g} is above 1 (is it in percent?)")


def _check_together(constants: PlantConstants, problems: list[str]) -> None:
    gpu, host, pcs = constants.gpu, constants.host, constants.pcs
    ordered = {
        "gpu: idle_watts <= loaded_idle_watts": gpu.idle_watts <= gpu.loaded_idle_watts,
        "gpu: limit_min_watts <= limit_default_watts <= limit_max_watts": (
            gpu.limit_min_watts <= gpu.limit_default_watts <= gpu.limit_max_watts
        ),
        "host: idle_watts <= full_load_watts": host.idle_watts <= host.full_load_watts,
        "host: power_supply_efficiency_ratio > 0": host.power_supply_efficiency_ratio > 0.0,
        "host: gpus_per_host_count > 0": host.gpus_per_host_count > 0,
        "pcs: min_soc_ratio <= initial_soc_ratio <= max_soc_ratio": (
            pcs.min_soc_ratio <= pcs.initial_soc_ratio <= pcs.max_soc_ratio
        ),
        "pcs: min_soc_ratio < max_soc_ratio": pcs.min_soc_ratio < pcs.max_soc_ratio,
        "pcs: derating_start_celsius < derating_end_celsius": (
            pcs.derating_start_celsius < pcs.derating_end_celsius
        ),
        "meter: first_phase_ratio + second_phase_ratio < 1": (
            constants.meter.first_phase_ratio + constants.meter.second_phase_ratio < 1.0
        ),
    }
    problems += [f"{rule}: does not hold" for rule, holds in ordered.items() if not holds]
    problems += _check_above_zero(constants)
    for name in ("training", "inference", "generation"):
        shape: WorkloadConstants = getattr(constants, name)
        if not shape.low_demand_ratio <= shape.high_demand_ratio:
            problems.append(f"{name}: low_demand_ratio <= high_demand_ratio: does not hold")
        if not 0.0 < shape.swing_min_hertz <= shape.swing_max_hertz:
            problems.append(f"{name}: 0 < swing_min_hertz <= swing_max_hertz: does not hold")
        if shape.pause_seconds >= shape.pause_period_seconds:
            problems.append(f"{name}: pause_seconds < pause_period_seconds: does not hold")


ABOVE_ZERO = (
    "gpu.cap_time_constant_seconds",
    "gpu.load_time_constant_seconds",
    "gpu.thermal_time_constant_seconds",
    "gpu.clock_exponent",
    "gpu.clock_min_ratio",
    "gpu.clock_max_megahertz",
    "gpu.cap_tracking_ratio",
    "gpu.duty_min_ratio",
    "site.phase_voltage_volts",
    "site.power_factor_ratio",
    "meter.refresh_seconds",
    "meter.resolution_watts",
    "pdu.refresh_seconds",
    "pdu.resolution_watts",
    "pcs.rated_watts",
    "pcs.rated_capacity_wh",
    "pcs.state_of_health_ratio",
    "pcs.taper_soc_ratio",
    "pcs.discharge_efficiency_ratio",
    "pcs.charge_efficiency_ratio",
    "pcs.ramp_full_seconds",
    "pcs.heartbeat_timeout_seconds",
    "pcs.thermal_time_constant_seconds",
)


def _check_above_zero(constants: PlantConstants) -> list[str]:
    values = {path: attrgetter(path)(constants) for path in ABOVE_ZERO}
    return [f"{path}.value: must be above 0" for path, value in values.items() if not value > 0.0]
