"""What nodes say of a job's wishes, told by its prolog before the job list shows them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from slurm_power.model.job import Flex, Workload
from slurm_power.telemetry.node_jobs import NodeJob, merged, unlisted, words_of
from tests.plan.situations import running

SAID = {
    "user": "alice",
    "gpus": ["c1-0"],
    "workload": "training",
    "flex": "flex2",
    "max_hold_seconds": 1800,
    "finish_by": 1_800_000_000,
    "own_cap_watts": 400,
    "tier": "digits/full",
    "tiers_ok": ["int8", "small"],
    "min_quality": 0.95,
}
MOMENT = datetime.fromtimestamp(1_800_000_000, UTC)


def known(*messages: dict[str, Any]) -> NodeJob:
    nodes = {f"c{number}": words_of(message) for number, message in enumerate(messages, start=1)}
    return NodeJob(since_seconds=0.0, nodes=nodes)


def test_a_job_that_only_its_node_knows_has_its_wishes() -> None:
    job = merged(unlisted("17", known(SAID), True), known(SAID), True)
    assert (job.workload, job.flex) == (Workload.TRAINING, Flex.FLEX2)
    assert (job.max_hold_seconds, job.finish_by, job.own_cap_watts) == (1800.0, MOMENT, 400.0)


def test_no_hold_at_all_is_a_wish_as_well() -> None:
    job = merged(
        replace(running("17", ("c1",)), max_hold_seconds=60.0), known({"max_hold_seconds": 0}), False
    )
    assert job.max_hold_seconds == 0.0


def test_what_nodes_do_not_say_is_left_as_the_list_has_it() -> None:
    listed = replace(
        running("17", ("c1", "c2")), max_hold_seconds=60.0, finish_by=MOMENT, own_cap_watts=300.0
    )
    job = merged(listed, known({"user": "alice", "gpus": []}, {}), False)
    assert (job.max_hold_seconds, job.finish_by, job.own_cap_watts) == (60.0, MOMENT, 300.0)
    job = merged(listed, known({}, SAID), False)
    assert (job.max_hold_seconds, job.own_cap_watts) == (1800.0, 400.0)


def test_the_tier_is_what_the_job_was_told_else_what_was_submitted() -> None:
    listed = replace(running("17", ("c1", "c2")), tier="digits/full", tiers_ok=("int8",), min_quality=0.5)
    job = merged(listed, known({}, {}), False)
    assert (job.tier, job.tiers_ok, job.min_quality) == ("digits/full", ("int8",), 0.5)
    job = merged(listed, known({}, SAID), False)
    assert (job.tier, job.tiers_ok, job.min_quality) == ("digits/full", ("int8", "small"), 0.95)
    job = merged(listed, known(SAID, {**SAID, "told_tier": "digits/int8", "restart_count": 2}), False)
    assert job.tier == "digits/int8"
    assert merged(listed, known({**SAID, "tiers_ok": []}), False).tiers_ok == ()
    assert words_of({**SAID, "told_tier": "nonsense"}).told_tier == ""
    assert words_of({"restart_count": 2}).restart_count == 2


@pytest.mark.parametrize("key", ["max_hold_seconds", "finish_by", "own_cap_watts", "min_quality"])
@pytest.mark.parametrize("wrong", [-1e300, "400", True, 1e300, float("nan"), float("inf"), [], {}])
def test_nonsense_of_a_node_is_no_wish(key: str, wrong: object) -> None:
    words = words_of({**SAID, key: wrong})
    assert getattr(words, key) is None
    assert words.flex is Flex.FLEX2
