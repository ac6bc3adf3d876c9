"""What powerctld's word, or its silence, means for a service."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_power.gateway.controller_talk import Answer, TalkError, tell, understood, wish
from slurm_power.gateway.service_file import ServiceFile, TierJob
from tests.gateway.fake_controller import FakeController, wants

JOB = TierJob(script=Path("/none"))
SERVICE = ServiceFile(
    path=Path("/none"),
    name="chat",
    family="digits",
    full_tier="full",
    tiers_ok=("small",),
    listen="127.0.0.1:1",
    directory=Path("/none"),
    tiers={"full": JOB, "small": JOB},
)
SMALL = Answer(tier="small", may_start=True, reason="power is short", ttl_seconds=30.0, heard_seconds=100.0)


@pytest.mark.parametrize(
    ("answer", "now", "tier", "may_start"),
    [
        (SMALL, 130.0, "small", True),
        # Silent: as it is, then 60 s later the full tier, without a booking.
        (SMALL, 131.0, None, False),
        (SMALL, 190.0, None, False),
        (SMALL, 191.0, "full", True),
        # Never heard since the gateway began to listen at 100.
        (None, 160.0, None, False),
        (None, 161.0, "full", True),
    ],
)
def test_silence_leads_back_to_the_full_tier(
    answer: Answer | None, now: float, tier: str | None, may_start: bool
) -> None:
    found = wish(answer, full_tier="full", since_seconds=100.0, now=now)
    assert (found.tier, found.may_start) == (tier, may_start)


@pytest.mark.parametrize(
    "change",
    [
        {"tier": "tiny"},
        {"tier": None},
        {"tier": "../x"},
        {"ttl_seconds": 0},
        {"ttl_seconds": True},
        {"may_start": 1},
    ],
)
def test_an_answer_that_makes_no_sense_is_as_none(change: dict[str, Any]) -> None:
    with pytest.raises(TalkError):
        understood({**wants("small"), **change}, SERVICE, now=1.0)


def test_words_for_the_log_are_one_line() -> None:
    found = understood(wants("small", reason="a\nb\x1b[31m" + "x" * 999), SERVICE, now=1.0)
    assert found.reason.startswith("a b [31m")
    assert len(found.reason) == 300


@pytest.fixture
def socket_path() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
    yield folder / "ctl.sock"
    shutil.rmtree(folder)


def test_the_talk_itself(socket_path: Path) -> None:
    async def talk() -> None:
        with pytest.raises(TalkError, match="No such file"):
            await tell(socket_path, {"op": "service"})
        controller = FakeController(socket_path, {"ok": False, "error": "unknown request"})
        await controller.start()
        with pytest.raises(TalkError, match="refuses: unknown request"):
            await tell(socket_path, {"op": "service"})
        controller.answer = wants("small")
        assert (await tell(socket_path, {"op": "service"}))["tier"] == "small"
        controller.answer = None
        with pytest.raises(TalkError):
            await tell(socket_path, {"op": "service"})
        await controller.stop()

    asyncio.run(talk())
