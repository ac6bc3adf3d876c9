"""The whole task of the alerts against powerctld's own desk: what that is told, and what it asks."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_power import wire
from slurm_power.bridge.alerts import AlertTask, fitted
from slurm_power.bridge.state_file import StateFile
from slurm_power.config import SiteConfig, load_site
from slurm_power.controller.answers.user_socket import RefusedError
from slurm_power.controller.governance.alert_desk import AlertDesk
from slurm_power.powerctld_line import LineError
from tests.bridge.picture import bad, picture

SITE = """
[site]
name = "lab"
[controller]
state_directory = "{folder}/state"
tls_directory = "{folder}/tls"
[policy]
control = true
[circuit.grid]
rating_watts = 40000
limit_kind = "economic"
nodes = ["c1"]
[alerts]
disk_free_ratio = 0.0
[alerts.rule.dead_source]
for_seconds = 0
keep_seconds = 0
repeat_seconds = 0
[alerts.rule.powerctld_silent]
for_seconds = 0
keep_seconds = 0
repeat_seconds = 0
[alerts.hook.own]
command = ["{folder}/hook"]
timeout_seconds = 20
run_as_root = true
"""
DEAD = bad("pdu1", "circuit rack1", "invalid", "stale for 9.0 s")


class Powerctld:
    """The desk of powerctld, a ledger, and a picture that the test paints."""

    def __init__(self) -> None:
        self.ledger: list[dict[str, Any]] = []
        self.desk = AlertDesk(self.note)
        self.picture: dict[str, Any] | None = picture()

    def note(self, actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        row = {"actor": actor, "kind": kind, "subject": subject, "reason": reason, **more}
        self.ledger.append({**row, "sequence": len(self.ledger) + 1, "at": "2026-01-02T03:04:05+00:00"})

    async def ask(self, request: wire.Message) -> wire.Message:
        if self.picture is None:
            raise LineError("powerctld: Connection refused")
        request = wire.decode(wire.encode(request))
        match request["op"]:
            case "live":
                return {"ok": True, **self.picture}
            case "ledger":
                after = request["after_sequence"]
                assert isinstance(after, int)
                return {"entries": self.ledger[after:], "more": False, "broken_at_sequence": None}
            case _:
                return self.desk.take(request) if "alerts" in request else self.desk.answer()


@pytest.fixture
def config(tmp_path: Path) -> SiteConfig:
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat >> {tmp_path}/told\n")
    hook.chmod(0o755)
    file = tmp_path / "site.toml"
    file.write_text(SITE.format(folder=tmp_path))
    return load_site(file)


def task(config: SiteConfig, powerctld: Powerctld) -> AlertTask:
    file = config.controller.state_directory / "bridge" / "alerts.json"
    return AlertTask(config, powerctld.ask, StateFile(file))


def told(config: SiteConfig) -> list[tuple[str, str]]:
    file = config.file.parent / "told"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(row["news"], row["alert_id"]) for row in map(json.loads, lines)]


async def until(happens: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not come"
        await asyncio.sleep(0.02)


async def running(own: AlertTask, body: Any) -> None:
    tasks = [asyncio.create_task(one.run()) for one in own.outboxes]
    try:
        await body
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_a_dead_source_is_told_once_with_its_end_also_over_a_restart(config: SiteConfig) -> None:
    async def body() -> None:
        powerctld = Powerctld()
        own = task(config, powerctld)

        async def fire() -> None:
            await own.turn()
            powerctld.picture = picture(sources=(DEAD,))
            for _ in range(3):
                await own.turn()
            await until(lambda: told(config) == [("firing", "dead_source:source:pdu1")])
            # One that is cut off between a hook's end and its own note of it would tell again.
            await until(lambda: not any(one.to_json()["waiting"] for one in own.outboxes))
            (row,) = powerctld.desk.rows()
            assert (row["state"], row["rule"]) == ("firing", "dead_source")
            assert row["runbook"].endswith("#a-meter-node-or-battery-is-dead")

        await running(own, fire())
        own.keep()  # as at its end
        later = task(config, powerctld)

        async def end() -> None:
            for _ in range(3):
                await later.turn()
            powerctld.picture = picture()
            await later.turn()
            await until(lambda: len(told(config)) == 2)

        await running(later, end())
        assert told(config)[1] == ("over", "dead_source:source:pdu1")
        assert [(row["kind"], row["actor"]) for row in powerctld.ledger] == [
            ("alert", "bridge"),
            ("alert over", "bridge"),
        ]
        assert powerctld.desk.rows() == []

    asyncio.run(body())


def test_a_silent_powerctld_is_told_and_hears_of_it_afterwards(config: SiteConfig) -> None:
    async def body() -> None:
        powerctld = Powerctld()
        own = task(config, powerctld)

        async def go() -> None:
            powerctld.picture = picture(sources=(DEAD,))
            await own.turn()
            powerctld.picture = None
            for _ in range(3):
                await own.turn()
            assert {alert.rule for alert in own.book.firing} == {"powerctld_silent", "dead_source"}
            powerctld.picture = picture(sources=(DEAD,))
            await own.turn()
            await own.turn()
            assert [row["subject"] for row in powerctld.ledger] == [
                "alert:dead_source:source:pdu1",
                "alert:powerctld_silent:powerctld",
                "alert:powerctld_silent:powerctld",
            ]

        await running(own, go())

    asyncio.run(body())


def test_operators_silence_and_try_through_powerctld(config: SiteConfig) -> None:
    async def body() -> None:
        powerctld = Powerctld()
        own = task(config, powerctld)
        wish = {"wish": "silence", "alert_id": "dead_source", "seconds": 600.0, "reason": "work on it"}
        powerctld.desk.wish(wish, "alice")
        test_id = powerctld.desk.wish({"wish": "test"}, "alice")["wish_id"]

        async def go() -> None:
            await own.turn()
            powerctld.picture = picture(sources=(DEAD,))
            for _ in range(3):
                await own.turn()
            (row,) = powerctld.desk.rows()
            assert (row["state"], row["silence_reason"], row["silenced_by"]) == (
                "silenced",
                "work on it",
                "alice",
            )
            await until(lambda: told(config) == [("test", "test:test")])

            async def heard() -> None:
                while str(test_id) not in powerctld.desk.answer()["results"]:  # type: ignore[operator]  # an object
                    await own.turn()
                    await asyncio.sleep(0.02)

            await asyncio.wait_for(heard(), 20.0)
            assert powerctld.desk.answer()["results"][str(test_id)] == {"hook.own": "", "journal": ""}  # type: ignore[index]  # a message of JSON
            powerctld.desk.wish({"wish": "unsilence", "alert_id": "dead_source"}, "alice")
            await own.turn()
            await own.turn()
            await until(lambda: ("firing", "dead_source:source:pdu1") in told(config))

        await running(own, go())

    asyncio.run(body())


def test_a_store_fault_in_the_ledger_is_an_alert_until_it_is_over(config: SiteConfig) -> None:
    async def body() -> None:
        powerctld = Powerctld()
        powerctld.note("controller", "fault", "store:series", "disk full")
        own = task(config, powerctld)
        await own.turn()
        assert own._ledger.faults == {"store:series": "disk full"}
        powerctld.note("controller", "fault over", "store:series", "well")
        own._next_ledger_seconds = 0.0
        await own.turn()
        assert own._ledger.faults == {}

    asyncio.run(body())


def test_what_powerctld_is_told_fits_its_socket() -> None:
    row = {"id": "x", "summary": "s" * 300, "effects": ["e" * 300] * 50}
    request: wire.Message = {
        "op": "alerts",
        "alerts": [dict(row) for _ in range(400)],
        "news": [dict(row)] * 200,
    }
    cut = fitted(request)
    assert 30_000 < len(wire.encode(cut)) < 65_536


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"wish": "dance"}, "wish: not one of"),
        ({"wish": "silence"}, "alert_id: missing"),
        ({"wish": "silence", "alert_id": "a", "reason": "x"}, "seconds: a silence has an end"),
        ({"wish": "silence", "alert_id": "a", "seconds": 9.0}, "reason: missing"),
        ({"wish": "silence", "alert_id": "a", "seconds": float("inf"), "reason": "x"}, "no number"),
        ({"wish": "silence", "alert_id": "a\nb", "seconds": 9.0, "reason": "x"}, "alert_id"),
    ],
)
def test_a_wish_that_is_none_is_refused(request_: dict[str, Any], problem: str) -> None:
    with pytest.raises(RefusedError, match=problem):
        Powerctld().desk.wish(request_, "alice")


@pytest.mark.parametrize(
    "word",
    [
        {"alerts": 3},
        {"alerts": [3]},
        {"alerts": [], "news": [{}]},
        {"alerts": [], "news": [{"news": "firing", "news_id": 3, "alert_id": "x"}]},
        {"alerts": [], "results": []},
        {"alerts": [{}] * 501},
    ],
)
def test_a_word_of_the_bridge_that_is_none_changes_nothing(word: dict[str, Any]) -> None:
    powerctld = Powerctld()
    powerctld.desk.take({"alerts": [{"id": "a"}]})
    with pytest.raises(RefusedError):
        powerctld.desk.take(word)
    assert powerctld.desk.rows() == [{"id": "a"}]
    assert powerctld.ledger == []
