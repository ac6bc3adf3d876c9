"""What operators and users type about the automation, the policy and appeals, and what they read."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.explain_text import sentences
from slurm_power.cli.slurm_power import main
from slurm_power.cli.slurms_word import SlurmsWord
from tests.cli.fake_powerctld import STATUS, Answer, fake_powerctld

EVIL = "\x1b[31mred\x1b]0;owned\x07"
UNTIL = "2026-11-28T18:00:00+00:00"
OVERRIDE = {"weights": {"flex2_weight": 3.0}, "by": "operator:alice", "reason": f"thesis {EVIL}", "at": UNTIL}
WEIGHTS = {"flex1_weight": 2.0, "flex2_weight": 3.0, "account_weights": ["physics=2"]}
POLICY: dict[str, Any] = {
    "ok": True,
    "site": "lab",
    "mode": "off",
    "paused_until": UNTIL,
    "lines": [
        {"topic": "promise", "text": "flex0: never slowed."},
        {"topic": "promise", "text": "flex1: slowed by at most 10 %."},
        {"topic": "safety", "text": "A breaker comes first."},
    ],
    "owner": "the board",
    "contact": "board@site.example",
    "appeals": "Room 3.",
    "answer_days": 14,
    "review_by": "2026-01-01",
    "overdue": True,
    "text": f"Be kind.\n{EVIL}\n",
    "weights_overridden": OVERRIDE,
    "fingerprint": "ab" * 32,
    "changed_at": UNTIL,
    "author": "carol",
    "unsigned_changes": 2,
}


APPEAL = {"appeal_id": "ap-1", "job_id": "7", "user": "bob", "at": UNTIL, "text": EVIL}
ANSWERED = {"appeal_id": "ap-2", "answered_at": UNTIL, "answered_by": "operator:x", "answer": "no"}
ANSWERS: dict[str, dict[str, Any]] = {
    "status": {**STATUS, "mode": "off", "paused_until": UNTIL},
    "release_all": {
        "ok": True,
        "mode": "control",
        "released": {"caps": 2, "holds": 1, "pauses": 0},
        "kept_for_safety": ["cap on job 3"],
        "kept_for_safety_count": 1,
    },
    "weights": {"ok": True, "weights": WEIGHTS, "overridden": OVERRIDE, "known": []},
    "policy": POLICY,
    "policy_sign": {"ok": True, "signed": ["a"]},
    "appeal": {"ok": True, "appeal_id": "ap-1", "answer_days": 14, "contact": EVIL},
    "appeal_answer": {"ok": True, "appeal_id": "ap-1", "job_id": "7", "user": "bob"},
    "appeals": {"ok": True, "appeals": [{**APPEAL, "answered_at": None}, {**APPEAL, **ANSWERED}]},
}


def answer(request: dict[str, Any]) -> Answer:
    if request["op"] == "control":
        until = UNTIL if "for_seconds" in request else None
        return {
            "ok": True,
            "mode": "control" if request["enabled"] else "off",
            "paused_until": until,
            "ends_at": until,
        }
    return ANSWERS.get(request["op"], {"ok": False, "error": f"unknown request {request['op']}"})


def run(*arguments: object) -> tuple[Result, list[dict[str, Any]]]:
    with fake_powerctld(answer) as fake:
        words = [*map(str, arguments), "--socket", str(fake.path)]
        return CliRunner().invoke(main, words), fake.requests


def test_a_pause_has_an_end_and_a_reason() -> None:
    result, requests = run("control", "pause", "--for", "2h", "--reason", "drill")
    assert requests == [{"op": "control", "enabled": False, "reason": "drill", "for_seconds": 7200.0}]
    assert result.output.startswith("control is off until ") and "then on again by itself" in result.output
    result, requests = run("control", "pause")
    assert (result.exit_code, requests) == (2, [])
    assert "--for: missing" in result.output and "--reason: missing" in result.output
    result, requests = run("control", "resume")
    assert [request["op"] for request in requests] == ["status", "control"]
    assert requests[1]["enabled"] is True


def test_there_is_nothing_to_resume_from_without_a_pause() -> None:
    with fake_powerctld(lambda _: {**STATUS, "mode": "off"}) as fake:
        result = CliRunner().invoke(main, ["control", "resume", "--socket", str(fake.path)])
        assert [request["op"] for request in fake.requests] == ["status"]
    assert (result.exit_code, "no pause to resume from" in result.output) == (2, True)


def test_release_all_says_what_is_given_back_and_what_stays() -> None:
    result, requests = run("release-all", "--reason", "visitors")
    assert requests == [{"op": "release_all", "reason": "visitors"}]
    assert result.output == (
        "given back: 2 caps, 1 hold\nstays, for a breaker: cap on job 3\n"
        "what limits still need is planned anew in the next cycle\n"
    )
    _, requests = run("release-all", "--reason", "visitors", "--safety-too")
    assert requests[0]["safety_too"] is True
    assert run("release-all")[0].exit_code == 2


def test_weights_are_set_beside_those_set_before() -> None:
    result, requests = run("weights")
    assert requests == [{"op": "weights"}]
    assert "flex2_weight                 3  (overridden)" in result.output
    assert "overridden by operator:alice" in result.output and "\x1b" not in result.output
    _, requests = run("weights", "set", "flex1_weight=4", "account_weights=a=1,b=2", "--reason", "r")
    assert requests[1]["weights"] == {
        "flex2_weight": 3.0,
        "flex1_weight": 4.0,
        "account_weights": ["a=1", "b=2"],
    }
    _, requests = run("weights", "reset", "--reason", "r")
    assert requests == [{"op": "weights", "weights": None, "reason": "r"}]
    result, requests = run(
        "weights", "set", "x", "flex1_weight=y", "flex2_weight=1", "flex2_weight=2", "--reason", "r"
    )
    assert (result.exit_code, requests) == (2, [])
    assert all(word in result.output for word in ("'x'", "'y'", "flex2_weight: stands there twice"))


def test_the_policy_is_read_by_anybody() -> None:
    result, _ = run("policy")
    for words in (
        "Policy of lab. Control is off until",
        "promise    flex0: never slowed.",
        "           flex1: slowed",
        "Answers for it: the board (board@site.example).",
        "answered within 14 days. Room 3.",
        "2026-01-01, which has passed",
        "by carol; 2 unsigned; fingerprint abababababababab.",
        "Be kind.",
    ):
        assert words in result.output
    assert "\x1b" not in result.output
    assert json.loads(run("policy", "--json")[0].output)["lines"] == POLICY["lines"]
    result, requests = run("policy", "sign", "--reason", "decided")
    assert (result.output, requests) == ("signed: 1 change\n", [{"op": "policy_sign", "reason": "decided"}])


def test_appeals_are_filed_answered_and_listed() -> None:
    result, requests = run("appeal", "7", "--text", "why me")
    assert requests == [{"op": "appeal", "job_id": "7", "text": "why me"}]
    assert "appeal ap-1 about job 7 is filed" in result.output and "\x1b" not in result.output
    result, requests = run("appeal", "answer", "ap-1", "--text", "because")
    assert requests == [{"op": "appeal_answer", "appeal_id": "ap-1", "text": "because"}]
    result, _ = run("appeal", "list")
    assert "waits for an answer" in result.output and "\x1b" not in result.output
    assert "ap-2" not in run("appeal", "list", "--open")[0].output
    assert run("appeal", "7")[0].exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["control", "off", "--json"],
        ["release-all", "--reason", "r", "--json"],
        ["weights", "--json"],
        ["policy", "sign", "--reason", "r", "--json"],
        ["appeal", "7", "--text", "t", "--json"],
        ["appeal", "list", "--json"],
    ],
)
def test_each_answers_programs(arguments: list[str]) -> None:
    result, _ = run(*arguments)
    assert result.exit_code == 0
    assert isinstance(json.loads(result.output), dict)


def at_a_terminal(path: Path, typed: bytes, *arguments: str) -> int:
    """Run the command with a terminal at its input; returns its exit status."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "slurm_power.cli.slurm_power", *arguments, "--socket", str(path)],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.write(ours, typed)
        return process.wait(30.0)
    finally:
        os.close(ours)
        os.close(theirs)


