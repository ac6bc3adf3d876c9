"""The [device.*] tables of site.toml: one dataclass per driver, named in DRIVERS."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from slurm_power.config.node_record import split_address
from slurm_power.config.problems import ConfigError, read_record, subtables
from slurm_power.config.register_map import PCS_GIVEN, Role, load_register_map, map_file
from slurm_power.config.snmp_map import load_map
from slurm_power.config.snmp_map import map_file as snmp_map_file


@dataclass(frozen=True, slots=True, kw_only=True)
class SunspecMeter:
    """A grid meter that speaks SunSpec (models 201 to 204 or 701) over Modbus/TCP."""

    name: str
    address: str
    unit_id: int = 1
    base_address: int = 40000
    timeout_seconds: float = 0.5
    max_age_seconds: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SunspecPcs:
    """A battery inverter that speaks SunSpec (models 701, 702, 704, 713, 715) over Modbus/TCP.

    ``temperature_point``: which of model 701's temperatures is the battery's; none: that of model 803, where
    the device has it.
    """

    name: str
    address: str
    unit_id: int = 1
    base_address: int = 40000
    temperature_point: str | None = None
    timeout_seconds: float = 0.5
    max_age_seconds: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SunspecStorage:
    """A battery inverter with SunSpec's older storage models 124 and 802 over Modbus/TCP.

    ``charge_reads_positive``: the device's 802.W is positive while it charges, which the model leaves open.
    """

    name: str
    address: str
    unit_id: int = 1
    base_address: int = 40000
    charge_reads_positive: bool = False
    timeout_seconds: float = 0.5
    max_age_seconds: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnmpPdu:
    """A rack PDU by SNMP: v3 authPriv (SHA-256, AES-128) if ``user`` is given, else v2c with ``community``.

    ``map`` says which object carries its power: ``apc_rpdu2``, ``raritan_pdu2``, or the path of a map of the
    site's own. ``unit`` is its place in a chain, ``inlet`` the one that is measured.

    The two keys stand in files, one line each, so that site.toml itself may be readable.
    """

    name: str
    address: str
    map: str = "apc_rpdu2"
    unit: int = 1
    inlet: int = 1
    community: str | None = None
    user: str | None = None
    auth_key_file: Path | None = None
    privacy_key_file: Path | None = None
    poll_seconds: float = 1.0
    timeout_seconds: float = 1.0
    max_age_seconds: float = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterMeter:
    """A Modbus/TCP meter that is not SunSpec. ``map``: the name of a shipped map, or the path of another."""

    name: str
    address: str
    map: str
    unit_id: int = 1
    timeout_seconds: float = 0.5
    max_age_seconds: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterPcs:
    """A Modbus/TCP battery inverter that is not SunSpec, with a map.

    The ratings are needed where the map reads none; where it does, the lower value counts.
    """

    name: str
    address: str
    map: str
    unit_id: int = 1
    energy_rating_kwh: float | None = None
    max_charge_watts: float | None = None
    max_discharge_watts: float | None = None
    timeout_seconds: float = 0.5
    max_age_seconds: float = 3.0


# The temperatures of SunSpec model 701.
TEMPERATURE_POINTS = ("TmpAmb", "TmpCab", "TmpSnk", "TmpTrns", "TmpSw", "TmpOt")

StorageConfig: TypeAlias = SunspecPcs | SunspecStorage | RegisterPcs
DeviceConfig: TypeAlias = SunspecMeter | RegisterMeter | SnmpPdu | StorageConfig

DRIVERS: Mapping[str, type[DeviceConfig]] = {
    "sunspec_meter": SunspecMeter,
    "sunspec_pcs": SunspecPcs,
    "sunspec_storage": SunspecStorage,
    "register_meter": RegisterMeter,
    "register_pcs": RegisterPcs,
    "snmp_pdu": SnmpPdu,
}


def read_devices(document: dict[str, Any], problems: list[str]) -> dict[str, DeviceConfig]:
    """Read every device table; adds each problem with its path."""
    devices: dict[str, DeviceConfig] = {}
    for name, table in subtables(document, "device", problems).items():
        path = f"device.{name}."
        driver = table.get("driver")
        record = DRIVERS.get(driver) if isinstance(driver, str) else None
        if record is None:
            problems.append(f"{path}driver: {driver!r} is not one of {', '.join(DRIVERS)}")
            continue
        rest = {key: value for key, value in table.items() if key != "driver"}
        device = read_record(record, rest, path, problems, name=name)
        if device is None:
            continue
        split_address(device.address, f"{path}address", problems)
        for key, low, high in (("timeout_seconds", 0.05, 10.0), ("max_age_seconds", 0.5, 300.0)):
            value = getattr(device, key)
            if not low <= value <= high:
                problems.append(f"{path}{key}: {value:g} is not between {low:g} and {high:g}")
        if isinstance(device, SnmpPdu):
            if not 0.25 <= device.poll_seconds <= device.max_age_seconds:
                problems.append(
                    f"{path}poll_seconds: {device.poll_seconds:g} is not between 0.25 and max_age_seconds,"
                    f" {device.max_age_seconds:g}"
                )
            _check_credentials(device, path, problems)
        elif not 0 <= device.unit_id <= 255:
            problems.append(f"{path}unit_id: {device.unit_id} is not between 0 and 255")
        if isinstance(device, SunspecPcs) and device.temperature_point not in (None, *TEMPERATURE_POINTS):
            problems.append(
                f"{path}temperature_point: {device.temperature_point!r} is not one of"
                f" {', '.join(TEMPERATURE_POINTS)}"
            )
        try:
            _check_map(device, path, problems)
        except ConfigError as error:
            problems += [f"{path}map: {error.file}: {problem}" for problem in error.problems]
        devices[name] = device
    return devices


def _check_map(device: DeviceConfig, path: str, problems: list[str]) -> None:
    """Read the device's map, if it has one; raises ConfigError with what is wrong in it."""
    if isinstance(device, SnmpPdu):
        load_map(device.map)
    elif isinstance(device, RegisterMeter):
        load_register_map(device.map, Role.METER)
    elif isinstance(device, RegisterPcs):
        reads = load_register_map(device.map, Role.PCS).reads
        for key in PCS_GIVEN:
            value = getattr(device, key)
            if value is None and key not in reads:
                problems.append(f"{path}{key}: missing; the map {device.map} does not read it")
            elif value is not None and not 0.0 < value < math.inf:
                problems.append(f"{path}{key}: {value:g} must be above 0 and finite")


def map_text(device: DeviceConfig) -> str:
    """What the device's map says, for telling one map from another; empty where it has none or has gone."""
    if isinstance(device, SunspecMeter | SunspecPcs | SunspecStorage):
        return ""
    file = snmp_map_file(device.map) if isinstance(device, SnmpPdu) else map_file(device.map)
    try:
        return file.read_text()
    except OSError:
        return ""


def _check_credentials(device: SnmpPdu, path: str, problems: list[str]) -> None:
    if (device.user is None) == (device.community is None):
        problems.append(f"{path}user: give either user (SNMP v3) or community (v2c)")
    for key in ("auth_key_file", "privacy_key_file"):
        file = getattr(device, key)
        if device.user is not None and (file is None or not file.is_file()):
            problems.append(f"{path}{key}: SNMP v3 needs a readable file with the key")
