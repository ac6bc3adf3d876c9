"""``slurm-power advise`` against a powerctld that answers by the book."""

from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import Answer, fake_powerctld

PROGRESS: dict[str, Any] = {
    "step": 1200,
    "samples_per_second": 812.34,
    "max_micro_batch": 64,
    "checkpoints": True,
}


def run(*words: str, reply: Answer | None = None) -> tuple[Result, list[Any]]:
    with fake_powerctld(lambda _request: reply or {"ok": True, "progress": PROGRESS}) as fake:
        result = CliRunner().invoke(main, ["advise", *words, "--socket", str(fake.path)])
    return result, fake.requests


def test_what_is_asked_goes_out_and_is_told() -> None:
    result, requests = run("17", "--micro-batch", "32", "--pause", "--for", "2h", "--reason", "a peak")
    assert result.output.splitlines() == [
        "job 17: asked to pause and to take 32 samples at a time, for 2.0 h",
        "  it is at step 1200, 812.3 samples/s",
    ]
    asked = {"op": "advise", "job_id": "17", "seconds": 7200.0, "reason": "a peak"}
    assert requests == [{**asked, "micro_batch": 32, "action": "pause"}]


@pytest.mark.parametrize(
    ("word", "action", "text"),
    [
        ("--resume", "run", "asked to go on, for 10 min"),
        ("--checkpoint", "checkpoint", "asked to save itself and end, for 10 min"),
    ],
)
def test_each_action(word: str, action: str, text: str) -> None:
    result, requests = run("17", word)
    assert text in result.output
    assert (requests[0]["action"], requests[0]["micro_batch"], requests[0]["seconds"]) == (action, None, 600)


def test_everything_is_taken_back() -> None:
    result, requests = run("17", "--clear")
    assert result.output == "job 17: nothing is asked any more\n"
    assert requests == [{"op": "advise", "job_id": "17", "clear": True}]


def test_a_job_that_lacks_the_knob_is_told() -> None:
    lacking = {"step": 3, "samples_per_second": None, "checkpoints": False}
    result, _ = run("17", "--checkpoint", "--micro-batch", "8", reply={"ok": True, "progress": lacking})
    assert "cannot save itself" in result.output
    assert "micro-batch cannot be changed" in result.output
    result, _ = run("17", "--pause", reply={"ok": True, "progress": None})
    assert "does it use slurm_power.advice?" in result.output


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_asked() -> None:
    result, requests = run("1_7", "--pause", "--checkpoint", "--micro-batch", "0", "--for", "8d", "--clear")
    assert (result.exit_code, requests) == (2, [])
    for word in ("JOB: '1_7'", "give one of them", "--micro-batch: '0'", "--for: ", "--clear: "):
        assert word in result.output
    result, requests = run("17")
    assert (result.exit_code, requests) == (2, [])
    assert "say what is asked" in result.output
    for huge in ("99999999999999999999999", "1e3", "-1", "٣"):
        assert run("17", "--micro-batch", huge)[0].exit_code == 2


def test_a_refusal_is_shown() -> None:
    result, _ = run("17", "--pause", reply={"ok": False, "error": "job 17 is not yours"})
    assert (result.exit_code, "job 17 is not yours" in result.output) == (2, True)
    assert '"progress": {' in run("17", "--pause", "--json")[0].output
