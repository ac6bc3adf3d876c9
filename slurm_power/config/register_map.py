"""Where a Modbus device that is not SunSpec keeps what: a TOML file each, read with all problems at once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from slurm_power.config.problems import ConfigError, check_keys, read_record, read_toml

SHIPPED = Path(__file__).parents[1] / "devices" / "maps" / "modbus"
LAST_REGISTER = 65_535
READ_FUNCTIONS = (3, 4)
WRITE_FUNCTIONS = (6, 16)
METER_READS = ("power_watts",)
PCS_READS = (
    *(
        "power_watts",
        "soc_ratio",
        "soh_ratio",
        "energy_rating_kwh",
        "max_charge_watts",
        "max_discharge_watts",
        "temperature_celsius",
    ),
    *("direction", "control", "active", "alarms"),
)
PCS_NEEDED = ("power_watts", "soc_ratio")
# What a map may leave to [device.NAME].
PCS_GIVEN = ("energy_rating_kwh", "max_charge_watts", "max_discharge_watts")
POWERS = ("watts", "magnitude_watts", "charge_watts", "discharge_watts", "ratio_of_limit")
VALUES = (*POWERS, "lease_seconds", "direction")
_KEYS = {"vendor", "document", "role", "address_base", "word_order", "read_function", "max_gap_registers"} | {
    *("watchdog_seconds", "equal_write_seconds", "read", "setpoint", "release"),
}
# The keys of single points: what their raw values mean.
_MEANINGS: Mapping[str, tuple[str, ...]] = {
    "direction": ("charging_bits", "discharging_bits"),
    "control": ("local",),
    "active": ("values",),
    "alarms": ("healthy",),
}


class Role(StrEnum):
    """What the device is to us."""

    METER = "meter"
    PCS = "pcs"


class WordOrder(StrEnum):
    """Which of the registers of a longer value comes first. Bytes inside a register are always big-endian."""

    HIGH_FIRST = "high_first"
    LOW_FIRST = "low_first"


class RegisterType(StrEnum):
    """How a value lies in its registers."""

    U16 = "u16"
    I16 = "i16"
    U32 = "u32"
    I32 = "i32"
    U64 = "u64"
    I64 = "i64"
    F32 = "f32"

    @property
    def bits(self) -> int:
        """Its length."""
        return int(self.value[1:])

    @property
    def registers(self) -> int:
        """How many registers it takes."""
        return self.bits // 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value to read: raw, not in ``nan``, times ``scale`` and ``sign`` is what its name says, in its unit.

    ``address`` is as sent, counted from 0. ``meaning`` holds what raw values mean, by key: bits, or values.
    """

    address: int
    type: RegisterType
    word_order: WordOrder | None = None
    function: int = 0
    scale: float = 1.0
    sign: int = 1
    nan: tuple[int, ...] = field(default=())
    meaning: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A register to write: ``constant``, or what ``value`` names, divided by ``scale`` and times ``sign``.

    ``direction`` writes ``charge``, ``discharge`` or ``rest``. A value below ``lowest`` is written as that.
    ``read_back`` is false where the register does not keep what was written.
    """

    address: int
    type: RegisterType
    value: str = ""
    constant: int | None = None
    word_order: WordOrder | None = None
    function: int = 0
    scale: float = 1.0
    sign: int = 1
    lowest: float | None = None
    charge: int | None = None
    discharge: int | None = None
    rest: int | None = None
    read_back: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterMap:
    """A whole map; addresses are counted from 0, word orders and functions filled in.

    ``watchdog_seconds`` is after how long the device lets go of a setpoint by itself, where it is no
    ``lease_seconds`` that is written to it. An equal value is not written again before
    ``equal_write_seconds`` (registers that wear out).
    """

    vendor: str
    document: str
    role: Role
    reads: Mapping[str, Point]
    setpoint: tuple[Write, ...] = ()
    release: tuple[Write, ...] = ()
    max_gap_registers: int = 0
    watchdog_seconds: float | None = None
    equal_write_seconds: float = 0.0

    def reversion_seconds(self, lease_seconds: float) -> float:
        """After how long in our silence the device itself ends a setpoint."""
        told = [
            max(lease_seconds, step.lowest or 0.0) for step in self.setpoint if step.value == "lease_seconds"
        ]
        return max(told) if told else self.watchdog_seconds or 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """The keys of a map outside its tables."""

    vendor: str
    document: str
    role: Role
    address_base: int = 0
    word_order: WordOrder = WordOrder.HIGH_FIRST
    read_function: int = 3
    max_gap_registers: int = 0
    watchdog_seconds: float | None = None
    equal_write_seconds: float = 0.0


Placed = TypeVar("Placed", Point, Write)


def map_file(name: str) -> Path:
    """The file of a shipped map by its name, or of a map of the site's own by its path."""
    return Path(name) if "/" in name else SHIPPED / f"{name}.toml"


