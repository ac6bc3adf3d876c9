"""An APC rack PDU by SNMP (v2c, or v3 authPriv with SHA-256 and AES-128) as a power meter of its rack."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_power.config.devices import ApcPdu
from slurm_power.ports import DeviceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One object that carries a PDU's power. ``{unit}`` in the OID is the PDU's place in its chain."""

    label: str
    oid: str
    watts_per_count: float
    unsupported: int = -1
    first_unit_only: bool = False


# In order of preference. PowerNet MIB: rPDU2DeviceStatusPower counts hundredths of a kW; the older
# rPDUIdentDevicePowerWatts counts watts, knows one unit only, and is what pre-rPDU2 models have.
SOURCES = (
    Source(label="rPDU2DeviceStatusPower", oid="1.3.6.1.4.1.318.1.1.26.4.3.1.5.{unit}", watts_per_count=10.0),
    Source(
        label="rPDUIdentDevicePowerWatts",
        oid="1.3.6.1.4.1.318.1.1.12.1.16.0",
        watts_per_count=1.0,
        first_unit_only=True,
    ),
)


class ApcPduDriver:
    """Implements ``ports.PowerMeter``: one GET of one object per reading.

    Which object is decided at open(); no retries, since the next cycle asks again anyway.
    """

    def __init__(self, config: ApcPdu) -> None:
        self._config = config
        self._engine: Any = None
        self._target: Any = None
        self._access: Any = None
        self._source: Source | None = None

    async def open(self) -> None:
        """Find the object that carries this PDU's power; raises DeviceError if there is none."""
        self._source = None
        problems = []
        for source in SOURCES:
            if source.first_unit_only and self._config.unit != 1:
                continue
            value = await self._get(source)
            if value is not None:
                self._source = source
                return
            problems.append(source.label)
        raise DeviceError(
            f"{self._config.name}: no power of unit {self._config.unit}: {', '.join(problems)} unsupported"
        )

    async def read_watts(self) -> float:
        """Return active power in watts, towards the loads; raises DeviceError."""
        if self._source is None:
            await self.open()
        assert self._source is not None
        value = await self._get(self._source)
        if value is None:
            raise DeviceError(f"{self._config.name}: {self._source.label}: not supported at this moment")
        return value * self._source.watts_per_count

    async def close(self) -> None:
        """Let go of the socket."""
        if self._engine is not None:
            self._engine.close_dispatcher()
        self._engine = self._target = self._access = None

    async def _get(self, source: Source) -> int | None:
        """Read one object; None if the PDU does not support it. pysnmp returns errors, seldom raises."""
        await self._made_ready()
        from pysnmp.error import PySnmpError  # noqa: PLC0415  # vendor libraries load late
        from pysnmp.hlapi.v3arch.asyncio import (  # noqa: PLC0415  # vendor libraries load late
            ContextData,
            ObjectIdentity,
            ObjectType,
            get_cmd,
        )

        binding = ObjectType(ObjectIdentity(source.oid.format(unit=self._config.unit)))
        try:
            failure, status, _, values = await get_cmd(
                self._engine, self._access, self._target, ContextData(), binding, lookupMib=False
            )
        except (PySnmpError, OSError) as error:
            raise DeviceError(f"{self._config.name}: {source.label}: {error}") from error
        if failure:
            raise DeviceError(f"{self._config.name}: {source.label}: {_meaning(failure)}")
        if int(status):
            raise DeviceError(f"{self._config.name}: {source.label}: {status.prettyPrint()}")
        return self._number(source, values[0][1])

    def _number(self, source: Source, value: Any) -> int | None:
        """Read the value; noSuchObject, noSuchInstance and the sentinel mean "not supported"."""
        kind = type(value).__name__
        if kind in ("NoSuchObject", "NoSuchInstance", "EndOfMibView", "Null"):
            return None
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise DeviceError(f"{self._config.name}: {source.label}: {kind} is no number") from None
        if number == source.unsupported:
            return None
        if number < 0:
            raise DeviceError(f"{self._config.name}: {source.label}: {number} cannot be")
        return number

    async def _made_ready(self) -> None:
        """Prepare with the library's and the system's errors translated; raises DeviceError."""
        try:
            await self._prepare()
        except DeviceError:
            raise
        except Exception as error:  # pysnmp's errors cannot be named before it is imported
            raise DeviceError(f"{self._config.name}: {error}") from error

    async def _prepare(self) -> None:
        if self._engine is not None:
            return
        # Making an engine reads its MIBs for a third of a second: in a thread, so that no other device's
        # answer is missed meanwhile.
        engine = await asyncio.to_thread(_new_engine)
        from pysnmp.hlapi.v3arch.asyncio import UdpTransportTarget  # noqa: PLC0415  # vendor libraries load late

        host, _, port = self._config.address.rpartition(":")
        access = _access(self._config)
        target = await UdpTransportTarget.create(
            (host.strip("[]"), int(port)), timeout=self._config.timeout_seconds, retries=0
        )
        self._engine, self._target, self._access = engine, target, access


def _new_engine() -> Any:
    from pysnmp.hlapi.v3arch.asyncio import SnmpEngine  # noqa: PLC0415  # vendor libraries load late

    return SnmpEngine()


_MEANINGS: Mapping[str, str] = {
    "RequestTimedOut": "no answer in time (unreachable, or community or engine not accepted)",
    "WrongDigest": "authentication key not accepted",
    "UnknownUserName": "user not known to the PDU",
    "UnsupportedSecurityLevel": "the PDU does not do authPriv for this user",
    "DecryptionError": "privacy key not accepted",
}


def _meaning(failure: Any) -> str:
    return _MEANINGS.get(type(failure).__name__, " ".join(str(failure).split()))


def _access(config: ApcPdu) -> Any:
    from pysnmp.hlapi.v3arch.asyncio import (  # noqa: PLC0415  # vendor libraries load late
        CommunityData,
        UsmUserData,
        usmAesCfb128Protocol,
        usmHMAC192SHA256AuthProtocol,
    )

    if config.user is None:
        return CommunityData(config.community or "", mpModel=1)  # noqa: S508  # old PDUs know nothing better
    return UsmUserData(
        config.user,
        _key(config.name, config.auth_key_file),
        _key(config.name, config.privacy_key_file),
        authProtocol=usmHMAC192SHA256AuthProtocol,
        privProtocol=usmAesCfb128Protocol,
    )


def _key(name: str, file: Path | None) -> str:
    if file is None:
        raise DeviceError(f"{name}: SNMP v3 needs auth_key_file and privacy_key_file")
    try:
        return file.read_text().strip()
    except OSError as error:
        raise DeviceError(f"{name}: {file}: {error.strerror}") from error
