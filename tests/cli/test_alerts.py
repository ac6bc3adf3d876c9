"""`slurm-power alerts`: what is shown, tried and silenced."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import Answer, fake_powerctld

EVIL = "\x1b[31mred[/red]\nBYE"
ROW = {
    "id": "dead_source:source:pdu1",
    "rule": "dead_source",
    "cause": "source:pdu1",
    "severity": "warn",
    "state": "firing",
    "summary": f"pdu1: {EVIL}",
    "what_to_do": "Look.",
    "runbook": "docs/runbooks.md#x",
    "effects": ["rack1 counts as full"],
    "since": "2026-01-02T03:04:05+00:00",
    "labels": {},
}
SILENCE = {"alert_id": "dead_source", "until": "2026-01-02T05:00:00+00:00", "reason": EVIL, "who": "alice"}


def invoke(answer: dict[str, Any], *words: str) -> tuple[Result, list[dict[str, Any]]]:
    def reply(request: dict[str, Any]) -> Answer:
        if request["op"] != "alerts":
            return {"ok": False, "error": "no such request"}
        return {"ok": True, "wish_id": 4} if "wish" in request else {"ok": True, **answer}

    with fake_powerctld(reply) as fake:
        done = CliRunner().invoke(
            main, ["alerts", *words, "--socket", str(fake.path)], env={"COLUMNS": "200"}
        )
    return done, fake.requests


def answer(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"alerts": list(rows), "silences": [], "age_seconds": 1.0, "heard": True, "results": {}, **changes}


def test_what_fires_is_shown_with_what_to_do() -> None:
    done, _ = invoke(answer(ROW, silences=[SILENCE]))
    assert done.exit_code == 0, done.output
    assert "WARN pdu1: ?[31mred[/red]?BYE" in done.output
    assert "rack1 counts as full" in done.output
    assert "docs/runbooks.md#x" in done.output
    assert "silenced by alice" in done.output
    assert "\x1b" not in done.output


def test_status_1_while_a_page_fires() -> None:
    page = {**ROW, "severity": "page"}
    assert invoke(answer(page), "list")[0].exit_code == 1
    assert invoke(answer({**page, "state": "silenced"}))[0].exit_code == 0


def test_a_bridge_that_is_away_is_no_all_clear() -> None:
    done, _ = invoke(answer(heard=False, age_seconds=None))
    assert "nothing is wrong" not in done.output
    assert "powerbridge has told nothing yet" in done.output


def test_json() -> None:
    done, _ = invoke(answer(ROW), "--json")
    assert json.loads(done.output)["alerts"] == [ROW]


def test_a_test_says_which_way_has_failed() -> None:
    done, requests = invoke(answer(results={"4": {"journal": "", "mail.ops": "refused"}}), "test")
    assert done.exit_code == 1
    assert "mail.ops: refused" in done.output
    assert "journal: sent" in done.output
    assert {"op": "alerts", "wish": "test"} in requests


def test_a_test_needs_a_bridge() -> None:
    done, requests = invoke(answer(heard=False, age_seconds=300.0), "test")
    assert done.exit_code == 1
    assert "last heard 5 min ago" in done.output
    assert not any("wish" in request for request in requests)


def test_a_silence() -> None:
    done, requests = invoke(answer(), "silence", "dead_source", "--for", "2h", "--reason", "work")
    assert done.exit_code == 0, done.output
    assert requests[0] == {
        "op": "alerts",
        "wish": "silence",
        "alert_id": "dead_source",
        "seconds": 7200.0,
        "reason": "work",
    }
    assert invoke(answer(), "silence", "dead_source", "--end")[1][-1]["wish"] == "unsilence"


@pytest.mark.parametrize(
    "words",
    [(), ("--for", "2h"), ("--reason", "x"), ("--for", "x", "--reason", "y"), ("--end", "--for", "2h")],
)
def test_a_silence_without_end_or_reason_changes_nothing(words: tuple[str, ...]) -> None:
    done, requests = invoke(answer(), "silence", "dead_source", *words)
    assert done.exit_code == 2
    assert requests == []
    if not words:
        assert "--for" in done.output
        assert "--reason" in done.output
