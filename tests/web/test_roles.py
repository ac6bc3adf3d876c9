"""Every endpoint by every role: who may what, and what they see."""

import json
from typing import Any

import pytest

from slurm_power.model.role import Role
from slurm_power.web.calls import Endpoint
from slurm_power.web.openapi import errors_of
from slurm_power.web.table import TABLE
from tests.web.bed import CONFIRM, EVENT, Bed, month_has_just_begun

# None: nobody has said who they are, and the site shows nothing to such.
WHO: tuple[tuple[str, Role | None], ...] = (
    ("", None),
    ("val", Role.VIEWER),
    ("mia", Role.USER),
    ("carol", Role.AUDITOR),
    ("opal", Role.OPERATOR),
)
BODIES: dict[str, dict[str, Any]] = {
    "add_event": EVENT,
    "cancel_event": {"reason": "a mistake"},
    "control": {"enabled": False, "reason": "a test"},
    "release": {"reason": "a test"},
    "weights": {"weights": None, "reason": "a test"},
    "login": {"ticket": "x" * 20},
}
# Right, but there is no such thing: what is refused for its role is refused before that.
REFUSED_ALL_THE_SAME = {"cancel_event": 404, "login": 403, "event_report": 404}


def path(one: Endpoint) -> str:
    return one.path.replace("{event_id}", "ev-999").replace("{job_id}", "1")


@pytest.mark.parametrize("one", TABLE, ids=[one.name for one in TABLE])
@pytest.mark.parametrize(("name", "role"), WHO, ids=[str(role) for _, role in WHO])
def test_every_endpoint_is_for_its_role_and_those_above(
    bed: Bed, one: Endpoint, name: str, role: Role | None
) -> None:
    may = one.role is None or (role is not None and role.covers(one.role))
    with bed.client(name, role) as client:
        body: Any = {"json": BODIES[one.name]} if one.name in BODIES else {}
        if one.name == "stream" and may:
            with client.stream("GET", path(one)) as answer:
                assert answer.status_code == 200
            return
        answer = client.request(one.method, path(one), headers=CONFIRM if one.deed else {}, **body)
    if may:
        expected = {REFUSED_ALL_THE_SAME.get(one.name, one.status)}
        if one.name == "savings" and month_has_just_begun():
            expected.add(503)
        assert answer.status_code in expected, answer.text
    else:
        assert answer.status_code == (401 if role is None else 403)
        assert answer.status_code in errors_of(one)
        assert answer.json()["error"] and answer.json()["problems"] == []
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("one", [one for one in TABLE if one.deed], ids=lambda one: one.name)
def test_no_deed_without_the_header_that_no_form_can_send(bed: Bed, one: Endpoint) -> None:
    before = bed.ask(op="ledger")["entries"][-1]["sequence"]
    with bed.client("opal", Role.OPERATOR) as client:
        for headers in ({}, {"X-Slurm-Power-Confirm": "no"}):
            answer = client.request(one.method, path(one), json=BODIES[one.name], headers=headers)
            assert answer.status_code == 400
            assert any("X-Slurm-Power-Confirm" in problem for problem in answer.json()["problems"])
        form = {"content-type": "application/x-www-form-urlencoded", **CONFIRM}
        assert client.request(one.method, path(one), content="a=b", headers=form).status_code == 415
    later = bed.ask(op="ledger", after_sequence=before)["entries"]
    assert all("(web)" not in entry["actor"] for entry in later)


def test_deeds_stand_in_the_ledger_with_who_did_them_and_why(bed: Bed) -> None:
    with bed.client("opal", Role.OPERATOR) as client:
        made = client.post("/api/v1/events", json=EVENT, headers=CONFIRM)
        assert made.status_code == 201, made.text
        event_id = made.json()["event_id"]
        body = {"reason": "it was for another site"}
        gone = client.request("DELETE", f"/api/v1/events/{event_id}", json=body, headers=CONFIRM)
        assert gone.status_code == 200, gone.text
        entries = client.get("/api/v1/ledger", params={"most": 50}).json()["entries"]
    mine = [entry for entry in entries if entry["details"].get("event_id") == event_id]
    told = [(entry["actor"], entry["kind"], entry["reason"]) for entry in mine if "event" in entry["kind"]]
    assert ("operator:opal (web)", "event", EVENT["reason"]) in told
    assert ("operator:opal (web)", "event cancelled", "it was for another site") in told


def test_users_see_totals_and_their_own_jobs_alone(bed: Bed) -> None:
    with bed.client("mia", Role.USER) as client:
        picture = client.get("/api/v1/live").json()
        assert [job["job_id"] for job in picture["jobs"]] == ["1"]
        assert (picture["others"]["running"], picture["others"]["gpu_count"]) == (1, 8)
        assert picture["you"] == {"name": "mia", "role": "user"}
        assert [start["user"] for start in picture["starts"]] == [""] * len(picture["starts"])
        everything = json.dumps(picture)
        for where in ("plan", "forecast", "ledger", "events", "sources"):
            everything += client.get(f"/api/v1/{where}").text
        assert client.get("/api/v1/jobs/1/why").json()["job"]["user"] == "mia"
        assert client.get("/api/v1/jobs/90/why").json()["job"]["state"] == "ended"
        # Somebody else's is as one that never was.
        others, nowhere = (client.get(f"/api/v1/jobs/{job}/why") for job in ("2", "777"))
        assert (others.status_code, nowhere.status_code) == (404, 404)
        assert others.json()["error"].replace("2", "777") == nowhere.json()["error"]
    for name in ("alice", "bob", "secret of alice"):
        assert name not in everything


def test_viewers_see_totals_and_auditors_all_names(bed: Bed) -> None:
    with bed.client("val", Role.VIEWER) as client:
        picture = client.get("/api/v1/live").json()
        assert picture["jobs"] == [] and picture["others"]["running"] == 2
        assert client.get("/api/v1/ledger").json()["entries"]
        assert "alice" not in client.get("/api/v1/ledger", params={"most": 1000}).text
    with bed.client("carol", Role.AUDITOR) as client:
        assert {job["user"] for job in client.get("/api/v1/live").json()["jobs"]} >= {"mia", "alice"}
        assert client.get("/api/v1/jobs/2/why").json()["job"]["user"] == "alice"
        assert "alice" in client.get("/api/v1/ledger", params={"most": 1000}).text


def test_whoami_names_what_may_be_used(bed: Bed) -> None:
    for name, role in WHO[1:]:
        assert role is not None
        with bed.client(name, role) as client:
            me = client.get("/api/v1/me").json()
        assert (me["name"], me["role"]) == (name, role.value)
        deeds = {one.name for one in TABLE if one.deed}
        assert deeds <= set(me["may"]) if role is Role.OPERATOR else not deeds & set(me["may"])
