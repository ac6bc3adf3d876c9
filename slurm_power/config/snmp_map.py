"""Which object of a PDU carries its power: one TOML file for each MIB, read with all its problems at once."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from slurm_power.config.problems import ConfigError, check_keys, read_record, read_toml

SHIPPED = Path(__file__).parents[1] / "devices" / "maps" / "snmp"
_OID = re.compile(r"\d+(\.(\d+|\{unit\}|\{inlet\}))+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerObject:
    """One object that may carry the power. ``{unit}`` and ``{inlet}`` in an OID are the PDU's places.

    ``digits_oid`` is an object that says by how many decimal digits the value is moved. ``unsupported`` are
    the values that mean that there is none.
    """

    label: str
    oid: str
    watts_per_count: float = 1.0
    digits_oid: str | None = None
    first_unit_only: bool = False
    unsupported: tuple[int, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class SnmpMap:
    """The objects to try, the first that is supported counts."""

    vendor: str
    document: str
    power: tuple[PowerObject, ...]


def map_file(name: str) -> Path:
    """The file of a shipped map by its name, or of a map of the site's own by its path."""
    return Path(name) if "/" in name else SHIPPED / f"{name}.toml"


def load_map(name: str) -> SnmpMap:
    """Read a shipped map by its name, or a map of the site's own by its path; raises ConfigError."""
    file = map_file(name)
    if not file.exists():
        raise ConfigError(file, [f"there is no such map; shipped are {', '.join(shipped())}"])
    document = read_toml(file)
    problems: list[str] = []
    check_keys(document, {"vendor", "document", "power"}, "", problems)
    problems += [
        f"{key}: missing; say whose MIB this is from"
        for key in ("vendor", "document")
        if not isinstance(document.get(key), str) or not document[key]
    ]
    rows = document.get("power")
    objects = []
    if not isinstance(rows, list) or not rows:
        problems.append("power: missing; give at least one [[power]] table")
    else:
        objects = [_object(row, f"power[{index}].", problems) for index, row in enumerate(rows)]
    if problems:
        raise ConfigError(file, problems)
    return SnmpMap(
        vendor=document["vendor"],
        document=document["document"],
        power=tuple(found for found in objects if found is not None),
    )


def shipped() -> list[str]:
    """The names of the maps that come with us."""
    return sorted(file.stem for file in SHIPPED.glob("*.toml"))


def _object(row: object, path: str, problems: list[str]) -> PowerObject | None:
    if not isinstance(row, dict):
        problems.append(f"{path}: must be a table")
        return None
    values = row.get("unsupported", [])
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        problems.append(f"{path}unsupported: must be a list of whole numbers")
        values = []
    rest = {key: value for key, value in row.items() if key != "unsupported"}
    found = read_record(PowerObject, rest, path, problems, unsupported=tuple(values))
    if found is None:
        return None
    for key, oid in (("oid", found.oid), ("digits_oid", found.digits_oid)):
        if oid is not None and not _OID.fullmatch(oid):
            problems.append(f"{path}{key}: {oid!r} is no OID (numbers, {{unit}} and {{inlet}} between dots)")
    if not 0.0 < found.watts_per_count <= 1e6:
        problems.append(f"{path}watts_per_count: {found.watts_per_count:g} is not between 0 and 1e6")
    return found
