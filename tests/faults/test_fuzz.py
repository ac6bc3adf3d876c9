"""Some thousand spoiled messages at every door; and that what falls over would be seen."""

import asyncio

import pytest

from containers.faults import fuzz


def thrown(messages: int, seed: int) -> int:
    async def inside_a_loop() -> int:
        return fuzz.run(messages, seed)

    return asyncio.run(inside_a_loop())


def test_nobody_falls_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert thrown(8_000, 42) == 0
    assert "8000 messages, seed 42" in capsys.readouterr().out


def test_who_falls_over_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def falls(_: fuzz.Doors, line: bytes) -> None:
        raise TypeError(len(line))

    monkeypatch.setattr(fuzz.Doors, "frames", falls)
    assert thrown(100, 1) == 1
    assert "frames between the halves: TypeError" in capsys.readouterr().out
