"""The control's loop answers users: one who asks without end must not have it for themselves."""

import asyncio
import pwd
import threading
import time
from pathlib import Path

import pytest

from slurm_power import clock
from slurm_power.controller.answers.user_socket import Caller, UserSocket
from slurm_power.wire import Message, decode, encode

STRANGER = 12_345
LINES = 8


async def ask(path: Path) -> Message:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(encode({"op": "status"}))
    found = decode(await reader.readuntil(b"\n"))
    writer.close()
    return found


@pytest.mark.parametrize("uid", [STRANGER, 0])
def test_a_user_who_asks_without_end_gets_a_share_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """Operators are not kept waiting."""
    monkeypatch.setattr("slurm_power.controller.answers.user_socket._caller", lambda _: Caller(uid))
    spent = [0.0]

    def answer(_request: Message, _caller: Caller) -> Message:
        # As rows of a thousand jobs of their own take.
        time.sleep(0.03)
        spent[0] += 0.03
        return {}

    async def check() -> float:
        path = tmp_path / "ctl.sock"
        socket = UserSocket(path, answer)
        await socket.start()
        began = clock.monotonic()

        async def without_end() -> None:
            while clock.monotonic() - began < 1.5:
                assert (await ask(path))["ok"]

        try:
            await asyncio.gather(*(without_end() for _ in range(LINES)))
        finally:
            await socket.stop()
        return spent[0] / (clock.monotonic() - began)

    share = asyncio.run(check())
    assert share < 0.3 if uid == STRANGER else share > 0.3


def test_a_directory_service_that_hangs_holds_up_no_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the control's cycles nor operators wait for a user's name."""
    uids = iter([*[STRANGER] * LINES, 0])
    monkeypatch.setattr("slurm_power.controller.answers.user_socket._caller", lambda _: Caller(next(uids)))
    known, over = pwd.getpwuid, threading.Event()

    def getpwuid(uid: int) -> pwd.struct_passwd:
        if uid == STRANGER:
            over.wait(10.0)
        return known(uid)

    monkeypatch.setattr("slurm_power.controller.answers.user_socket.pwd.getpwuid", getpwuid)

    async def check() -> None:
        path = tmp_path / "ctl.sock"
        socket = UserSocket(path, lambda _, caller: {"user": caller.user})
        await socket.start()
        try:
            users = [asyncio.create_task(ask(path)) for _ in range(LINES)]
            began = clock.monotonic()
            await asyncio.sleep(0.2)
            assert clock.monotonic() - began < 3.0, "the loop stood still"
            assert (await ask(path))["user"] == known(0).pw_name
            assert not any(one.done() for one in users)
            over.set()
            assert {one["user"] for one in await asyncio.gather(*users)} == {str(STRANGER)}
        finally:
            over.set()
            await socket.stop()

    asyncio.run(check())


def test_one_user_waits_for_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uids = iter([STRANGER, STRANGER + 1, STRANGER])
    monkeypatch.setattr("slurm_power.controller.answers.user_socket._caller", lambda _: Caller(next(uids)))

    def answer(_request: Message, caller: Caller) -> Message:
        time.sleep(0.2)
        return {"uid": caller.uid}

    async def check() -> list[float]:
        path = tmp_path / "ctl.sock"
        socket = UserSocket(path, answer)
        await socket.start()
        ended = []
        try:
            for _ in range(3):
                await ask(path)
                ended.append(clock.monotonic())
        finally:
            await socket.stop()
        return ended

    first, other, again = asyncio.run(check())
    assert other - first < 0.7, "somebody else's 0.2 s, and no pause of 0.8 s"
    assert again - first > 0.9, "a pause of 0.8 s and 0.2 s"
