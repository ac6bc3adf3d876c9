"""What gateways tell and are answered: their own services only, one tier at a time, room first."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.tiers.service_desk import SILENT_SECONDS, ServiceDesk
from slurm_power.model.action import SwitchService
from slurm_power.model.service import BackendState
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Catalog
from slurm_power.plan.policy import Policy
from slurm_power.store.sqlite import SqliteStore
from tests.plan.situations import AT
from tests.plan.tier_situations import consenting, facing

ALICE, BOB, ROOT = Caller(23_456), Caller(23_457), Caller(0)
JOB = replace(consenting(), user=ALICE.user, account="lab")
WORD: dict[str, Any] = {
    "op": "service",
    "name": "ask",
    "family": "digits",
    "full_tier": "full",
    "tiers_ok": "half,small",
    "min_quality": 0.9,
    "account": "lab",
    "serving": "full",
    "requests_per_second": 12.5,
    "backends": [{"tier": "full", "state": "serving", "job_id": "1", "open_streams": 3}],
}
SWITCH = SwitchService(
    service="ask", tier="half", kind=LimitKind.ECONOMIC, reason="the grid is full", saved_watts=2_400.0
)


class Bench:
    """A desk, and a site in which job 1 serves on 8 GPUs."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "s.sqlite")
        self.notes: list[tuple[str, str]] = []
        self.world = facing((JOB,), events=())
        self.start_anew()

    def start_anew(self) -> None:
        self.desk = ServiceDesk(
            self.store,
            Policy(),
            lambda _actor, kind, subject, _reason, **_about: self.notes.append((kind, subject)),
        )

    def says(
        self, caller: Caller = ALICE, at: float = 0.0, *, enabled: bool = True, **more: Any
    ) -> dict[str, Any]:
        return self.desk.answer(self.world, {**WORD, **more}, caller, at, enabled=enabled)

    def seen(self, at: float = 0.0) -> Snapshot:
        return self.desk.onto(self.world, at)


def light(name: str, job_id: str) -> dict[str, Any]:
    """The word of a service whose light tier serves as a job."""
    return {
        "name": name,
        "serving": "half",
        "backends": [{"tier": "half", "state": "serving", "job_id": job_id}],
    }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_service_is_in_the_snapshot_as_its_gateway_told_it(bench: Bench) -> None:
    assert bench.says() == {
        "tier": "full",
        "reason": "nothing is short",
        "ttl_seconds": 30.0,
        "may_start": True,
        "wait_reason": "",
    }
    one = bench.seen(at=5.0).services["ask"]
    assert (one.user, one.account, one.full_tier, one.tiers_ok) == (
        ALICE.user,
        "lab",
        "full",
        ("half", "small"),
    )
    assert (one.serving, one.min_quality, one.requests_per_second, one.age_seconds) == (
        "full",
        0.9,
        12.5,
        5.0,
    )
    (backend,) = one.backends
    assert (backend.state, backend.job_id, backend.open_streams) == (BackendState.SERVING, "1", 3)
    assert bench.notes == [("service heard", "service:ask")]


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        (["small", "half"], ("small", "half")),
        (["any"], ("any",)),
        ("any", ("any",)),
        ("none", ()),
        ([], ()),
        (None, ()),
    ],
)
def test_consent_comes_as_a_list_or_as_the_option_s_text(
    bench: Bench, said: object, understood: tuple[str, ...]
) -> None:
    bench.says(tiers_ok=said)
    assert bench.seen().services["ask"].tiers_ok == understood


def test_it_is_answered_the_tier_that_was_asked_until_that_is_taken_back(bench: Bench) -> None:
    bench.says()
    assert bench.desk.took(SWITCH, AT)
    assert not bench.desk.took(SWITCH, AT), "a renewal is no news"
    answer = bench.says(at=2.0)
    assert (answer["tier"], answer["reason"]) == ("half", "the grid is full")
    assert bench.seen().service_leases["ask"].tier == "half"
    assert bench.says(at=3.0, enabled=False)["tier"] == "full", "who only watches asks nothing"
    assert bench.desk.took(replace(SWITCH, tier=None), AT)
    assert bench.says(at=4.0)["tier"] == "full"
    assert not bench.desk.took(replace(SWITCH, tier=None), AT)


