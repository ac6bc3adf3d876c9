"""The [ess.*] tables of site.toml: the batteries with their rules and limits."""

import math
from collections.abc import Mapping
from typing import Any

from slurm_power.config.problems import read_record, subtables
from slurm_power.model.power_table import PowerTable
from slurm_power.model.site import Ess

# Where the first number of a table's points has to lie.
_CHARGES, _TEMPERATURES = (0.0, 1.0), (-60.0, 150.0)
_TABLES: Mapping[str, tuple[float, float]] = {
    "charge_power_by_soc": _CHARGES,
    "discharge_power_by_soc": _CHARGES,
    "charge_power_by_celsius": _TEMPERATURES,
    "discharge_power_by_celsius": _TEMPERATURES,
}
# Faster cells are built for starting engines, not for sites; slower ones would not be worth a setpoint.
_C_RATES = (0.01, 20.0)
_MOST_CYCLES_PER_DAY, _MOST_CYCLES_PER_YEAR = 24.0, 8784.0


def read_ess(document: dict[str, Any], problems: list[str]) -> tuple[dict[str, Ess], dict[str, str]]:
    """Read every battery, and which device each is; adds each problem with its path."""
    found, devices = {}, {}
    for name, table in subtables(document, "ess", problems).items():
        path = f"ess.{name}."
        tables = {
            key: _power_table(table[key], f"{path}{key}", bounds, problems)
            for key, bounds in _TABLES.items()
            if key in table
        }
        rest = {key: value for key, value in table.items() if key != "device" and key not in tables}
        ess = read_record(Ess, rest, path, problems, name=name, **tables)
        if not isinstance(table.get("device"), str):
            problems.append(f"{path}device: missing; name its [device.*] table")
        elif ess is not None:
            found[name], devices[name] = ess, table["device"]
    return found, devices


def ess_problems(ess: Ess) -> list[str]:
    """What is wrong with the numbers of a battery, each problem with its path."""
    path = f"ess.{ess.name}."
    found = []
    if not 0.0 <= ess.reserve_soc_ratio < ess.target_soc_ratio <= 1.0:
        found.append(
            f"{path}reserve_soc_ratio: must be between 0 and target_soc_ratio, both at most 1"
            f" (got {ess.reserve_soc_ratio:g} and {ess.target_soc_ratio:g}; is one in percent?)"
        )
    if ess.uncommissioned is not None and len(ess.uncommissioned.strip()) < 8:
        found.append(f"{path}uncommissioned: write down who answers for the battery, and why")
    if not ess.bridge_seconds > 0.0:
        found.append(f"{path}bridge_seconds: must be above 0")
    bounds: Mapping[str, tuple[float, float]] = {
        "lease_seconds": (3.0, 300.0),
        "max_charge_c_rate": _C_RATES,
        "max_discharge_c_rate": _C_RATES,
        "temperature_margin_celsius": (0.0, 30.0),
        "unknown_temperature_ratio": (0.0, 1.0),
        "full_cycles_per_day": (0.0, _MOST_CYCLES_PER_DAY),
        "full_cycles_per_year": (0.0, _MOST_CYCLES_PER_YEAR),
    }
    for key, (low, high) in bounds.items():
        value = getattr(ess, key)
        if value is not None and not low <= value <= high:
            found.append(f"{path}{key}: {value:g} is not between {low:g} and {high:g}")
    for key in ("charge_power_by_soc", "charge_power_by_celsius"):
        found += _useless(getattr(ess, key), f"{path}{key}", "charged")
    for key in ("discharge_power_by_soc", "discharge_power_by_celsius"):
        found += _useless(getattr(ess, key), f"{path}{key}", "discharged")
    return found


def _useless(table: PowerTable | None, path: str, word: str) -> list[str]:
    if table is None or any(ratio > 0.0 for _, ratio in table.points):
        return []
    return [f"{path}: no point allows any power, so it would never be {word}"]


def _power_table(
    value: object, path: str, bounds: tuple[float, float], problems: list[str]
) -> PowerTable | None:
    """A list of pairs as a table; None, with a problem each, where it is none."""
    low, high = bounds
    example = "[[0.8, 1.0], [1.0, 0.2]]" if bounds == _CHARGES else "[[40.0, 1.0], [55.0, 0.0]]"
    if not isinstance(value, list) or not value:
        problems.append(f"{path}: must be a list of pairs, write {example}")
        return None
    before = len(problems)
    points: list[tuple[float, float]] = []
    for row in value:
        pair = _pair(row)
        if pair is None:
            problems.append(f"{path}: {row!r} is no pair of numbers, write {example}")
            continue
        at, ratio = pair
        if not low <= at <= high:
            problems.append(f"{path}: {at:g} is not between {low:g} and {high:g}{_slip(at, bounds)}")
        if not 0.0 <= ratio <= 1.0:
            problems.append(
                f"{path}: at {at:g} the share {ratio:g} is not between 0 and 1; is it in percent or watts?"
            )
        if points and at <= points[-1][0]:
            problems.append(f"{path}: {at:g} does not come after {points[-1][0]:g}; the points have to rise")
        points.append(pair)
    return PowerTable(tuple(points)) if len(problems) == before else None


def _pair(row: object) -> tuple[float, float] | None:
    if not isinstance(row, list) or len(row) != 2:
        return None
    if not all(type(part) in (int, float) and math.isfinite(part) for part in row):
        return None
    return float(row[0]), float(row[1])


def _slip(at: float, bounds: tuple[float, float]) -> str:
    return "; is it in percent?" if bounds == _CHARGES and 1.0 < at <= 100.0 else ""
