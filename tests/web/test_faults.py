"""Faults of the machine below the dashboard: a wall clock that is set while it runs, a full disk."""

import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from slurm_power import clock
from slurm_power.model.role import Role
from slurm_power.web import keys as keys_module
from slurm_power.web.table import ROOT
from tests.web.bed import CONFIRM, EVENT, Bed, until
from tests.web.test_login import login_link
from tests.web.test_stream import events_of

_CLOCK = clock.now


@pytest.mark.parametrize("jump", [timedelta(hours=-30), timedelta(hours=30)], ids=["back", "forth"])
def test_a_wall_clock_that_is_set_stops_no_picture(
    own_bed: Bed, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    now_seconds = clock.now().timestamp()
    secret, _ = own_bed.web.web.keys.make_token(
        "opal", Role.OPERATOR, now_seconds=now_seconds, seconds=90 * 86_400.0
    )
    short = own_bed.web.web.keys.begin_session("mia", operator=False, now_seconds=now_seconds, seconds=3600.0)
    headers = {"Authorization": f"Bearer {secret}"}
    with (
        httpx.Client(base_url=own_bed.url, headers=headers, timeout=15.0) as client,
        client.stream("GET", f"{ROOT}/stream") as answer,
    ):
        found = events_of(answer.iter_lines())
        assert next(found)[0] == "site"

        def now() -> datetime:
            return _CLOCK() + jump

        monkeypatch.setattr(clock, "now", now)
        for turn in range(6):
            assert next(found)[0] == "site", turn
        picture = client.get(f"{ROOT}/live").json()
        told = datetime.fromisoformat(picture["at"])
        assert abs((told - now()).total_seconds()) < 20.0, "the picture goes on by the new time"
        for name in ("history", "ledger", "sources", "events", "forecast", "plan", "policy"):
            assert client.get(f"{ROOT}/{name}").status_code == 200, name
        made = client.post(f"{ROOT}/events", json=EVENT, headers=CONFIRM)
        assert made.status_code == 201, made.text
        starts = [one["starts_in_seconds"] for one in client.get(f"{ROOT}/live").json()["events"]]
        assert all(abs(seconds) < 400.0 for seconds in starts)
        assert next(found)[0] == "site"
    # A session is over by the new time at once; a clock that went back makes none that was over begin again.
    cookie = {"Cookie": f"slurm_power_session={short}"}
    status = httpx.get(f"{own_bed.url}{ROOT}/me", headers=cookie, timeout=15.0).status_code
    assert status == (401 if jump > timedelta() else 200)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A call makes the disk below the file of sessions and tokens a full one."""
    real = keys_module.Keys._open

    def no_room(self: keys_module.Keys) -> sqlite3.Connection:
        connection = real(self)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    yield lambda: monkeypatch.setattr(keys_module.Keys, "_open", no_room)


def test_a_full_disk_keeps_nobody_out_who_is_in(full_disk: Any) -> None:
    """New sessions are refused with a reason, and nothing of the old ones is lost."""
    with tempfile.TemporaryDirectory(prefix="sp-web-", dir="/tmp") as folder:
        bed = Bed(Path(folder))
        try:
            full_disk()
            keys = bed.web.web.keys
            sessions = []
            with pytest.raises(keys_module.KeysError, match="full"):
                for number in range(5000):
                    now_seconds = clock.now().timestamp()
                    sessions.append(
                        keys.begin_session(
                            f"u{number}", operator=False, now_seconds=now_seconds, seconds=600.0
                        )
                    )
            refused = httpx.get(login_link(bed), timeout=15.0)
            assert refused.status_code in (303, 503)  # the page that a session has freed may do
            if refused.status_code == 503:
                assert "full" in refused.json()["error"] and str(folder) not in refused.text
            for secret in (sessions[0], sessions[-1]):
                cookie = {"Cookie": f"slurm_power_session={secret}"}
                with httpx.stream("GET", f"{bed.url}{ROOT}/stream", headers=cookie, timeout=15.0) as answer:
                    assert next(events_of(answer.iter_lines()))[0] == "site"
                assert httpx.get(f"{bed.url}{ROOT}/me", headers=cookie).status_code == 200
            cookie = {"Cookie": f"slurm_power_session={sessions[1]}"}
            assert httpx.post(f"{bed.url}{ROOT}/logout", headers=cookie).status_code == 200
            url = f"{bed.url}{ROOT}/me"
            until(lambda: httpx.get(url, headers=cookie, timeout=15.0).status_code == 401, "logged out")
        finally:
            bed.close()
