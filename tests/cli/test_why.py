"""The three sentences of slurm-power why, for jobs that were touched and jobs that were not."""

import re
from typing import Any

import pytest

from slurm_power.cli.commands.site.why_words import three_sentences
from tests.cli.fake_powerctld import STATUS, entry

RUNNING: dict[str, Any] = {
    **STATUS["jobs"][0],
    "name": "train",
    "cap_watts": None,
    "slowdown_ratio": 0.0,
    "held_seconds": 0.0,
}
PENDING = {**RUNNING, "state": "pending", "gpu_watts": None, "pending_reason": "Resources"}
CAPPED_RECORD = {
    "name": "train",
    "flex": "flex2",
    "lowest_cap_watts": 420.0,
    "capped_seconds": 1800.0,
    "slowdown_seconds": 180.0,
    "capped_since": "2026-01-02T03:00:00+00:00",
    "capped_until": "2026-01-02T03:30:00+00:00",
    "saved_watt_seconds": 4.32e6,
    "peak_saved_watts": 2400.0,
}
CAP = entry(
    1,
    reason="grid must stay below 20.0 kW (economic limit, ev-1: utility call);"
    " flex2 allows up to 25% slowdown, expected 10%",
)
HOLD = entry(2, kind="hold", reason="would add 4.0 kW where 1.0 kW are free; flex2 allows to wait 900 s")


def said(job: dict[str, Any] | None, record: dict[str, Any], *entries: dict[str, Any]) -> list[str]:
    sentences = three_sentences("17", job, record, entries)
    assert len(sentences) == 3
    assert all(sentence.endswith(".") and "None" not in sentence for sentence in sentences)
    return sentences


def test_a_job_that_was_capped_and_has_ended() -> None:
    what, why, gain = said(None, CAPPED_RECORD, CAP)
    assert re.fullmatch(
        r"Job 17 \(train\) was capped from 01-0\d \d\d:\d\d:00 to 01-0\d \d\d:\d\d:00 \(for 30 min in all\)"
        r" to 420 W a GPU at the lowest, which made it about 10 % slower and cost it 3 min\.",
        what,
    )
    assert why == "Why: grid must stay below 20.0 kW (economic limit, ev-1: utility call)."
    assert gain == (
        "That took 1.200 kWh and up to 2.4 kW off the site; what it was promised"
        " (flex2: at most 25 % slower, and held at most 25 % of its time limit) was kept."
    )


def test_a_cap_that_the_user_asked_for_is_nothing_that_was_done_to_the_job() -> None:
    own = entry(3, kind="own cap", reason="its user asked for 450 W a GPU at most")
    job = {**RUNNING, "cap_watts": 450.0, "cap_is_own": True, "cap_reason": own["reason"]}
    what, *_ = said(job, {"name": "train", "flex": "flex2"}, own)
    assert what.endswith("nothing was done to it: no cap, no hold, no pause.")
    _, why, _ = said(job, CAPPED_RECORD, CAP, own)
    assert why == "Why: grid must stay below 20.0 kW (economic limit, ev-1: utility call)."


def test_a_job_that_is_capped_now() -> None:
    what, *_ = said({**RUNNING, "cap_watts": 420.0, "slowdown_ratio": 0.1}, CAPPED_RECORD, CAP)
    assert what.startswith("Job 17 (train) has been capped since 01-0")


def test_a_decoding_job_was_slowed_by_its_clock() -> None:
    what, *_ = said(RUNNING, {**CAPPED_RECORD, "lowest_cap_watts": 180.0, "lowest_lock_hertz": 1.4e9}, CAP)
    assert "was slowed by a clock lock of 1400 MHz from 01-0" in what
    assert "to 180 W a GPU at the lowest" in what


def test_the_latest_limit_is_named_and_no_raise() -> None:
    raised = entry(3, reason="there is room again: raised from 420 to 500 W a GPU")
    assert said(None, CAPPED_RECORD, CAP, raised)[1].startswith("Why: grid must stay below")


