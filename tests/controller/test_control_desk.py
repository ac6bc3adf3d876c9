"""Operators' deeds on the automation as a whole: a pause with an end, and everything given back."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_power import clock
from slurm_power.controller.answers.user_socket import Caller
from slurm_power.controller.governance.control_desk import ControlDesk
from slurm_power.model.action import HoldJob, SetCap
from slurm_power.model.site import LimitKind
from tests.controller.host import Host, Kept, nobody_notes, until
from tests.controller.test_user_socket import STRANGER, Site, folder, needs_root

__all__ = ["folder"]  # a fixture


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    yield Host(folder)


def test_a_pause_ends_by_itself_and_outlives_a_restart(host: Host) -> None:
    async def pause(site: Site) -> None:
        assert site.controller.mode == "control"
        wrong = await site.ask({"op": "control", "enabled": 1, "for_seconds": 0, "reason": " "})
        assert all(f"{key}: " in wrong["error"] for key in ("enabled", "for_seconds", "reason"))
        assert site.controller.mode == "control"
        answer = await site.ask({"op": "control", "enabled": False, "for_seconds": 3600, "reason": "drill"})
        assert (answer["mode"], answer["ok"]) == ("off", True)
        status = await site.ask({"op": "status"})
        assert status["paused_until"] == answer["paused_until"] > clock.now().isoformat()

    host.live(pause)

    async def still(site: Site) -> None:
        assert site.controller.mode == "off"
        before = site.controller.control.paused_until
        assert before is not None
        assert timedelta(minutes=59) < before - clock.now() < timedelta(minutes=61)
        answer = await site.ask({"op": "control", "enabled": False, "for_seconds": 1, "reason": "shorter"})
        assert answer["mode"] == "off"
        await until(lambda: site.controller.mode == "control")
        assert (await site.ask({"op": "status"}))["paused_until"] is None

    host.live(still)

    async def over(site: Site) -> None:
        assert site.controller.mode == "control"

    host.live(over)
    (entry, *_) = host.ledger("control off")
    who = "root" if os.geteuid() == 0 else Caller(os.getuid()).user
    assert (entry.actor, entry.reason, entry.details["for_seconds"]) == (f"operator:{who}", "drill", 3600.0)
    assert [entry.reason for entry in host.ledger("control on")] == ["the pause is over"]


def test_shadow_mode_stays_shadow_mode_after_a_pause_or_a_trial(host: Host) -> None:
    host.policy = "control = false"

    async def check(site: Site) -> None:
        ask = {"op": "control", "reason": "tried"}
        paused = await site.ask({**ask, "enabled": False, "for_seconds": 60})
        assert (paused["mode"], paused["paused_until"]) == ("off", None)
        trial = await site.ask({**ask, "enabled": True, "for_seconds": 1})
        assert trial["mode"] == "control" and trial["ends_at"] and not trial["paused_until"]
        await until(lambda: site.controller.mode == "off")
        assert (await site.ask({**ask, "enabled": True, "for_seconds": 60}))["mode"] == "control"

    host.live(check)

    async def anew(site: Site) -> None:
        assert site.controller.mode == "off"

    host.live(anew)


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {},
        {"ends_at": "then", "seconds": 5},
        {"ends_at": 5, "seconds": 5},
        {"ends_at": "2020-01-01T00:00:00+00:00", "seconds": 60},
        {"ends_at": "2020-01-01T00:00:00", "seconds": 60},
    ],
)
def test_what_is_no_pause_or_is_over_pauses_nothing(stored: object) -> None:
    desk = ControlDesk(True, Kept(control_paused=stored), note=nobody_notes, wake=lambda: None)
    assert (desk.enabled, desk.paused_until) == (True, None)


def test_there_is_nothing_to_come_back_to_where_site_toml_says_shadow_mode_by_now() -> None:
    soon = {"ends_at": (clock.now() + timedelta(hours=1)).isoformat(), "seconds": 7200.0}
    desk = ControlDesk(False, Kept(control_paused=soon), note=nobody_notes, wake=lambda: None)
    assert (desk.enabled, desk.paused_until) == (False, None)
    desk.look(clock.monotonic() + 7200.0)
    assert not desk.enabled


def test_a_clock_that_was_set_back_prolongs_no_pause() -> None:
    far = (clock.now() + timedelta(days=4000)).isoformat()
    desk = ControlDesk(
        True, Kept(control_paused={"ends_at": far, "seconds": 60.0}), note=nobody_notes, wake=lambda: None
    )
    assert desk.paused_until is not None
    assert desk.paused_until - clock.now() < timedelta(seconds=61)
    desk.look(clock.monotonic() + 61.0)
    assert desk.enabled


@needs_root
def test_everything_is_given_back_and_its_users_read_why(host: Host) -> None:
    async def check(site: Site) -> None:
        levers, at = site.controller.levers, clock.now()
        refused = await site.ask({"op": "release_all", "reason": "r"}, STRANGER)
        assert "may not" in refused["error"]
        assert "reason: " in (await site.ask({"op": "release_all"}))["error"]
        held = HoldJob(job_id="3", seconds=600.0, reason="grid is full")
        levers.held(held, at)
        for job_id, kind in (("1", LimitKind.ECONOMIC), ("2", LimitKind.SAFETY)):
            levers.capped(SetCap(job_id=job_id, cap_watts=400.0, kind=kind, reason="r"), 600.0, at)
        answer = await site.ask(
            {
                "op": "release_all",
                "reason": "visitors",
                "for": {"name": "alice", "role": "operator", "via": "web"},
            }
        )
        assert answer["released"]["caps"] + answer["released"]["holds"] >= 1
        assert answer["kept_for_safety"] == ["cap on job 2"]
        await until(lambda: site.controller.control.wish is None and "3" not in levers.holds)
        await until(lambda: "1" not in levers.caps)

    host.live(check)
    (entry,) = host.ledger("release all")
    assert (entry.actor, entry.reason) == ("operator:alice (web)", "visitors")
    assert entry.details["kept_for_safety"] == 1
    released = {entry.job_id: entry for entry in host.ledger("release")}
    assert released["3"].reason == "given back by operator:alice (web): visitors"
