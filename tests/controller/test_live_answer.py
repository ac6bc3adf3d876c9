"""The picture of the whole site: what is in it, for whom, and what it leaves off."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_power.controller.answers.answers import answer
from slurm_power.controller.answers.live_answer import _circuits, live
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.sensing.lease_news import LeaseNews
from slurm_power.controller.storage.ess_next import ess_next
from slurm_power.model.action import Plan, SetDischarge
from slurm_power.model.reading import PowerReading, Quality
from slurm_power.model.snapshot import LimitEvent
from tests.controller.test_user_socket import STRANGER, Site, folder, needs_root, tried
from tests.plan.situations import ess_reading, site, situation

__all__ = ["folder"]

KEYS = {
    *("at", "site", "version", "mode", "paused_until", "uptime_seconds", "standing", "circuits"),
    *("circuits_left_off", "ess", "jobs", "jobs_left_off", "job_counts", "events", "shortfalls", "starts"),
    *("services", "sources", "leases", "levers", "forecast", "fairness"),
}


def seen(controller: Any, **words: Any) -> dict[str, Any]:
    write = live(controller, {"op": "live", **words}, Caller(0))
    assert not isinstance(write, dict)
    found: dict[str, Any] = json.loads(write())
    return found


def test_the_picture_holds_what_changes_each_second(folder: Path) -> None:
    async def check(site: Site) -> None:
        while site.controller.planned_on is None:  # noqa: ASYNC110  # polls what has no event
            await asyncio.sleep(0.01)
        found = await site.ask({"op": "live"})
        assert found["ok"] and found.keys() >= KEYS
        assert found["standing"]["headline"] == "SAFE: nothing measures grid"
        assert {(job["job_id"], job["user"]) for job in found["jobs"]} >= {
            ("1", str(STRANGER)),
            ("2", "alice"),
        }
        counts = found["job_counts"]
        assert (counts["running"], counts["pending"], counts["gpu_count"]) == (2, 1, 16)
        assert [circuit["name"] for circuit in found["circuits"]] == ["grid"]
        assert found["sources"]["invalid"] >= 2  # neither node has ever spoken
        assert (await site.ask({"op": "status"}))["standing"] == found["standing"]

    tried(folder, check)


@needs_root
def test_only_operators_see_everybody(folder: Path) -> None:
    async def check(site: Site) -> None:
        for request in ({"op": "live"}, {"op": "web_redeem", "ticket": "x"}):
            refused = await site.ask(request, STRANGER)
            assert not refused["ok"] and "only root" in refused["error"]
        spoken = {"op": "status", "for": {"name": "alice", "role": "user", "via": "web"}}
        assert "for: only root" in (await site.ask(spoken, STRANGER))["error"]
        assert [job["user"] for job in (await site.ask(spoken))["jobs"]] == ["alice"]

    tried(folder, check)


def test_the_jobs_of_named_users_are_told_however_little_they_draw(folder: Path) -> None:
    async def check(site: Site) -> None:
        assert (
            seen(site.controller, most_jobs=0)["jobs"],
            seen(site.controller, most_jobs=0)["jobs_left_off"],
        ) == ([], 3)
        hers = seen(site.controller, most_jobs=0, users=["alice"])
        assert {job["user"] for job in hers["jobs"]} == {"alice"}
        assert hers["jobs_left_off"] == 3 - len(hers["jobs"])
        for wrong in ({"most_jobs": -1, "users": "alice"}, {"most_jobs": True, "users": ["x"] * 1001}):
            with pytest.raises(RefusedError, match=r"most_jobs: .*; users: "):
                live(site.controller, {"op": "live", **wrong}, Caller(0))

    tried(folder, check)


def test_somebody_spoken_for_stands_in_the_ledger(folder: Path) -> None:
    event = {"op": "event", "circuit": "grid", "limit_watts": 9000, "duration_seconds": 60, "reason": "r"}

    async def check(site: Site) -> None:
        ways = (
            ({"name": "bob", "role": "operator", "via": "web"}, "operator:bob (web)"),
            ({"name": "openadr3", "role": "operator", "via": "signal"}, "signal:openadr3"),
        )
        for behalf, actor in ways:
            assert (await site.ask({**event, "for": behalf}))["ok"]
            entries = (await site.ask({"op": "ledger"}))["entries"]
            assert [entry["actor"] for entry in entries if entry["kind"] == "event"][-1] == actor
        before = len(site.controller.levers.events)
        for role in ("viewer", "user", "auditor"):
            behalf = {"name": "bob", "role": role, "via": "web"}
            for request in (event, {"op": "control", "enabled": True}, {"op": "live"}):
                refused = await site.ask({**request, "for": behalf})
                assert not refused["ok"] and "only root" in refused["error"]
        for odd in (
            "bob",
            {},
            {"name": "a b", "role": "root", "via": "mail"},
            {"name": "x\n", "role": "user"},
        ):
            refused = await site.ask({**event, "for": odd})
            assert not refused["ok"] and refused["error"].startswith("for")
        assert len(site.controller.levers.events) == before
        auditor = {"name": "eve", "role": "auditor", "via": "web"}
        assert {job["user"] for job in (await site.ask({"op": "status", "for": auditor}))["jobs"]} >= {
            "alice"
        }

    tried(folder, check)


@needs_root
def test_a_ticket_proves_once_who_asked_for_it(folder: Path) -> None:
    async def check(site: Site) -> None:
        given = await site.ask({"op": "web_login"}, STRANGER)
        assert (given["ok"], given["user"]) == (True, str(STRANGER))
        redeemed = await site.ask({"op": "web_redeem", "ticket": given["ticket"]})
        assert (redeemed["user"], redeemed["uid"], redeemed["operator"]) == (str(STRANGER), STRANGER, False)
        for ticket in (given["ticket"], "", None, "x" * 10_000, "\u20ac"):
            assert not (await site.ask({"op": "web_redeem", "ticket": ticket}))["ok"]
        behalf = {"name": "alice", "role": "operator", "via": "web"}
        assert "somebody else" in (await site.ask({"op": "web_login", "for": behalf}))["error"]
        for _ in range(8):
            answer(site.controller, {"op": "web_login"}, Caller(STRANGER))
        with pytest.raises(RefusedError, match="open links"):
            answer(site.controller, {"op": "web_login"}, Caller(STRANGER))
        assert (await site.ask({"op": "web_login"}))["ok"]

    tried(folder, check)


def test_a_battery_says_what_it_does_next() -> None:
    resting = situation(import_watts=20_000.0)
    assert ess_next(resting, Plan(), "battery", controls=True)["does"] == "rest"
    asked = Plan(actions=(SetDischarge(ess="battery", discharge_watts=-500.0, reason="room"),))
    found = ess_next(resting, asked, "battery", controls=True)
    assert (found["does"], found["watts"], found["in_seconds"], found["reason"]) == (
        "charge",
        500.0,
        0.0,
        "room",
    )
    shadow = ess_next(resting, asked, "battery", controls=False)
    assert (shadow["does"], shadow["watts"]) == ("nothing", None)
    assert "would charge: room" in shadow["reason"]
    event = LimitEvent(
        event_id="ev-1",
        circuit="grid",
        limit_watts=15_000.0,
        starts_in_seconds=600.0,
        ends_in_seconds=1200.0,
        reason="utility",
        ramp_seconds=60.0,
    )
    coming = ess_next(replace(resting, events=(event,)), Plan(), "battery", controls=True)
    assert (coming["does"], coming["in_seconds"], coming["watts"]) == ("discharge", 540.0, 5000.0)
    for wrong, words in (
        ({"remote": False}, "locally"),
        ({"alarms": ("hot",)}, "hot"),
        ({"trusted": False}, "comm"),
    ):
        broken = replace(resting, ess={"battery": replace(ess_reading(), **wrong)})
        found = ess_next(broken, asked, "battery", controls=True)
        assert found["does"] == "nothing" and words in found["reason"]


def test_of_hundreds_of_racks_the_fullest_are_told() -> None:
    small = site()
    rack = small.circuits["rack1"]
    racks = {f"r{n:03d}": replace(rack, name=f"r{n:03d}", nodes=(f"n{n}",), meter="m") for n in range(501)}
    wide = replace(small, circuits={"grid": small.circuits["grid"], **racks})
    readings = {
        name: PowerReading(source="m", watts=float(n), age_seconds=0.1, quality=Quality.GOOD)
        for n, name in enumerate(racks)
    }
    snapshot = replace(situation(import_watts=1.0), site=wide, circuits=readings)
    rows, left_off = _circuits(snapshot)
    assert (len(rows), left_off) == (101, 401)
    assert {row["name"] for row in rows} == {"grid", *list(racks)[-100:]}
    assert json.loads(json.dumps(rows[0]))["watts"] is None


def test_expired_and_drifted_leases_count_for_a_minute() -> None:
    news = LeaseNews()
    for n in range(3):
        news.take("c1", f"g{n}", "expired", float(n))
    news.take("c1", "g0", "drifted", 30.0)
    assert (news.count("expired", 30.0), news.count("drifted", 30.0)) == (3, 1)
    news.take("c1", "g1", "verified", 31.0)
    assert (news.count("expired", 32.0), news.count("drifted", 32.0)) == (2, 1)
    assert (news.count("expired", 61.0), news.count("drifted", 95.0)) == (1, 0)