def test_a_restart_keeps_what_was_asked(bench: Bench) -> None:
    bench.says()
    bench.desk.took(SWITCH, AT)
    bench.start_anew()
    bench.desk.follow(100.0)
    bench.desk.follow(100.0 + SILENT_SECONDS - 1.0)
    assert bench.says(at=129.0)["tier"] == "half"


def test_one_that_is_not_heard_is_forgotten_with_all_that_was_asked(bench: Bench) -> None:
    bench.says()
    bench.desk.took(SWITCH, AT)
    bench.desk.follow(0.0)
    bench.desk.follow(SILENT_SECONDS)
    assert bench.seen().services
    bench.desk.follow(SILENT_SECONDS + 1.0)
    assert bench.seen() == bench.world
    assert bench.notes[-1] == ("service silent", "service:ask")
    bench.start_anew()
    assert not bench.desk.asked, "nor after a restart"
    assert bench.says(at=60.0)["tier"] == "full"


def test_only_its_user_and_operators_may_speak_for_it(bench: Bench) -> None:
    bench.says()
    with pytest.raises(RefusedError, match="somebody else's; choose another name"):
        bench.says(BOB, at=1.0, serving="half")
    assert bench.seen().services["ask"].serving == "full"
    assert bench.desk.rows(1.0, user=BOB.user) == []
    assert [row["name"] for row in bench.desk.rows(1.0, user=ALICE.user)] == ["ask"]
    bench.says(ROOT, at=2.0)
    assert bench.says(ALICE, at=3.0)["tier"] == "full", "it is still alice's"
    assert bench.seen().services["ask"].user == ALICE.user


def test_an_operator_who_speaks_for_it_does_not_make_it_root_s(bench: Bench) -> None:
    bench.says()
    bench.says(ROOT, at=1.0)
    assert bench.seen().services["ask"].user == ALICE.user


def test_somebody_else_s_job_is_no_backend(bench: Bench) -> None:
    bench.says(BOB)
    assert bench.seen().services["ask"].backends[0].job_id == ""


def test_a_tier_is_started_only_where_there_is_room_for_both(bench: Bench) -> None:
    bench.says()
    bench.desk.took(SWITCH, AT)
    assert bench.says(at=2.0)["may_start"]
    site = bench.world.site
    full = replace(site.circuits["grid"], rating_watts=9_000.0)
    bench.world = replace(bench.world, site=replace(site, circuits={**site.circuits, "grid": full}))
    answer = bench.says(at=4.0)
    assert not answer["may_start"]
    assert answer["wait_reason"].endswith("W are missing for both tiers at once")
    assert bench.says(at=5.0, serving="")["may_start"], "what serves nothing yet starts as any job does"


def test_of_two_that_come_back_into_room_for_one_the_first_starts(bench: Bench) -> None:
    """Neither waits for room that the other only would like to have."""
    one, two = light("one", "1"), light("two", "2")
    bench.world = facing((JOB, replace(consenting("2", "c2"), user=ALICE.user)), events=())
    site = bench.world.site
    # 10 kW are drawn, and one full tier adds 4.8 kW and its overhead.
    room = replace(site.circuits["grid"], limit_watts=17_500.0)
    bench.world = replace(bench.world, site=replace(site, circuits={**site.circuits, "grid": room}))
    for words in (one, two):
        bench.says(**words)
    assert [bench.says(at=2.0, **words)["may_start"] for words in (one, two)] == [True, False]
    assert [bench.says(at=9.0, **words)["may_start"] for words in (two, one)] == [False, True]
    assert bench.says(at=10.0, name="one")["may_start"], "it serves"
    assert bench.says(at=11.0, **two)["may_start"]


