"""The gateway's own socket, for `slurm-power gateway status` and `switch`, in a folder of the owner alone."""

import asyncio
import contextlib
from dataclasses import asdict
from typing import Any

from slurm_power import wire
from slurm_power.gateway.daemon import Gateway
from slurm_power.gateway.haproxy import HaproxyError
from slurm_power.gateway.haproxy_config import Folder
from slurm_power.gateway.members import Phase
from slurm_power.gateway.service_file import ServiceFile

_REQUEST_SECONDS = 10.0


class Desk:
    """One request, one answer, hang up."""

    def __init__(self, gateway: Gateway, service: ServiceFile, folder: Folder) -> None:
        self._gateway = gateway
        self._service = service
        self._folder = folder
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; a socket that a dead gateway left is replaced."""
        self._folder.gateway_socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._folder.gateway_socket)
        self._folder.gateway_socket.chmod(0o600)

    async def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._folder.gateway_socket.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, EOFError, ConnectionError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                line = await reader.readuntil(b"\n")
                writer.write(wire.encode(await self._answer(line)))
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> wire.Message:
        try:
            request = wire.decode(line)
        except wire.WireError as error:
            return {"ok": False, "error": str(error)}
        match request.get("op"):
            case "status":
                return {"ok": True, **self.status()}
            case "switch":
                return self._switch(request.get("tier"))
            case "replace_haproxy":
                try:
                    await self._gateway.replace_haproxy()
                except (HaproxyError, OSError) as error:
                    return {"ok": False, "error": str(error)}
                return {"ok": True}
            case other:
                return {"ok": False, "error": f"unknown request {other!r}"}

    def _switch(self, tier: object) -> wire.Message:
        if tier is not None and (not isinstance(tier, str) or self._service.job_of(tier) is None):
            known = ", ".join(sorted(self._service.tiers))
            return {"ok": False, "error": f"the service may not run tier {tier}; it may run {known}"}
        self._gateway.switch_to(tier if isinstance(tier, str) else None)
        trouble = self._gateway.trouble.get("powerctld", "")
        return {"ok": True, "full_tier": self._gateway.full_tier, "trouble": trouble}

    def status(self) -> dict[str, Any]:
        """All there is to see."""
        gateway = self._gateway
        serving = gateway.state.first(Phase.SERVING)
        members = [
            {
                **asdict(member),
                "open_streams": sight.open_streams if (sight := gateway.sights.get(member.key)) else None,
                "up": sight.up if sight else None,
            }
            for member in gateway.state.members
        ]
        return {
            "service": self._service.name,
            "family": self._service.family,
            "listen": self._service.listen,
            "serving": serving.tier if serving else "",
            "full_tier": gateway.full_tier,
            "members": members,
            "failed": {tier: asdict(failed) for tier, failed in gateway.state.failed.items()},
            "answer": asdict(gateway.answer) if gateway.answer else None,
            "trouble": dict(gateway.trouble),
            "notes": list(gateway.notes),
        }
