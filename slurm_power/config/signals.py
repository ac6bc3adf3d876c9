"""The ``[signals.NAME]`` tables: who tells what the grid wants, and what that means here."""

import re
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from slurm_power.config.address import address_problems
from slurm_power.config.http_signals import (
    EventCommitment,
    HttpCarbonSignal,
    HttpKind,
    HttpLimitsSignal,
    HttpPricesSignal,
)
from slurm_power.config.problems import did_you_mean, read_record, subtables
from slurm_power.model.site import Site

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_EXAMPLE = "https://vtn.example.org/openadr3"
LEVELS = ("level_1_cut_ratio", "level_2_cut_ratio", "level_3_cut_ratio")
_FILES = ("ca_file", "cert_file", "key_file", "client_secret_file", "headers_file")


class SignalKind(StrEnum):
    """By which protocol a signal comes."""

    OPENADR2 = "openadr2"
    OPENADR3 = "openadr3"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAdrSignal:
    """What both versions have in common. Cuts are shares of the load before the event."""

    name: str
    url: str
    ven_name: str
    circuit: str = ""
    resource: str = ""
    poll_seconds: float = 10.0
    timeout_seconds: float = 10.0
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    level_1_cut_ratio: float | None = None
    level_2_cut_ratio: float | None = None
    level_3_cut_ratio: float | None = None
    commitment: EventCommitment = EventCommitment.MUST
    ramp_seconds: float | None = None
    longest_event_hours: float = 168.0
    open_event_hours: float = 24.0
    reports: bool = True

    @property
    def resource_name(self) -> str:
        """The name under which the site's meter is reported."""
        return self.resource or f"{self.ven_name}-{self.circuit or 'grid'}"

    def cut_ratio(self, level: int) -> float | None:
        """What a level of SIMPLE, 1 to 3, asks for; None where the site has not said."""
        found: float | None = getattr(self, LEVELS[level - 1])
        return found

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; no file is looked at."""
        found = _url_problems("url", self.url)
        if not self.ven_name or len(self.ven_name) > 128 or not self.ven_name.isprintable():
            found.append("ven_name: must have 1 to 128 printable characters; the utility has given it to you")
        if (self.cert_file is None) != (self.key_file is None):
            found.append("cert_file and key_file: a certificate needs its key; give both or neither")
        for key, low, high in (
            ("poll_seconds", 1.0, 3600.0),
            ("timeout_seconds", 1.0, 60.0),
            ("longest_event_hours", 0.01, 8784.0),
            ("open_event_hours", 0.1, 168.0),
            *((level, 0.0, 1.0) for level in LEVELS),
            ("ramp_seconds", 0.0, 3600.0),
        ):
            value = getattr(self, key)
            if value is not None and not low <= value <= high:
                found.append(f"{key}: {value:g} is not between {low:g} and {high:g}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAdr2Signal(OpenAdrSignal):
    """A VTN of OpenADR 2.0b, polled by HTTP."""

    kind: SignalKind = SignalKind.OPENADR2
    sign_messages: bool = False
    vtn_fingerprint: str = ""
    report_seconds: float = 60.0

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; no file is looked at."""
        found = OpenAdrSignal.problems(self)
        if self.sign_messages and self.cert_file is None:
            found.append("sign_messages: needs cert_file and key_file")
        if self.vtn_fingerprint and not re.fullmatch(r"([0-9A-F]{2}:){9}[0-9A-F]{2}", self.vtn_fingerprint):
            found.append(
                "vtn_fingerprint: must be ten pairs of capital hex digits with colons, as the utility has it"
            )
        if not 1.0 <= self.report_seconds <= 3600.0:
            found.append(f"report_seconds: {self.report_seconds:g} is not between 1 and 3600")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAdr3Signal(OpenAdrSignal):
    """A VTN of OpenADR 3, read by HTTP and JSON."""

    kind: SignalKind = SignalKind.OPENADR3
    client_id: str = ""
    client_secret_file: Path | None = None
    token_url: str = ""
    scope: str = ""
    programs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    register: bool = True

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; no file is looked at."""
        found = OpenAdrSignal.problems(self)
        if self.token_url:
            found += _url_problems("token_url", self.token_url)
        if bool(self.client_id) != (self.client_secret_file is not None):
            found.append("client_id and client_secret_file: give both, or neither for a VTN without a login")
        return found


Signal = OpenAdr2Signal | OpenAdr3Signal | HttpPricesSignal | HttpCarbonSignal | HttpLimitsSignal
_Record = (
    type[OpenAdr2Signal]
    | type[OpenAdr3Signal]
    | type[HttpPricesSignal]
    | type[HttpCarbonSignal]
    | type[HttpLimitsSignal]
)
_RECORDS: dict[str, _Record] = {
    SignalKind.OPENADR2.value: OpenAdr2Signal,
    SignalKind.OPENADR3.value: OpenAdr3Signal,
    HttpKind.PRICES.value: HttpPricesSignal,
    HttpKind.CARBON.value: HttpCarbonSignal,
    HttpKind.LIMITS.value: HttpLimitsSignal,
}


def read_signals(document: dict[str, Any], folder: Path, problems: list[str]) -> dict[str, Signal]:
    """Read all ``[signals.NAME]`` tables; adds each problem with its path. Files start at ``folder``."""
    found: dict[str, Signal] = {}
    for name, table in subtables(document, "signals", problems).items():
        path = f"signals.{name}."
        if not _NAME.fullmatch(name):
            problems.append(
                f"signals.{name}: must be lower-case letters, digits, hyphen and underscore, 32 at most"
            )
        kind = table.get("kind")
        record = _RECORDS.get(kind) if isinstance(kind, str) else None
        if record is None:
            hint = did_you_mean(str(kind), _RECORDS) if kind is not None else f": {', '.join(_RECORDS)}"
            problems.append(f"{path}kind: {'missing' if kind is None else repr(kind) + ' is unknown'}{hint}")
            continue
        signal = read_record(record, table, path, problems, name=name)
        if signal is not None:
            problems += [f"{path}{problem}" for problem in signal.problems()]
            found[name] = _below(signal, folder)
    return found


def check_signals(signals: dict[str, Signal], site: Site, problems: list[str]) -> None:
    """Add what does not fit to the circuits."""
    problems += [
        f"signals.{name}.circuit: there is no [circuit.{signal.circuit}]"
        for name, signal in signals.items()
        if isinstance(signal, OpenAdrSignal | HttpLimitsSignal)
        and signal.circuit
        and signal.circuit not in site.circuits
    ]


def _below(signal: Signal, folder: Path) -> Signal:
    known = {field.name for field in fields(signal)}
    files = {key: getattr(signal, key) for key in _FILES if key in known}
    return replace(signal, **{key: folder / file for key, file in files.items() if file is not None})


def _url_problems(key: str, text: str) -> list[str]:
    return address_problems(key, text, example=_EXAMPLE, danger="lower the site's limit")