def test_whoever_sits_at_a_terminal_is_asked() -> None:
    with fake_powerctld(answer) as fake:
        assert at_a_terminal(fake.path, b"n\n", "release-all", "--reason", "r") == 1
        assert fake.requests == []
        assert at_a_terminal(fake.path, b"y\n", "release-all", "--reason", "r") == 0
        assert len(fake.requests) == 1
        assert at_a_terminal(fake.path, b"", "release-all", "--reason", "r", "--yes") == 0
        assert len(fake.requests) == 2


def test_status_says_until_when_it_is_paused() -> None:
    result, _ = run("status")
    assert "only watches, touches nothing until 2026-11-28" in " ".join(result.output.split())


def explained(**policy: Any) -> list[str]:
    request = {"gpus": 8, "time_limit_seconds": 3600}
    expected = {
        "expected_mean_watts": 600.0,
        "expected_p95_watts": 650.0,
        "expected_jobs": 3,
        "expected_known_from": "your jobs",
        "workload": "training",
        "flex": "flex2",
    }
    found: dict[str, Any] = {"expected": expected, "held": False, "longest_hold_seconds": 900}
    return sentences(request, {**found, **policy}, SlurmsWord(None, "no answer"))


def test_who_submits_reads_the_rules_for_the_job_and_where_to_appeal() -> None:
    told = {
        "lines": ["flex2: slowed by at most 25 %.", EVIL],
        "mode": "off",
        "paused_until": None,
        "appeals": "Room 3.",
        "contact": "board@site.example",
        "owner": "",
    }
    text = "\n".join(explained(policy=told))
    assert "  flex2: slowed by at most 25 %." in text
    assert "The control is off: nothing is touched now." in text
    assert 'Appeals: slurm-power appeal JOB --text "...". Room 3.' in text
    assert "\x1b" not in text
    assert explained() == explained(policy=None) == explained(policy={"lines": []})


def test_show_config_says_who_has_overridden_a_weight(tmp_path: Path) -> None:
    with fake_powerctld(answer) as fake:
        file = tmp_path / "site.toml"
        file.write_text(
            f'[site]\nname = "x"\n[controller]\nsocket = "{fake.path}"\n[policy]\nflex2_weight = 1.5\n'
            '[circuit.grid]\nrating_watts = 60_000\nlimit_kind = "economic"\n'
        )
        result = CliRunner().invoke(main, ["show-config", "--config", str(file), "--json"])
    row = json.loads(result.output)["policy.flex2_weight"]
    assert row["value"] == 3.0
    assert row["from"].startswith("overridden by operator:alice: thesis")
    assert row["from"].endswith("(else 1.5)")
