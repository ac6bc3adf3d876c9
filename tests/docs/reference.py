"""The tables of docs/configuration.md as the dataclasses have them.

Run as a module it prints the rows; with ``--write`` it puts them into the page, each with the meaning that
the page has for its key. A key that is new there needs a meaning, written by hand.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from datetime import date
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from slurm_power.config import (
    ControllerConfig,
    ForecastConfig,
    MetricsConfig,
    NodeConfig,
    RegisterMeter,
    RegisterPcs,
    SnmpPdu,
    StoreConfig,
    SunspecMeter,
    SunspecPcs,
    SunspecStorage,
    SupplyConfig,
)
from slurm_power.config.admission import AdmissionConfig
from slurm_power.config.alerts import (
    AlertmanagerConfig,
    AlertSettings,
    HookConfig,
    MailConfig,
    RuleConfig,
)
from slurm_power.config.governance import GovernanceConfig
from slurm_power.config.http_signals import HttpCarbonSignal, HttpLimitsSignal, HttpPricesSignal
from slurm_power.config.signals import OpenAdr2Signal, OpenAdr3Signal
from slurm_power.config.web import WebConfig
from slurm_power.model.power_table import PowerTable
from slurm_power.model.role import Role
from slurm_power.model.site import Circuit, Ess
from slurm_power.plan.policy import Policy

# Heading of the table in the document, its dataclass, keys that TOML has and the dataclass has not.
TABLES: tuple[tuple[str, type, tuple[tuple[str, str, str], ...]], ...] = (
    ("[controller]", ControllerConfig, ()),
    ("[store]", StoreConfig, ()),
    ("[metrics]", MetricsConfig, ()),
    ("[forecast]", ForecastConfig, ()),
    ("[policy]", Policy, ()),
    ("[supply]", SupplyConfig, ()),
    ("[admission]", AdmissionConfig, ()),
    ("[governance]", GovernanceConfig, ()),
    ("[web]", WebConfig, ()),
    ("[alerts]", AlertSettings, ()),
    ("[alerts.rule.NAME]", RuleConfig, ()),
    ("[alerts.alertmanager.NAME]", AlertmanagerConfig, ()),
    ("[alerts.mail.NAME]", MailConfig, ()),
    ("[alerts.hook.NAME]", HookConfig, ()),
    ("[circuit.NAME]", Circuit, ()),
    ("[ess.NAME]", Ess, (("device", "string", "required"),)),
    ('[device.NAME], driver "sunspec_meter"', SunspecMeter, ()),
    ('[device.NAME], driver "sunspec_pcs"', SunspecPcs, ()),
    ('[device.NAME], driver "sunspec_storage"', SunspecStorage, ()),
    ('[device.NAME], driver "register_meter"', RegisterMeter, ()),
    ('[device.NAME], driver "register_pcs"', RegisterPcs, ()),
    ('[device.NAME], driver "snmp_pdu"', SnmpPdu, ()),
    ('[signals.NAME], kind "openadr3"', OpenAdr3Signal, ()),
    ('[signals.NAME], kind "openadr2"', OpenAdr2Signal, ()),
    ('[signals.NAME], kind "http_prices"', HttpPricesSignal, ()),
    ('[signals.NAME], kind "http_carbon"', HttpCarbonSignal, ()),
    ('[signals.NAME], kind "http_limits"', HttpLimitsSignal, ()),
    ("node.toml", NodeConfig, ()),
)
DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
_HEAD = re.compile(r"^\| key \| type \| default \| meaning \|\n\|[-|]+\|\n", re.MULTILINE)
_ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| ([^|\n]*?) ?\|$", re.MULTILINE)
_NAME_OPTIONAL = {"node.toml": {"node": "the short host name"}}


def rows(heading: str, record: type, more: tuple[tuple[str, str, str], ...]) -> list[tuple[str, str, str]]:
    """Return (key, kind, default) of each key of a table, in the order of its dataclass."""
    hints = get_type_hints(record)
    found = list(more)
    for field in fields(record):
        # The name of a [circuit.NAME] stands in its heading.
        if field.name == "name":
            continue
        given = _NAME_OPTIONAL.get(heading, {}).get(field.name)
        found.append((field.name, _kind(hints[field.name]), given or _default(field)))
    return found


def _kind(hint: Any) -> str:
    if isinstance(hint, UnionType):
        hint = next(kind for kind in get_args(hint) if kind is not NoneType)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return " or ".join(member.value for member in hint)
    words = {float: "number", int: "whole number", str: "string", bool: "true or false", Path: "path"}
    words |= {
        date: "date",
        PowerTable: "list of pairs",
        Mapping[str, Mapping[str, float]]: "tables of months",
    }
    words |= {Mapping[str, Role]: "table"}
    return "list of strings" if hint == tuple[str, ...] else words[hint]


def _default(field: "Field[Any]") -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    if field.default is None:
        return "none"
    if field.default in ((), ""):
        return "empty"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    if field.default_factory is not MISSING:
        return "none"
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def rewritten(page: str) -> str:
    """A page with the rows of all its tables made anew; raises ValueError for a heading that it has not."""
    for heading, record, more in TABLES:
        start = page.find(f"\n## {heading}\n")
        if start < 0:
            raise ValueError(f"there is no heading '## {heading}'")
        end = page.find("\n## ", start + 1)
        section = page[start : len(page) if end < 0 else end]
        meanings = dict(_ROW.findall(section))
        made = [
            f"| `{key}` | {kind} | {default} | {meanings.get(key, '')} |".replace("|  |", "| |")
            for key, kind, default in rows(heading, record, more)
        ]
        first = _HEAD.search(section)
        if first is None:
            raise ValueError(f"there is no table under '## {heading}'")
        table_end = first.end()
        while section.startswith("| `", table_end):
            table_end = section.index("\n", table_end) + 1 if "\n" in section[table_end:] else len(section)
        new = section[: first.end()] + "".join(f"{line}\n" for line in made) + section[table_end:]
        page = page.replace(section, new, 1)
    return page


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        DOCUMENT.write_text(rewritten(DOCUMENT.read_text()))
        sys.exit()
    for title, dataclass, extra in TABLES:
        print(f"\n## {title}\n")
        for key, kind, default in rows(title, dataclass, extra):
            print(f"| `{key}` | {kind} | {default} | |")
