"""Long answers at the controller's socket, and what is left of them when they are told."""

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.controller.test_user_socket import Site, entry, folder, tried

__all__ = ["folder"]


def test_a_long_answer_gives_its_callers_place_back(folder: Path) -> None:
    """Its last bytes go out after the connection was closed, which asyncio must not stumble over."""

    async def check(site: Site) -> None:
        long = replace(entry(None, None), reason="x" * 2000)
        for _ in range(400):
            site.controller.store.append(long)
        for _ in range(3):
            assert len((await site.ask({"op": "ledger"}))["entries"]) > 300
        async with asyncio.timeout(10.0):
            while site.controller._users._callers:  # noqa: ASYNC110  # polls what has no event
                await asyncio.sleep(0.01)

    tried(folder, check)
