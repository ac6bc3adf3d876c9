"""A rack PDU by SNMP (v2c, or v3 with authentication and privacy) as a power meter of its rack."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slurm_power.config.devices import SnmpPdu
from slurm_power.config.problems import ConfigError
from slurm_power.config.snmp_map import PowerObject, load_map
from slurm_power.ports import DeviceError

_MOST_DIGITS = 6


class SnmpPduDriver:
    """Implements ``ports.PowerMeter``: one GET of one object per reading.

    Which object is decided at open(); no retries, since the next cycle asks again anyway.
    """

    def __init__(self, config: SnmpPdu, engines: "Engines | None" = None) -> None:
        """With ``engines``, one is shared by all PDUs with the same credentials."""
        self._config = config
        self._engines = engines
        self._engine: Any = None
        self._target: Any = None
        self._access: Any = None
        self._source: PowerObject | None = None
        self._digits = 0

    async def open(self) -> None:
        """Find the object that carries this PDU's power; raises DeviceError if there is none."""
        self._source = None
        problems = []
        for source in self._objects():
            if source.first_unit_only and self._config.unit != 1:
                continue
            value = await self._get(source, source.oid)
            if value is not None:
                self._source, self._digits = source, await self._digits_of(source)
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
        value = await self._get(self._source, self._source.oid)
        if value is None:
            raise DeviceError(f"{self._config.name}: {self._source.label}: not supported at this moment")
        return value * self._source.watts_per_count / 10.0**self._digits

    def _objects(self) -> tuple[PowerObject, ...]:
        try:
            return load_map(self._config.map).power
        except ConfigError as error:
            raise DeviceError(f"{self._config.name}: {error}") from None

    async def _digits_of(self, source: PowerObject) -> int:
        """By how many decimal digits the value is moved; raises DeviceError where the PDU does not say."""
        if source.digits_oid is None:
            return 0
        digits = await self._get(source, source.digits_oid)
        if digits is None or digits > _MOST_DIGITS:
            raise DeviceError(f"{self._config.name}: {source.label}: {digits} is no number of decimal digits")
        return digits

    async def close(self) -> None:
        """Let go of the socket."""
        if self._engine is not None and self._engines is None:
            self._engine.close_dispatcher()
        self._engine = self._target = self._access = None

    async def _get(self, source: PowerObject, oid: str) -> int | None:
        """Read one object; None if the PDU does not support it. pysnmp returns errors, seldom raises."""
        await self._made_ready()
        from pysnmp.error import PySnmpError  # noqa: PLC0415  # vendor libraries load late
        from pysnmp.hlapi.v3arch.asyncio import (  # noqa: PLC0415  # vendor libraries load late
            ContextData,
            ObjectIdentity,
            ObjectType,
            get_cmd,
        )

        binding = ObjectType(ObjectIdentity(oid.format(unit=self._config.unit, inlet=self._config.inlet)))
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

    def _number(self, source: PowerObject, value: Any) -> int | None:
        """Read the value; noSuchObject, noSuchInstance and the sentinel mean "not supported"."""
        kind = type(value).__name__
        if kind in ("NoSuchObject", "NoSuchInstance", "EndOfMibView", "Null"):
            return None
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise DeviceError(f"{self._config.name}: {source.label}: {kind} is no number") from None
        if number in source.unsupported:
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
        engine = await (
            asyncio.to_thread(_new_engine) if self._engines is None else self._engines.of(self._config)
        )
        from pysnmp.hlapi.v3arch.asyncio import UdpTransportTarget  # noqa: PLC0415  # vendor libraries load late

        host, _, port = self._config.address.rpartition(":")
        access = _access(self._config)
        target = await UdpTransportTarget.create(
            (host.strip("[]"), int(port)), timeout=self._config.timeout_seconds, retries=0
        )
        self._engine, self._target, self._access = engine, target, access


class Engines:
    """SNMP engines by credentials: an engine knows one key for a user name, and costs a third of a second."""

    def __init__(self) -> None:
        self._engines: dict[tuple[object, ...], asyncio.Task[Any]] = {}

    async def of(self, config: SnmpPdu) -> Any:
        """The engine for a PDU's credentials."""
        key = (config.user, config.community, config.auth_key_file, config.privacy_key_file)
        if key not in self._engines:
            self._engines[key] = asyncio.create_task(asyncio.to_thread(_new_engine))
        return await self._engines[key]


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


def _access(config: SnmpPdu) -> Any:
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
