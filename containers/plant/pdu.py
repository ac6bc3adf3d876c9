"""A rack PDU: an SNMP agent with the APC rPDU2 tables, SNMP v2c and v3 (authPriv, SHA-256 and AES-128).

The readings are refreshed every two seconds, power in steps of 10 W, as the PowerNet MIB has it.
"""

import bisect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pysnmp.carrier.asyncio.dgram import udp
from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.entity.rfc3413 import cmdrsp, context
from pysnmp.error import PySnmpError
from pysnmp.proto import rfc1902, rfc1905
from pysnmp.proto.secmod.rfc3826.priv import aes

from containers.plant.faults import FaultSet
from slurm_power.simulate.constants import PduConstants, SiteConstants

Oid = tuple[int, ...]
FAULTS = {
    "freeze": "readings keep their values",
    "minus_one": "power readings are -1: not supported",
    "silence": "requests get no answer",
}
SYSTEM: Oid = (1, 3, 6, 1, 2, 1, 1)
RPDU2: Oid = (1, 3, 6, 1, 4, 1, 318, 1, 1, 26)
PRODUCT: Oid = (1, 3, 6, 1, 4, 1, 318, 1, 3, 4, 6)
IDENT, DEVICE, PHASE = (*RPDU2, 2, 1), (*RPDU2, 4, 3, 1), (*RPDU2, 6, 3, 1)
PHASES = (1, 2, 3)
NORMAL_LOAD = 2
JOULES_PER_TENTH_KWH = 360_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnmpAccess:
    """Who may read: a v2c community and a v3 user."""

    community: str
    user: str
    auth_key: str
    priv_key: str


class RackMib:
    """The objects of one PDU in their order; what pysnmp asks for GET, GETNEXT and GETBULK."""

    def __init__(self, name: str, serial: str) -> None:
        self._born_seconds = time.monotonic()
        self.faults = FaultSet(FAULTS)
        self.objects: dict[Oid, Callable[[], Any]] = {}
        self._constant((*SYSTEM, 1, 0), rfc1902.OctetString("Simulated rack PDU (APC rPDU2 tables)"))
        self._constant((*SYSTEM, 2, 0), rfc1902.ObjectIdentifier(PRODUCT))
        self.objects[*SYSTEM, 3, 0] = self._uptime
        for column, text in ((4, "operations"), (5, name), (6, "simulated site")):
            self._constant((*SYSTEM, column, 0), rfc1902.OctetString(text))
        self._constant((*SYSTEM, 7, 0), rfc1902.Integer32(72))
        self._constant((*IDENT, 1, 1), rfc1902.Integer32(1))
        ident = {3: name, 4: "simulated site", 6: "v7.0.0", 8: "AP8865", 9: serial}
        for column, text in ident.items():
            self._constant((*IDENT, column, 1), rfc1902.OctetString(text))
        self._constant((*DEVICE, 1, 1), rfc1902.Integer32(1))
        self._constant((*DEVICE, 3, 1), rfc1902.OctetString(name))
        self._constant((*DEVICE, 4, 1), rfc1902.Integer32(NORMAL_LOAD))
        for phase in PHASES:
            self._constant((*PHASE, 1, phase), rfc1902.Integer32(phase))
            self._constant((*PHASE, 3, phase), rfc1902.Integer32(phase))
            self._constant((*PHASE, 4, phase), rfc1902.Integer32(NORMAL_LOAD))
        self._order: list[Oid] = []

    def put(self, oid: Oid, value: int) -> None:
        """Set an integer object."""
        self._constant(oid, rfc1902.Integer32(value))

    def read_variables(self, *bindings: tuple[Any, Any], **context: Any) -> list[tuple[Any, Any]]:
        """Answer a GET."""
        self._check_access(bindings, context)
        return [(name, self._value(tuple(name))) for name, _ in bindings]

    def read_next_variables(self, *bindings: tuple[Any, Any], **context: Any) -> list[tuple[Any, Any]]:
        """Answer a GETNEXT, or one step of a GETBULK."""
        self._check_access(bindings, context)
        return [self._following(name) for name, _ in bindings]

    def _constant(self, oid: Oid, value: Any) -> None:
        self.objects[oid] = lambda: value

    def _uptime(self) -> Any:
        return rfc1902.TimeTicks(int((time.monotonic() - self._born_seconds) * 100.0) % 2**32)

    def _check_access(self, bindings: tuple[tuple[Any, Any], ...], context: dict[str, Any]) -> None:
        if self.faults.on("silence"):
            # pysnmp drops a request without an answer on this error.
            raise PySnmpError("silent by fault")
        for binding in bindings:
            context["acFun"]("read", binding, **context)

    def _value(self, oid: Oid) -> Any:
        found = self.objects.get(oid)
        if found is not None:
            return found()
        known = any(oid[:-1] == other[:-1] for other in self.objects)
        return rfc1905.noSuchInstance if known else rfc1905.noSuchObject

    def _following(self, name: Any) -> tuple[Any, Any]:
        if len(self._order) != len(self.objects):
            self._order = sorted(self.objects)
        position = bisect.bisect_right(self._order, tuple(name))
        if position == len(self._order):
            return name, rfc1905.endOfMibView
        oid = self._order[position]
        return rfc1902.ObjectName(oid), self.objects[oid]()