def test_room_that_is_booked_and_not_used_is_free_again(bench: Bench) -> None:
    one, two = light("one", "1"), light("two", "2")
    bench.world = facing((JOB, replace(consenting("2", "c2"), user=ALICE.user)), events=())
    site = bench.world.site
    room = replace(site.circuits["grid"], limit_watts=17_500.0)
    bench.world = replace(bench.world, site=replace(site, circuits={**site.circuits, "grid": room}))
    assert bench.says(**one)["may_start"]
    assert not bench.says(at=1.0, **two)["may_start"]
    bench.says(at=179.0, **one)
    assert bench.says(at=180.0, **two)["may_start"]
    assert not bench.says(at=181.0, **one)["may_start"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"family": "letters"}, "letters is not in the site's catalog; it has digits"),
        ({"full_tier": "huge"}, "full_tier: digits has no tier huge; it has full, half, small"),
        ({"tiers_ok": "half,tiny"}, "digits has no tier tiny"),
        ({"tiers_ok": "half,,small"}, "tiers_ok: not a list of 8 names"),
        ({"tiers_ok": ["any", "half"]}, "tiers_ok: not a list"),
        ({"tiers_ok": 7}, "tiers_ok: not a list"),
        ({"serving": "tiny"}, "serving: digits has no tier tiny"),
        ({"name": "No Name"}, "name: not a name"),
        ({"name": None}, "name: not a name"),
        ({"requests_per_second": float("nan")}, "requests_per_second: out of bounds"),
        ({"requests_per_second": True}, "requests_per_second: not a number"),
        ({"min_quality": "good"}, "min_quality: not a number"),
        ({"backends": "all"}, "backends: not a list"),
        ({"backends": [{}] * 17}, "backends: not a list of 16"),
        ({"backends": [{"tier": "full", "state": "asleep"}]}, r"backends\[0\]"),
        ({"backends": [{"tier": "full", "state": "ready", "job_id": 7}]}, r"backends\[0\]: job_id"),
        ({"backends": [{"tier": "full", "state": "ready", "open_streams": -1}]}, "open_streams"),
        ({"backends": ["full"]}, r"backends\[0\]"),
        ({"backends": [{"tier": 8, "state": "ready"}]}, r"backends\[0\]: tier"),
        ({"backends": [{"tier": "full", "state": "ready", "job_id": "\u0661"}]}, r"backends\[0\]: job_id"),
        ({"backends": [{"tier": "full", "state": []}]}, r"backends\[0\]"),
        ({"requests_per_second": -1}, "requests_per_second: below 0"),
        ({"requests_per_second": 10**400}, "requests_per_second: out of bounds"),
        ({"min_quality": float("inf")}, "min_quality: out of bounds"),
    ],
)
def test_what_is_wrong_is_said(bench: Bench, more: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        bench.says(**more)
    assert bench.seen() == bench.world
    assert bench.notes == []


def test_all_that_is_wrong_is_said_at_once(bench: Bench) -> None:
    with pytest.raises(RefusedError) as caught:
        bench.says(name="", full_tier="huge", min_quality="x", backends=None)
    assert all(key in str(caught.value) for key in ("name: ", "full_tier: ", "min_quality: ", "backends: "))


def test_nobody_fills_the_desk(bench: Bench) -> None:
    for number in range(20):
        bench.says(name=f"s{number}")
    with pytest.raises(RefusedError, match="has 20 services already"):
        bench.says(name="s20")
    bench.says(BOB, name="b")


def test_a_clean_stop_asks_nothing_any_more(bench: Bench) -> None:
    bench.says()
    bench.desk.took(SWITCH, AT)
    bench.desk.let_go()
    assert bench.says(at=1.0)["tier"] == "full"


def test_what_its_owner_no_longer_consents_to_is_not_asked(bench: Bench) -> None:
    bench.says()
    bench.desk.took(SWITCH, AT)
    assert bench.says(at=1.0)["tier"] == "half"
    assert bench.says(at=2.0, tiers_ok="small")["tier"] == "full"
    assert bench.says(at=3.0, tiers_ok=["any"])["tier"] == "half"
    lighter = bench.world.catalog.families["digits"]
    without = replace(lighter, tiers=tuple(tier for tier in lighter.tiers if tier.name != "half"))
    bench.world = replace(bench.world, catalog=Catalog(families={"digits": without}))
    assert bench.says(at=4.0, tiers_ok=["any"])["tier"] == "full"


def test_a_service_weighs_as_an_account_under_which_its_user_runs_jobs(bench: Bench) -> None:
    bench.says(account="the director's")
    assert bench.seen().services["ask"].account == ""
    bench.says(account=JOB.account)
    assert bench.seen().services["ask"].account == JOB.account


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {"ask": None},
        {"ask": {"tier": "half"}},
        {"ask": {"tier": 7, "kind": "economic", "reason": "", "asked_at": "x", "saved_watts": 1}},
        {"ask": {"tier": "half", "kind": "none", "reason": "", "asked_at": "2026-01-02", "saved_watts": 1}},
    ],
)
def test_what_is_stored_and_makes_no_sense_is_as_nothing(bench: Bench, stored: object) -> None:
    bench.store.put_state("services", stored)
    bench.start_anew()
    assert bench.desk.asked == {}
    assert bench.says()["tier"] == "full"
