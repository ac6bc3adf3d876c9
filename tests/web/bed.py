"""A powerctld and a powerweb of a small site, whole, in a thread of the tests, and browsers to them."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from slurm_power import clock
from slurm_power.config import load_site
from slurm_power.controller.daemon import Controller
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.model.job import Job
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.role import Role
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from slurm_power.web.daemon import PowerWeb
from tests.controller.quiet_queue import QuietQueue
from tests.plan.situations import pending, running

# Everything that a page, a terminal or a table could take for its own.
HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e=cmd()\r\nevent: bye\ndata: {}"
SITE = """
[site]
name = "small"
[controller]
listen = "127.0.0.1:{port}"
socket = "{folder}/ctl.sock"
state_directory = "{folder}"
tls_directory = "{folder}/tls"
[policy]
control = false
[web]
listen = "127.0.0.1:{web_port}"
calls_per_second = 1000
{web}
[web.roles]
carol = "auditor"
opal = "operator"
[circuit.grid]
rating_watts = 60_000
limit_watts = 30_000
limit_kind = "economic"
nodes = ["c1", "c2"]
"""
# Making one takes longer than all that a test asks.
_NO_TLS = ssl.create_default_context()
CONFIRM = {"X-Slurm-Power-Confirm": "yes"}
EVENT = {"circuit": "grid", "limit_watts": 9000, "duration_seconds": 60, "reason": "the utility asks"}


class Queue(QuietQueue):
    async def jobs(self) -> tuple[Job, ...]:
        mine = replace(running("1", ("c1",)), user="mia", name=HOSTILE)
        return mine, replace(running("2", ("c2",)), name="secret of alice"), pending("3", 8)


def month_has_just_begun() -> bool:
    now = clock.now()
    return now.day == 1 and now.hour == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class Bed:
    """Both daemons at work. ``web`` is more text of the [web] table."""

    def __init__(self, folder: Path, web: str = "", queue: QuietQueue | None = None) -> None:
        self.folder = folder
        self._queue = queue or Queue()
        self.port = free_port()
        self.file = folder / "site.toml"
        self.file.write_text(SITE.format(port=free_port(), web_port=self.port, folder=folder, web=web))
        self.config = load_site(self.file)
        self.url = f"http://127.0.0.1:{self.port}"
        self.tokens: dict[str, str] = {}
        make_authority(folder / "tls", "small", ["127.0.0.1"], clock.now())
        self._fill()
        self._ready = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bed")
        self._thread.start()
        assert self._ready.wait(20.0), "neither daemon came up"
        if self._problem is not None:
            raise self._problem

    def _fill(self) -> None:
        """An hour of series, and a ledger."""
        series = SqliteSeries(self.folder / "series.sqlite")
        now = clock.now()
        for number in range(2700):
            values = {
                "circuit.grid.watts": 20_000.0 + number,
                "circuit.grid.limit_watts": 30_000.0,
                "circuit.grid.load_watts": 21_000.0 + number if number % 10 else None,
            }
            series.add(now - timedelta(seconds=2700 - number), values)
        series.close()
        store = SqliteStore(self.folder / "powerctld.sqlite")
        entry = LedgerEntry(at=now, actor="guard", kind="cap", subject="job:1", reason=HOSTILE)
        for job_id, user in (("1", "mia"), ("2", "alice"), (None, None)):
            store.append(replace(entry, job_id=job_id, user=user, subject=f"job:{job_id}"))
        # What is about a service names its user, and no job.
        store.append(replace(entry, kind="switch service", subject="service:chat of alice", user="alice"))
        store.put_jobs({"90": {"job_id": "90", "user": "mia", "name": HOSTILE, "state": "ended"}})
        store.close()

    # --- the daemons ------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  # told to the test
            self._problem = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        await self.start_controller()
        self.web = PowerWeb(self.config)
        web = asyncio.create_task(self.web.run())
        try:
            async with asyncio.timeout(15.0):
                while self.web.web.pictures.latest is None:  # noqa: ASYNC110  # polls what has no event
                    await asyncio.sleep(0.02)
            self._ready.set()
            await self._over.wait()
        finally:
            self.web.stop()
            await web
            await self.stop_controller()

    async def start_controller(self) -> None:
        self._store = SqliteStore(self.folder / "powerctld.sqlite")
        self.controller = Controller(self.config, self._store, meters={}, storages={}, scheduler=self._queue)
        self._controller_task = asyncio.create_task(self.controller.run())
        async with asyncio.timeout(15.0):
            while not self.controller.telemetry.jobs_known or self.controller.planned_on is None:  # noqa: ASYNC110  # polls what has no event
                await asyncio.sleep(0.02)

    async def stop_controller(self) -> None:
        if not self._controller_task.done():
            self.controller.stop()
            await self._controller_task
            self._store.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20.0)
        assert not self._thread.is_alive()
        if self._problem is not None:
            raise self._problem

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        """Run something in the daemons' loop."""
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(20.0)

    # --- who asks ---------------------------------------------------------------------------------------

    def token(self, name: str, role: Role) -> str:
        if name not in self.tokens:
            now_seconds = clock.now().timestamp()
            secret, _ = self.web.web.keys.make_token(name, role, now_seconds=now_seconds, seconds=3600.0)
            self.tokens[name] = secret
        return self.tokens[name]

    def client(self, name: str = "", role: Role | None = None) -> httpx.Client:
        """A program with a token of that name and role; without a role one that says nothing of itself."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.token(name, role)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=15.0, verify=_NO_TLS)

    def ask(self, **message: Any) -> dict[str, Any]:
        """Ask powerctld as whoever runs the tests."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10.0)
            connection.connect(str(self.config.controller.socket))
            connection.sendall(json.dumps(message).encode() + b"\n")
            found: dict[str, Any] = json.loads(connection.makefile().readline())
            return found


def until(happened: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """Poll until something is true; returns it."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = happened()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what}")