class Pdu:
    """The agent of one rack."""

    def __init__(
        self, rack: str, pdu: PduConstants, site: SiteConstants, access: SnmpAccess, *, host: str, port: int
    ) -> None:
        self.rack, self.pdu, self.site = rack, pdu, site
        self.mib = RackMib(f"pdu-{rack}", f"ZA-{rack.upper()}")
        self.faults = self.mib.faults
        self.address = (host, port)
        self._access = access
        self._engine: SnmpEngine | None = None
        self.take(0.0, 0.0)

    async def start(self, crash: Callable[[BaseException], None]) -> None:  # noqa: ARG002  # errors reach the loop's handler
        """Listen on UDP. Raises OSError when the port is taken, RuntimeError when SNMPv3 cannot encrypt."""
        if aes.PysnmpCryptoError:
            raise RuntimeError("SNMPv3 with AES needs the Python package cryptography")
        engine_id = bytes([0x80, 0, 0x01, 0x3E, 4]) + self.rack.encode()[:27]
        engine = self._engine = SnmpEngine(rfc1902.OctetString(engine_id))
        transport = udp.UdpAsyncioTransport().open_server_mode(self.address)
        config.add_transport(engine, udp.DOMAIN_NAME, transport)
        # Wait until the socket is bound: a taken port shows here.
        await transport._lport
        self._allow(engine)
        agent = context.SnmpContext(engine)
        agent.unregister_context_name(b"")
        agent.register_context_name(b"", self.mib)
        for responder in (
            cmdrsp.GetCommandResponder,
            cmdrsp.NextCommandResponder,
            cmdrsp.BulkCommandResponder,
        ):
            responder(engine, agent)

    async def stop(self) -> None:
        """Close the socket."""
        if self._engine is not None:
            self._engine.close_dispatcher()

    def set_fault(self, kind: str, value: float, duration_seconds: float | None) -> None:
        """Switch a fault on; raises ValueError for an unknown kind."""
        self.faults.set(kind, value, duration_seconds)

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self.faults.clear()

    def take(self, watts: float, joules: float) -> None:
        """Refresh the readings; while frozen they keep what they had."""
        if self.faults.on("freeze"):
            return
        steps = round(watts / self.pdu.resolution_watts) * round(self.pdu.resolution_watts / 10.0)
        power_factor, volts = self.site.power_factor_ratio, self.site.phase_voltage_volts
        supported = not self.faults.on("minus_one")
        self.mib.put((*DEVICE, 5, 1), steps if supported else -1)
        self.mib.put((*DEVICE, 9, 1), int(joules / JOULES_PER_TENTH_KWH) if supported else -1)
        self.mib.put((*DEVICE, 16, 1), round(steps / power_factor) if supported else -1)
        self.mib.put((*DEVICE, 17, 1), round(power_factor * 100.0) if supported else -1)
        for phase in PHASES:
            amperes = watts / len(PHASES) / power_factor / volts
            self.mib.put((*PHASE, 5, phase), round(amperes * 10.0))
            self.mib.put((*PHASE, 6, phase), round(volts))
            self.mib.put((*PHASE, 7, phase), round(steps / len(PHASES)) if supported else -1)

    def _allow(self, engine: SnmpEngine) -> None:
        """Let the community read by v2c and the user by v3, the latter signed and encrypted only."""
        access = self._access
        config.add_v1_system(engine, "community", access.community)
        config.add_vacm_user(engine, 2, "community", "noAuthNoPriv", (1, 3, 6))
        config.add_v3_user(
            engine,
            access.user,
            config.USM_AUTH_HMAC192_SHA256,
            access.auth_key,
            config.USM_PRIV_CFB128_AES,
            access.priv_key,
        )
        config.add_vacm_user(engine, 3, access.user, "authPriv", (1, 3, 6))
