"""A scenario file: what happens to the site at which second. Loads, faults and grid events, in TOML.

[[entry]]
at_seconds = 60
kind = "load"              # base load of the site beside the Slurm nodes
watts = 4000

[[entry]]
at_seconds = 90
kind = "fault"
target = "meter"           # meter, pcs, pdu.RACK, gpu.NODE.SLOT
fault = "freeze"
value = 0.0                # where the fault has one
duration_seconds = 10      # for ever when left out

[[entry]]
at_seconds = 120
kind = "grid_event"        # offered at the control socket, for whoever passes it to the controller
circuit = "grid"
limit_watts = 20000
start_in_seconds = 30
duration_seconds = 60
reason = "demand response"
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from slurm_power.config.problems import ConfigError, check_keys, read_record, read_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadEntry:
    """The site's base load from now on."""

    at_seconds: float
    watts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEntry:
    """A fault; None lasts until it is cleared."""

    at_seconds: float
    target: str
    fault: str
    value: float = 0.0
    duration_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearEntry:
    """The end of all faults of a target, or of all targets."""

    at_seconds: float
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEventEntry:
    """A limit that the grid asks for."""

    at_seconds: float
    circuit: str
    limit_watts: float
    duration_seconds: float
    start_in_seconds: float = 0.0
    reason: str = "grid event"


Entry = LoadEntry | FaultEntry | ClearEntry | GridEventEntry
KINDS: dict[str, type[Entry]] = {
    "load": LoadEntry,
    "fault": FaultEntry,
    "clear_faults": ClearEntry,
    "grid_event": GridEventEntry,
}


def load_scenario(file: Path, targets: Mapping[str, list[str]]) -> tuple[Entry, ...]:
    """Read a scenario, sorted by time; raises ConfigError with every problem by its path.

    ``targets`` names what faults can be thrown at, with the kinds that each target knows.
    """
    document = read_toml(file)
    problems: list[str] = []
    check_keys(document, {"entry"}, "", problems)
    tables = document.get("entry", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(file, [*problems, "entry: must be a list of tables, write [[entry]]"])
    entries = []
    for index, table in enumerate(tables):
        entry = _read_entry(table, f"entry[{index}].", problems)
        if entry is not None:
            _check_entry(entry, targets, f"entry[{index}].", problems)
            entries.append(entry)
    if problems:
        raise ConfigError(file, problems)
    return tuple(sorted(entries, key=lambda entry: entry.at_seconds))


def _read_entry(table: dict[str, Any], path: str, problems: list[str]) -> Entry | None:
    fields = dict(table)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        problems.append(f"{path}kind: {kind!r} is not one of {', '.join(KINDS)}")
        return None
    return read_record(KINDS[kind], fields, path, problems)


def _check_entry(entry: Entry, targets: Mapping[str, list[str]], path: str, problems: list[str]) -> None:
    amounts: dict[str, float | None] = {"at_seconds": entry.at_seconds}
    match entry:
        case LoadEntry():
            amounts["watts"] = entry.watts
        case FaultEntry():
            amounts["duration_seconds"] = entry.duration_seconds
            if not _check_target(entry.target, targets, path, problems):
                pass
            elif entry.fault not in targets[entry.target]:
                known = ", ".join(targets[entry.target])
                problems.append(f"{path}fault: {entry.target} has no {entry.fault!r}; known here: {known}")
        case ClearEntry():
            if entry.target is not None:
                _check_target(entry.target, targets, path, problems)
        case GridEventEntry():
            amounts |= {"limit_watts": entry.limit_watts, "duration_seconds": entry.duration_seconds}
            amounts["start_in_seconds"] = entry.start_in_seconds
        case _:
            assert_never(entry)
    for name, amount in amounts.items():
        if amount is not None and not (math.isfinite(amount) and amount >= 0.0):
            problems.append(f"{path}{name}: {amount:g} is below 0 or no number")


def _check_target(target: str, targets: Mapping[str, list[str]], path: str, problems: list[str]) -> bool:
    if target in targets:
        return True
    problems.append(f"{path}target: there is no {target!r}; targets are meter, pcs, pdu.RACK, gpu.NODE.SLOT")
    return False
