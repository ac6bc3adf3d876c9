"""A thread that answers on powerctld's socket, as docs/protocol.md says."""

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Answer = dict[str, Any] | bytes

STATUS: dict[str, Any] = {
    "ok": True,
    "site": "lab [north]",
    "at": "2026-01-02T03:04:05+00:00",
    "mode": "control",
    "uptime_seconds": 61.0,
    "jobs_age_seconds": 2.1,
    "circuits": [
        {
            "name": "grid",
            "parent": None,
            "watts": 21300.0,
            "quality": "good",
            "age_seconds": 0.4,
            "source": "meter",
            "reason": "",
            "limit_watts": 20000.0,
            "limit_kind": "economic",
            "rating_watts": 40000.0,
        },
        {
            "name": "rack1",
            "parent": "grid",
            "watts": None,
            "quality": "invalid",
            "age_seconds": None,
            "source": "pdu",
            "reason": "stale for 9.0 s",
            "limit_watts": None,
            "limit_kind": "safety",
            "rating_watts": 20000.0,
        },
    ],
    "ess": [
        {
            "name": "battery",
            "circuit": "grid",
            "discharge_watts": -1500.0,
            "setpoint_watts": None,
            "soc_ratio": 0.71,
            "soh_ratio": 0.97,
            "energy_rating_kwh": 20.0,
            "max_charge_watts": 8000.0,
            "max_discharge_watts": 8000.0,
            "remote": False,
            "alarms": ["hot"],
            "age_seconds": 0.5,
            "quality": "good",
        }
    ],
    "nodes": [{"name": "c1", "age_seconds": 0.8, "gpu_count": 8, "gpu_watts": 4100.0}],
    "jobs": [
        {
            "job_id": "17",
            "user": "alice",
            "account": "physics",
            "name": "[red]train",
            "state": "running",
            "workload": "training",
            "flex": "flex2",
            "gpu_count": 8,
            "nodes": ["c1"],
            "gpu_watts": 4100.0,
            "energy_joules": 3.6e6,
            "cap_watts": 520.0,
            "cap_kind": "economic",
            "cap_reason": "grid is over its limit",
            "slowdown_ratio": 0.06,
            "held_seconds": 42.0,
            "hold_ends_in_seconds": None,
            "hold_reason": "",
            "pending_reason": "",
        }
    ],
    "leases": [],
    "events": [
        {
            "event_id": "ev-3",
            "circuit": "grid",
            "limit_watts": 9000.0,
            "starts_in_seconds": 300.0,
            "ends_in_seconds": 900.0,
            "reason": "utility call",
        }
    ],
    "shortfalls": [{"circuit": "grid", "watts": 300.0, "reason": "nothing is left to cap"}],
}


def entry(sequence: int, **changes: object) -> dict[str, Any]:
    """One ledger entry."""
    return {
        "at": "2026-01-02T03:04:05+00:00",
        "actor": "guard",
        "kind": "cap",
        "subject": "job:17",
        "reason": f"reason {sequence}",
        "job_id": "17",
        "user": "alice",
        "saved_watts": 1200.0,
        "details": {},
        "sequence": sequence,
        "hash": "0" * 64,
        **changes,
    }


@dataclass(slots=True)
class FakePowerctld:
    """Its socket, and all requests it got."""

    path: Path
    requests: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def fake_powerctld(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[FakePowerctld]:
    """Serve ``answer`` until the block ends; bytes are sent as they are."""
    directory = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    fake = FakePowerctld(directory / "ctl.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(fake.path))
        server.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, connection.makefile("rb") as lines:
                        request = json.loads(lines.readline())
                        fake.requests.append(request)
                        reply = answer(request)
                        connection.sendall(
                            reply if isinstance(reply, bytes) else json.dumps(reply).encode() + b"\n"
                        )

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield fake
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()
            shutil.rmtree(directory)
