"""The plant's control socket: one JSON object per line asks, one answers. For tests and the demo only.

ops: truth, history, constants, targets, fault, clear_faults, base_load, set_soc, events, start_scenario
"""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from containers.plant.plant import Plant

LONGEST_LINE_BYTES = 65536


class ControlServer:
    """Answers on a Unix socket."""

    def __init__(self, plant: "Plant", path: Path) -> None:
        self.plant, self.path = plant, path
        self._server: asyncio.Server | None = None
        self._ops: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "truth": self._truth,
            "history": self._history,
            "constants": lambda _request: {"constants": asdict(plant.constants)},
            "targets": lambda _request: {"targets": dict(plant.known_kinds)},
            "fault": self._fault,
            "clear_faults": self._clear_faults,
            "base_load": self._base_load,
            "set_soc": self._set_soc,
            "events": self._events,
            "start_scenario": self._start_scenario,
        }

    async def start(self) -> None:
        """Listen; a socket that a dead plant left is replaced."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=LONGEST_LINE_BYTES)

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self.answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            # The asker hung up, or sent a line without end.
            pass
        finally:
            writer.close()

    def answer(self, line: bytes) -> dict[str, Any]:
        """Answer one request; whatever is wrong with it is said in ``error``."""
        try:
            request = json.loads(line)
            operation = self._ops.get(request["op"])
            if operation is None:
                raise ValueError(f"unknown op {request['op']!r}; known: {', '.join(self._ops)}")
            return {"ok": True, **operation(request)}
        except KeyError as error:
            return {"ok": False, "error": f"{error} is missing"}
        except (ValueError, TypeError) as error:
            return {"ok": False, "error": str(error)}

    def _truth(self, _request: dict[str, Any]) -> dict[str, Any]:
        self.plant.advance()
        return {"truth": self.plant.site.truth()}

    def _history(self, request: dict[str, Any]) -> dict[str, Any]:
        seconds = int(request.get("seconds", 60))
        if seconds < 1:
            raise ValueError("seconds: must be at least 1")
        return {"history": [asdict(record) for record in list(self.plant.site.history)[-seconds:]]}

    def _fault(self, request: dict[str, Any]) -> dict[str, Any]:
        duration = request.get("duration_seconds")
        self.plant.set_fault(
            request["target"],
            request["fault"],
            float(request.get("value", 0.0)),
            None if duration is None else float(duration),
        )
        return {}

    def _clear_faults(self, request: dict[str, Any]) -> dict[str, Any]:
        self.plant.clear_faults(request.get("target"))
        return {}

    def _base_load(self, request: dict[str, Any]) -> dict[str, Any]:
        self.plant.set_base_load(float(request["watts"]))
        return {}

    def _set_soc(self, request: dict[str, Any]) -> dict[str, Any]:
        soc_ratio = float(request["soc_ratio"])
        pcs = self.plant.site.pcs
        if not pcs.constants.min_soc_ratio <= soc_ratio <= pcs.constants.max_soc_ratio:
            raise ValueError(f"soc_ratio: {soc_ratio:g} is outside the battery's window")
        pcs.stored_joules = soc_ratio * pcs.capacity_joules
        return {}

    def _events(self, request: dict[str, Any]) -> dict[str, Any]:
        after = int(request.get("after_sequence", 0))
        return {"events": [event for event in self.plant.events if event["sequence"] > after]}

    def _start_scenario(self, _request: dict[str, Any]) -> dict[str, Any]:
        self.plant.start_scenario()
        return {"entries": len(self.plant.scenario)}


def answering(path: Path) -> bool:
    """Tell whether a plant serves this control socket."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0
