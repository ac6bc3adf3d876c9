"""What the page's tests are told is what powerctld tells: the recorded picture has the keys of a real one."""

import asyncio
from pathlib import Path
from typing import Any

from tests.controller.conftest import open_folder
from tests.controller.test_user_socket import Site, folder, tried
from tests.web_page.site_server import recorded

__all__ = ["folder", "open_folder"]

_ADDED = {"ok"}
_TABLES = (
    "standing",
    "job_counts",
    "sources",
    "leases",
    "levers",
    "forecast",
    "fairness",
    "policy",
    "weights",
)


def keys(rows: list[dict[str, Any]]) -> set[str]:
    return set().union(*(row.keys() for row in rows))


def differing(real: dict[str, Any], told: dict[str, Any], lists: tuple[str, ...]) -> dict[str, set[str]]:
    """By part of the picture, the keys that only one of both has."""
    found = {name: set(real[name]) ^ set(told[name]) for name in _TABLES}
    found |= {name: keys(real[name]) ^ keys(told[name]) for name in lists}
    found["picture"] = (real.keys() ^ told.keys()) - _ADDED
    return {name: one for name, one in found.items() if one}


def test_the_recorded_picture_has_the_keys_of_a_real_one(folder: Path) -> None:
    async def check(site: Site) -> None:
        while site.controller.planned_on is None:  # noqa: ASYNC110  # polls what has no event
            await asyncio.sleep(0.01)
        real = await site.ask({"op": "live"})
        assert not differing(real, recorded("live"), ("circuits", "jobs"))

    tried(folder, check)