def test_the_limit_that_took_most_is_named_once_it_is_over() -> None:
    rack = {**CAP, "reason": "rack1 must stay below 20.0 kW (safety limit); flex2 allows up to 25% slowdown"}
    times = [f"2026-01-02T03:00:{second:02d}+00:00" for second in (0, 8, 9, 10)]
    moves = [
        {**CAP, "saved_watts": 585.0},
        {**CAP, "kind": "uncap", "reason": "there is room again: the cap is lifted"},
        {**rack, "saved_watts": 10.0},
        {**CAP, "kind": "uncap", "reason": "there is room again: the cap is lifted"},
    ]
    entries = [{**move, "at": at} for move, at in zip(moves, times, strict=True)]
    _, why, _ = said(None, CAPPED_RECORD, *entries)
    assert why == "Why: grid must stay below 20.0 kW (economic limit, ev-1: utility call)."
    _, why, _ = said({**RUNNING, "cap_watts": 610.0, "slowdown_ratio": 0.1}, CAPPED_RECORD, *entries)
    assert why == "Why: rack1 must stay below 20.0 kW (safety limit)."


def test_a_job_that_is_held() -> None:
    held = {**PENDING, "held_seconds": 600.0, "hold_ends_in_seconds": 50.0}
    record = {"flex": "flex2", "delayed_watt_seconds": 2.4e6, "peak_delayed_watts": 4000.0}
    what, why, gain = said(held, record, HOLD)
    assert what == (
        "Job 17 (train) is kept waiting by us, for 10 min so far and another 50 s unless renewed."
    )
    assert why == "Why: its start would add 4.0 kW where 1.0 kW are free."
    assert gain.startswith("That put 0.667 kWh and up to 4.0 kW off to later; ")


def test_a_job_that_was_held_and_then_capped() -> None:
    record = {**CAPPED_RECORD, "held_seconds": 600.0, "delayed_watt_seconds": 1.0, "peak_delayed_watts": 1.0}
    what, why, _ = said(RUNNING, record, HOLD, CAP)
    assert what.startswith(
        "Job 17 (train) was kept waiting by us for 10 min before it started and was capped from"
    )
    assert why.startswith("Why: its start would add 4.0 kW where 1.0 kW are free, and grid must stay")


def test_a_breach_is_not_hidden() -> None:
    *_, gain = said(None, {**CAPPED_RECORD, "breached_seconds": 40.0}, CAP)
    assert gain.endswith("was exceeded for 40 s, for safety only.")


@pytest.mark.parametrize(
    ("job", "record", "what", "why"),
    [
        (RUNNING, {}, "is running, and nothing was done to it", "no limit needed its watts"),
        ({**RUNNING, "flex": "flex0"}, {}, "is running", "it promised no flexibility"),
        (PENDING, {}, "is pending, and nothing was done", "which says Resources, not for power"),
        (None, {"flex": "flex1"}, "is no longer in the queue", "no limit needed its watts"),
        (None, {}, "Job 17 is no longer in the queue", "no limit needed its watts"),
    ],
)
def test_a_job_that_was_not_touched(
    job: dict[str, Any] | None, record: dict[str, Any], what: str, why: str
) -> None:
    found = said(job, record)
    assert what in found[0]
    assert why in found[1]
    assert found[2].startswith("So it gained the site nothing and cost the job nothing")


def test_in_shadow_mode_it_says_what_would_have_been() -> None:
    what, why, gain = said(RUNNING, {"flex": "flex2"}, {**CAP, "kind": "would cap"})
    assert what.endswith("powerctld only watches, and would have capped it.")
    assert why.startswith("Why: grid must stay below 20.0 kW")
    assert gain == "So it gained the site nothing; 1.2 kW could have been saved."


def test_a_record_of_an_older_controller_has_no_sums() -> None:
    capped = {**RUNNING, "cap_watts": 520.0, "slowdown_ratio": 0.06, "cap_reason": "grid is over its limit"}
    what, why, gain = said(capped, {"flex": "flex2"})
    assert what == "Job 17 (train) is capped to 520 W a GPU, which makes it about 6 % slower."
    assert why == "Why: grid is over its limit."
    assert gain.startswith("How much that took off the site was not recorded; what it was promised")


