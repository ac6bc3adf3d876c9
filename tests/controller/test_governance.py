"""Weights at run time, the policy's book and appeals: a whole controller, asked."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_power.config import load_site
from slurm_power.controller.answers.user_socket import Caller
from slurm_power.controller.governance.appeal_desk import AppealDesk, AppealError
from slurm_power.controller.governance.policy_desk import PolicyDesk
from slurm_power.controller.governance.policy_values import (
    changes_between,
    fingerprint,
    in_parts,
    policy_values,
)
from tests.controller.host import Host, Kept, nobody_notes
from tests.controller.test_user_socket import STRANGER, Site, folder, needs_root

__all__ = ["folder"]  # a fixture


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    yield Host(folder)


def test_weights_count_from_the_next_cycle_and_over_restarts(host: Host) -> None:
    async def check(site: Site) -> None:
        wrong = {"flex2_weight": 0, "flex9_weight": 1, "fairness_ratio": "much", "account_weights": ["a"]}
        refused = (await site.ask({"op": "weights", "weights": wrong, "reason": ""}))["error"]
        keys = ("weights.flex2_weight", "weights.flex9_weight", "weights.fairness_ratio")
        assert all(f"{key}: " in refused for key in (*keys, "weights.account_weights", "reason"))
        assert site.controller.governance.policy.override is None
        answer = await site.ask(
            {"op": "weights", "weights": {"flex2_weight": 3, "account_weights": ["physics=2"]}, "reason": "w"}
        )
        assert answer["weights"]["flex2_weight"] == 3.0
        assert answer["overridden"]["reason"] == "w"
        policies = {
            id(policy)
            for policy in (
                site.controller.config.policy,
                site.controller.planning._policy,
                site.controller.planning.day._policy,
                site.controller.fairness._policy,
                site.controller.recorder._policy,
                site.controller.tiers._policy,
                site.controller.admission._policy,
            )
        }
        # One object: what was made of a snapshot and the policy is then made once a cycle.
        assert len(policies) == 1
        assert site.controller.planning._policy.flex2_weight == 3.0
        picture = await site.ask({"op": "live"})
        assert picture["weights"]["flex2_weight"] == 3.0
        assert picture["policy"] == site.controller.governance.policy.row()
        assert picture["policy"]["fingerprint"]
        told = await site.ask({"op": "plan", "explain": True})
        assert told["weights_overridden"]["weights"]["flex2_weight"] == 3.0

    host.live(check)

    async def kept(site: Site) -> None:
        assert site.controller.config.policy.weights_of_accounts() == {"physics": 2.0}
        mark = (await site.ask({"op": "policy"}))["fingerprint"]
        answer = await site.ask({"op": "weights", "weights": None, "reason": "as before"})
        assert (answer["weights"]["flex2_weight"], answer["overridden"]) == (1.0, None)
        assert (await site.ask({"op": "policy"}))["fingerprint"] != mark

    host.live(kept)
    (put, back) = host.ledger("policy changed")
    assert put.details["changes"]["policy.flex2_weight"] == {"old": 1.0, "new": 3.0}
    assert (put.details["run_time"], back.details["weights"]) == (True, None)
    assert [entry.subject for entry in host.ledger("weights kept")] == ["weights"]


@needs_root
def test_a_user_reads_weights_and_sets_none(host: Host) -> None:
    async def check(site: Site) -> None:
        assert (await site.ask({"op": "weights"}, STRANGER))["weights"]["flex2_weight"] == 1.0
        refused = await site.ask({"op": "weights", "weights": {"flex2_weight": 9}, "reason": "me"}, STRANGER)
        assert "may not set weights" in refused["error"]
        assert "may not" in (await site.ask({"op": "policy_sign", "reason": "me"}, STRANGER))["error"]

    host.live(check)


def test_a_changed_file_is_a_ledger_entry_with_its_author_until_somebody_signs(host: Host) -> None:
    async def nothing(site: Site) -> None:
        assert "no change" in (await site.ask({"op": "policy_sign", "reason": "r"}))["error"]

    host.live(nothing)
    (first,) = host.ledger("policy recorded")
    assert first.details["values"]["policy.cap_floor_ratio"] == 0.45
    host.live(nothing)
    assert host.ledger("policy changed") == []

    host.policy, host.limit = "cap_floor_ratio = 0.6", 25_000

    async def changed(site: Site) -> None:
        told = await site.ask({"op": "policy"})
        assert told["unsigned_changes"] == 1
        assert any("60 % of the GPU's default limit" in line["text"] for line in told["lines"])
        signed = await site.ask({"op": "policy_sign", "reason": "the board decided on Monday"})
        assert len(signed["signed"]) == 1
        assert (await site.ask({"op": "policy"}))["unsigned_changes"] == 0

    host.live(changed)
    (entry,) = host.ledger("policy changed")
    changes = entry.details["changes"]
    assert changes["policy.cap_floor_ratio"] == {"old": 0.45, "new": 0.6}
    assert changes["circuit.grid.limit_watts"] == {"old": 30_000.0, "new": 25_000.0}
    assert len(changes) == 2
    assert entry.actor == f"author:{Caller(os.getuid()).user}"
    assert (entry.details["signed"], "unsigned" in entry.reason) == (False, True)
    (signed,) = host.ledger("policy signed")
    assert signed.details["fingerprints"] == [entry.details["fingerprint"]]

    host.governance = 'author = "carol"'

    async def known(site: Site) -> None:
        assert (await site.ask({"op": "policy"}))["author"] == "carol"

    host.live(known)
    assert host.ledger("policy changed")[-1].actor == "author:carol"
    assert host.ledger("policy changed")[-1].details["signed"]


def test_many_changes_come_in_pieces_and_none_is_lost(host: Host) -> None:
    async def nothing(_: Site) -> None:
        """Only the file is wanted."""

    host.live(nothing)
    values = policy_values(load_site(host.folder / "site.toml"))
    many = {f"circuit.c{number}.limit_watts": float(number) for number in range(1234)}
    changes = changes_between(values, {**values, **many})
    parts = list(in_parts(changes))
    assert max(map(len, parts)) <= 100
    assert {key for part in parts for key in part} == set(many)
    assert fingerprint(values) != fingerprint({**values, **many})
    assert changes_between(values, dict(reversed(values.items()))) == {}


def test_weights_of_an_older_version_are_told_and_not_used(host: Host) -> None:
    async def nothing(_: Site) -> None:
        """Only the file is wanted."""

    host.live(nothing)
    config = load_site(host.folder / "site.toml")
    stored = {"weights": {"gone_weight": 1.0}, "by": "operator:x", "reason": "r", "at": "2026-01-01"}
    notes: list[tuple[Any, ...]] = []
    desk = PolicyDesk(config, Kept(weights_overridden=stored), note=lambda *words, **_: notes.append(words))
    desk.look()
    assert desk.policy is config.policy
    assert any(kind == "fault" and "gone_weight" in reason for _, kind, _, reason in notes)


@needs_root
def test_a_user_appeals_about_own_jobs_and_an_operator_answers(host: Host) -> None:
    async def check(site: Site) -> None:
        ask = {"op": "appeal", "job_id": "1", "text": "it was slowed twice"}
        for wrong in ({**ask, "job_id": "2"}, {**ask, "job_id": "99"}):
            assert "of yours is known" in (await site.ask(wrong, STRANGER))["error"]
        nothing = (await site.ask({"op": "appeal"}, STRANGER))["error"]
        assert "job_id: " in nothing and "text: " in nothing
        # Whose job it is counts, not who may do everything.
        assert "of yours is known" in (await site.ask(ask))["error"]
        filed = await site.ask(ask, STRANGER)
        assert (filed["appeal_id"], filed["contact"]) == ("ap-1", "board@site.example")
        assert "waits for its answer" in (await site.ask(ask, STRANGER))["error"]
        answer = {"op": "appeal_answer", "appeal_id": "ap-1", "text": "you are right"}
        assert "may not answer" in (await site.ask(answer, STRANGER))["error"]
        assert (await site.ask(answer))["user"] == str(STRANGER)
        assert "was answered by" in (await site.ask(answer))["error"]
        (row,) = (await site.ask({"op": "appeals"}, STRANGER))["appeals"]
        assert (row["answer"], row["job_id"]) == ("you are right", "1")
        assert (await site.ask({"op": "appeals"}, STRANGER + 1))["appeals"] == []
        kinds = [
            one["kind"] for one in (await site.ask({"op": "ledger", "job_id": "1"}, STRANGER))["entries"]
        ]
        assert [kind for kind in kinds if "appeal" in kind] == ["appeal", "appeal answered"]

    host.live(check)


def test_appeals_are_bounded_and_kept() -> None:
    store = Kept()
    desk = AppealDesk(store, most_open=2, note=nobody_notes)
    for number in range(2):
        desk.appeal(job_id=str(number), user="alice", who="alice", text="t")
    with pytest.raises(AppealError, match="2 of your appeals wait"):
        desk.appeal(job_id="9", user="alice", who="alice", text="t")
    desk.appeal(job_id="9", user="bob", who="bob", text="t")
    again = AppealDesk(store, most_open=2, note=nobody_notes)
    assert again.rows() == desk.rows()
    again.answer("ap-1", actor="operator:root", text="no")
    assert again.appeal(job_id="7", user="alice", who="alice", text="t").appeal_id == "ap-4"
    for number in range(8, 25):
        again.answer(f"ap-{again._count}", actor="operator:root", text="no")
        again.appeal(job_id=str(number), user="alice", who="alice", text="t")
    again.answer(f"ap-{again._count}", actor="operator:root", text="no")
    with pytest.raises(AppealError, match="in a day"):
        again.appeal(job_id="99", user="alice", who="alice", text="t")
    odd = {"count": 7, "appeals": [{}, None, {"appeal_id": "x"}, *again.rows("bob")]}
    for none in (5, {"count": "x", "appeals": 5}, {"appeals": {"a": 1}}):
        assert AppealDesk(Kept(appeals=none), most_open=2, note=nobody_notes).rows() == []
    assert [row["user"] for row in AppealDesk(Kept(appeals=odd), most_open=2, note=nobody_notes).rows()] == [
        "bob"
    ]


def test_the_rules_of_a_job_are_told_before_it_is_submitted(host: Host) -> None:
    async def check(site: Site) -> None:
        asked = {"op": "expect", "gpus": 8, "flex": "flex2", "time_limit_seconds": 3600}
        told = (await site.ask(asked))["policy"]
        assert any(line.startswith("flex2: slowed by at most 25 %") for line in told["lines"])
        assert not any(line.startswith("flex3") for line in told["lines"])
        assert not any("tier" in line for line in told["lines"])
        assert told["appeals"] == "Room 3, Tuesdays."
        with_tier = (await site.ask({**asked, "tier": "digits/full"}))["policy"]
        assert any("--tiers-ok" in line for line in with_tier["lines"])

    host.live(check)