def shipped() -> list[str]:
    """The names of the maps that come with us."""
    return sorted(file.stem for file in SHIPPED.glob("*.toml"))


def load_register_map(name: str, role: Role | None = None) -> RegisterMap:
    """Read a map; raises ConfigError with all its problems, also when it is not for ``role``."""
    file = map_file(name)
    if not file.exists():
        raise ConfigError(file, [f"there is no such map; shipped are {', '.join(shipped())}"])
    document = read_toml(file)
    problems: list[str] = []
    check_keys(document, _KEYS, "", problems)
    tables = {"read", "setpoint", "release"}
    rest = {key: value for key, value in document.items() if key in _KEYS - tables}
    head = read_record(_Head, rest, "", problems)
    if head is None:
        raise ConfigError(file, problems)
    if role is not None and head.role is not role:
        raise ConfigError(file, [f"role: this is a map of a {head.role}, not of a {role}"])
    found = RegisterMap(
        vendor=head.vendor,
        document=head.document,
        role=head.role,
        reads=_reads(document.get("read"), head, problems),
        setpoint=_writes(document.get("setpoint", []), "setpoint", head, problems),
        release=_writes(document.get("release", []), "release", head, problems),
        max_gap_registers=head.max_gap_registers,
        watchdog_seconds=head.watchdog_seconds,
        equal_write_seconds=head.equal_write_seconds,
    )
    _check_head(head, problems)
    if head.role is Role.PCS:
        _check_pcs(found, problems)
    elif found.setpoint or found.release:
        problems.append("setpoint: a meter is never written to")
    if problems:
        raise ConfigError(file, problems)
    return found


def _check_head(head: _Head, problems: list[str]) -> None:
    problems += [
        f"{key}: must not be empty; say whose registers these are, and from which document"
        for key in ("vendor", "document")
        if not getattr(head, key)
    ]
    if head.address_base not in (0, 1):
        problems.append(f"address_base: {head.address_base} is not 0 or 1")
    if head.read_function not in READ_FUNCTIONS:
        problems.append(f"read_function: {head.read_function} is not 3 (holding) or 4 (input registers)")
    if not 0 <= head.max_gap_registers <= 100:
        problems.append(f"max_gap_registers: {head.max_gap_registers} is not between 0 and 100")


def _check_pcs(found: RegisterMap, problems: list[str]) -> None:
    for steps, name in ((found.setpoint, "setpoint"), (found.release, "release")):
        if not steps:
            problems.append(f"{name}: missing; give its [[{name}]] tables in the order of writing")
    if found.setpoint and not any(step.value in POWERS for step in found.setpoint):
        problems.append(f"setpoint: none of its writes has a value of {', '.join(POWERS)}")
    timed = any(step.value == "lease_seconds" for step in found.setpoint)
    if not timed and not found.watchdog_seconds:
        problems.append(
            "watchdog_seconds: missing; a device that keeps its last setpoint for ever cannot be used"
        )
    elif found.watchdog_seconds is not None and not 1.0 <= found.watchdog_seconds <= 300.0:
        problems.append(f"watchdog_seconds: {found.watchdog_seconds:g} is not between 1 and 300")
    most = (found.watchdog_seconds or 0.0) / 2
    if not 0.0 <= found.equal_write_seconds <= most:
        problems.append(
            f"equal_write_seconds: {found.equal_write_seconds:g} is not between 0 and {most:g}, half of"
            " watchdog_seconds"
        )


def _reads(rows: object, head: _Head, problems: list[str]) -> dict[str, Point]:
    if not isinstance(rows, dict) or not rows:
        problems.append("read: missing; give at least [read.power_watts]")
        return {}
    known, needed = (METER_READS, METER_READS) if head.role is Role.METER else (PCS_READS, PCS_NEEDED)
    check_keys(rows, set(known), "read.", problems)
    problems += [f"read.{name}: missing" for name in needed if name not in rows]
    points = {}
    for name in known:
        if name in rows:
            point = _point(name, rows[name], head, problems)
            if point is not None:
                points[name] = point
    return points


