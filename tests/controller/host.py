"""A site in a folder whose controllers come and go, for tests of what outlives them."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.config import load_site
from slurm_power.controller.daemon import Controller
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.store.sqlite import SqliteStore
from tests.controller.test_user_socket import Queue, Site

SITE = """
[site]
name = "small"
[controller]
listen = "127.0.0.1:{port}"
socket = "{folder}/ctl.sock"
state_directory = "{folder}"
tls_directory = "{folder}/tls"
[policy]
{policy}
[governance]
owner = "the user board"
contact = "board@site.example"
appeals = "Room 3, Tuesdays."
{governance}
[circuit.grid]
rating_watts = 60_000
limit_watts = {limit}
limit_kind = "economic"
nodes = ["c1", "c2"]
"""


class Host:
    """One site in a folder; controllers come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy, self.governance, self.limit = "", "", 30_000
        make_authority(folder / "tls", "small", ["127.0.0.1"], clock.now())

    def live(self, check: Callable[[Site], Awaitable[None]]) -> None:
        """Have one controller from its start to its end."""

        async def run() -> None:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            file = self.folder / "site.toml"
            file.write_text(
                SITE.format(
                    port=port,
                    folder=self.folder,
                    policy=self.policy,
                    governance=self.governance,
                    limit=self.limit,
                )
            )
            store = SqliteStore(self.folder / "powerctld.sqlite")
            controller = Controller(load_site(file), store, meters={}, storages={}, scheduler=Queue())
            task = asyncio.create_task(controller.run())
            try:
                async with asyncio.timeout(20.0):
                    while controller.planned_on is None or not controller.telemetry.jobs_known:  # noqa: ASYNC110  # polls what has no event
                        await asyncio.sleep(0.01)
                    await check(Site(controller, self.folder / "ctl.sock"))
            finally:
                controller.stop()
                await task
                store.close()

        asyncio.run(run())

    def ledger(self, kind: str) -> list[Any]:
        store = SqliteStore(self.folder / "powerctld.sqlite", read_only=True)
        try:
            return [entry for entry in store.entries() if entry.kind == kind]
        finally:
            store.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110  # polls what has no event
            await asyncio.sleep(0.01)


class Kept:
    """A store of states alone."""

    def __init__(self, **states: object) -> None:
        self.states: dict[str, object] = states

    def state(self, key: str, default: object = None) -> object:
        return self.states.get(key, default)

    def put_state(self, key: str, value: object) -> None:
        self.states[key] = json.loads(json.dumps(value))


def nobody_notes(*_: Any, **__: Any) -> None:
    """No ledger."""