def test_a_ledger_that_was_cut_is_said() -> None:
    assert said(None, CAPPED_RECORD)[1] == "Why: the entries that say so are no longer in the ledger."


def test_a_job_that_is_paused_and_one_that_was() -> None:
    pause = entry(
        4,
        kind="pause",
        reason="grid must stay below 9.0 kW (economic limit) and caps are at their floors;"
        " flex3 allows a pause of 540 s now",
    )
    record = {
        "name": "train",
        "flex": "flex3",
        "paused_seconds": 300.0,
        "saved_watt_seconds": 1.2e6,
        "peak_saved_watts": 4000.0,
    }
    now = {**RUNNING, "state": "suspended", "flex": "flex3", "paused_seconds": 300.0, "pause_reason": "tight"}
    what, why, gain = said(now, record, pause)
    assert what == "Job 17 (train) is paused by us, for 5 min so far, and keeps its GPUs."
    assert why == "Why: grid must stay below 9.0 kW (economic limit) and caps are at their floors."
    assert gain.startswith("That took 0.333 kWh and up to 4.0 kW off the site; ")
    what, *_ = said(None, record, pause)
    assert what == "Job 17 (train) was paused by us for 5 min in all."


def test_a_job_that_was_sent_elsewhere_and_one_that_came_back() -> None:
    reason = "would add 6.4 kW where rack1 has no room for it: it starts behind rack2, which has"
    sent = entry(3, kind="relocate", reason=reason)
    what, why, _ = said({**PENDING, "held_seconds": 12.0, "hold_ends_in_seconds": None}, {}, HOLD, sent)
    assert what.endswith("in all and was sent by us to start behind a circuit with room.")
    assert why.endswith(f"and its start {reason}.")
    back = entry(4, kind="give nodes back", reason="it has not started elsewhere within 600 s")
    what, *_ = said({**PENDING, "held_seconds": 12.0, "hold_ends_in_seconds": None}, {}, HOLD, sent, back)
    assert what.endswith("was sent by us to another circuit, and may start on any of its nodes again.")


def test_a_job_that_goes_on_with_another_model_tier() -> None:
    reason = "grid must stay below 13.5 kW: its user consents to digits/int8, on 4 instead of 8 GPUs"
    details = {"tier": "digits/int8", "gpu_count": 4, "running": True}
    begun = entry(3, kind="change tier", reason=reason, details=details)
    what, why, _ = said(RUNNING, {}, begun)
    assert what == "Job 17 (train) is on its way to the model tier digits/int8 on 4 GPUs, asked by us."
    assert why == f"Why: {reason}."
    moved = entry(4, kind="tier started", reason="runs digits/int8")
    assert "was moved by us to the model tier digits/int8 on 4 GPUs." in said(RUNNING, {}, begun, moved)[0]
    kept = entry(4, kind="tier given up", reason="it has not saved itself in time")
    assert said(RUNNING, {}, begun, kept)[0].endswith("which was given up, so it keeps its own.")
    waits = entry(3, kind="change tier", reason=reason, details={**details, "running": False})
    assert said(PENDING, {}, waits)[0].endswith("on 4 GPUs by us while it waited.")


def test_a_start_that_waited_in_its_prolog() -> None:
    begun = entry(
        3,
        kind="prolog wait",
        reason="its start waits in the prolog for the site's ramp, 60 s at most: its node is yielded",
    )
    over = entry(4, kind="prolog go", reason="it goes", details={"waited_seconds": 13.2})
    what, why, _ = said(RUNNING, {"name": "train", "flex": "flex2"}, begun, over)
    assert what == "Job 17 (train) waited 13 s in its prolog for the site's ramp."
    assert "its node is yielded" in why
    let_go = entry(
        4, kind="prolog go", reason="its start waits in the prolog no more; it has gone", details={}
    )
    assert "nothing was done to it" in said(RUNNING, {"name": "train", "flex": "flex2"}, begun, let_go)[0]
