"""Hints of slurmctld's hooks: who may send one, and that the jobs are looked at for it."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.jobs.job_hint import job_hint, slurm_uid
from tests.controller.test_user_socket import STRANGER, Site, folder, needs_root, tried

__all__ = ["folder"]
HINT = {"op": "job_hint", "job_id": "17", "event": "start"}


@dataclass
class Controller:
    """As much of the controller as a hint asks for."""

    slurm_conf: Path
    looks: list[None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = SimpleNamespace(controller=SimpleNamespace(slurm_conf=self.slurm_conf))

    def look_soon(self) -> None:
        self.looks.append(None)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    conf = tmp_path / "slurm.conf"
    conf.write_text(f"ClusterName=x\n slurmUSER = {STRANGER}(x) # ours\nSlurmdUser=root\n")
    yield Controller(conf)


def hinted(controller: Controller, uid: int, **words: object) -> str:
    """The refusal, empty where it is taken."""
    try:
        job_hint(controller, {**HINT, **words}, Caller(uid))  # type: ignore[arg-type]  # a part of one
    except RefusedError as error:
        return str(error)
    return ""


def test_slurms_own_user_and_operators_may_hint(controller: Controller) -> None:
    for uid in (0, os.getuid(), STRANGER):
        assert hinted(controller, uid) == ""
    assert len(controller.looks) == 3
    assert "only root and SlurmUser may" in hinted(controller, STRANGER + 1)
    controller.slurm_conf.unlink()
    assert "only root and SlurmUser may" in hinted(controller, STRANGER)
    assert len(controller.looks) == 3


@pytest.mark.parametrize(
    "words", [*({"job_id": value} for value in (17, "x", "", "1" * 30)), {"event": "x"}, {"event": []}]
)
def test_nonsense_is_refused_by_its_field(controller: Controller, words: dict[str, object]) -> None:
    assert hinted(controller, 0, **words).startswith(f"{next(iter(words))}: ")
    assert controller.looks == []


@pytest.mark.parametrize(
    ("text", "uid"),
    [("", 0), ("SlurmUser=root\n", 0), ("SlurmUser=nobody-of-that-name\n", None), ("SlurmUser=7\n", 7)],
)
def test_slurm_conf_says_who_slurm_is(tmp_path: Path, text: str, uid: int | None) -> None:
    (tmp_path / "slurm.conf").write_text(text)
    assert slurm_uid(tmp_path / "slurm.conf") == uid
    assert slurm_uid(tmp_path / "missing") is None


@needs_root
def test_a_hint_has_the_jobs_listed_at_once(folder: Path) -> None:  # the fixture
    async def check(site: Site) -> None:
        def age_seconds() -> float:
            return site.controller.snapshot().jobs_age_seconds or 0.0

        refused = await site.ask(HINT, STRANGER)
        assert not refused["ok"] and "only root and SlurmUser may" in refused["error"]
        while age_seconds() < 1.0:  # noqa: ASYNC110  # polls what has no event
            await asyncio.sleep(0.01)
        assert (await site.ask(HINT))["ok"]
        # Of themselves they are listed every five seconds.
        async with asyncio.timeout(2.0):
            while age_seconds() > 1.0:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)

    tried(folder, check)