def _point(name: str, row: object, head: _Head, problems: list[str]) -> Point | None:
    path = f"read.{name}."
    if not isinstance(row, dict):
        problems.append(f"read.{name}: must be a table, write [read.{name}]")
        return None
    taken = {"nan", "names", *_MEANINGS.get(name, ())}
    lists = {key: _numbers(row.get(key, []), path + key, problems) for key in taken - {"names"}}
    names = _names(row.get("names", {}), f"{path}names", problems) if name == "alarms" else {}
    if name != "alarms" and "names" in row:
        problems.append(f"{path}names: only alarms have names")
    problems += [
        f"{path}{key}: missing; a list of whole numbers"
        for key in _MEANINGS.get(name, ())
        if not lists[key] and name != "alarms"
    ]
    point = read_record(
        Point,
        {key: value for key, value in row.items() if key not in taken},
        path,
        problems,
        nan=lists.pop("nan"),
        meaning=lists,
        names=names,
    )
    return _placed(point, path, head, problems)


def _writes(rows: object, name: str, head: _Head, problems: list[str]) -> tuple[Write, ...]:
    if not isinstance(rows, list):
        problems.append(f"{name}: must be a list of tables, write [[{name}]]")
        return ()
    found = [_write(row, f"{name}[{index}].", head, problems) for index, row in enumerate(rows)]
    return tuple(step for step in found if step is not None)


def _write(row: object, path: str, head: _Head, problems: list[str]) -> Write | None:
    if not isinstance(row, dict):
        problems.append(f"{path.rstrip('.')}: must be a table")
        return None
    value = row.get("value")
    given: dict[str, Any] = {"value": "", "constant": None}
    if type(value) is int:
        given["constant"] = value
    elif isinstance(value, str) and value in VALUES:
        given["value"] = value
    else:
        problems.append(f"{path}value: {value!r} is not a whole number or one of {', '.join(VALUES)}")
    rest = {key: item for key, item in row.items() if key != "value"}
    step = read_record(Write, rest, path, problems, **given)
    if step is not None and step.value == "direction":
        problems += [
            f"{path}{key}: missing; what is written for it"
            for key in ("charge", "discharge", "rest")
            if getattr(step, key) is None
        ]
    step = _placed(step, path, head, problems)
    if step is not None and step.function == 6 and step.type.registers != 1:
        problems.append(f"{path}function: 6 writes one register, and {step.type} takes {step.type.registers}")
    return step


def _placed(
    found: Placed | None,
    path: str,
    head: _Head,
    problems: list[str],
) -> Placed | None:
    """Count its address from 0, fill in what the head says, check what reads and writes have in common."""
    if found is None:
        return None
    reads = isinstance(found, Point)
    functions = READ_FUNCTIONS if reads else WRITE_FUNCTIONS
    function = found.function or (head.read_function if reads else WRITE_FUNCTIONS[-1])
    if function not in functions:
        problems.append(f"{path}function: {function} is not {' or '.join(map(str, functions))}")
    first = found.address - head.address_base
    if not 0 <= first <= LAST_REGISTER + 1 - found.type.registers:
        problems.append(f"{path}address: {found.address} is outside 0 to {LAST_REGISTER}")
    if not math.isfinite(found.scale) or found.scale <= 0.0:
        problems.append(f"{path}scale: {found.scale:g} must be above 0; for a reversed sign give sign = -1")
    if found.sign not in (1, -1):
        problems.append(f"{path}sign: {found.sign} is not 1 or -1")
    return replace(found, address=first, function=function, word_order=found.word_order or head.word_order)


def _numbers(value: object, path: str, problems: list[str]) -> tuple[int, ...]:
    if isinstance(value, list) and all(type(item) is int for item in value):
        return tuple(value)
    problems.append(f"{path}: must be a list of whole numbers")
    return ()


def _names(value: object, path: str, problems: list[str]) -> dict[int, str]:
    if (
        isinstance(value, dict)
        and all(key.isdecimal() for key in value)
        and all(isinstance(name, str) for name in value.values())
    ):
        return {int(key): name for key, name in value.items()}
    problems.append(f'{path}: must be a table of numbers and names, {{ "0" = "over temperature" }}')
    return {}
