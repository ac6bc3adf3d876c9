"""The whole plan is made every few seconds, and at once when something has happened."""

from dataclasses import replace

import pytest

from slurm_power.controller.planning.planner_beat import PlannerBeat
from slurm_power.model.reading import Quality
from slurm_power.model.snapshot import HoldLease, LimitEvent, Snapshot
from tests.plan.situations import ess_reading, pending, situation

QUIET = situation(jobs=(pending("7", 8),))
EVENT = LimitEvent(
    event_id="ev-1",
    circuit="grid",
    limit_watts=9000.0,
    starts_in_seconds=60.0,
    ends_in_seconds=900.0,
    reason="test",
)
LATER = replace(QUIET, events=(EVENT,))


def test_a_quiet_site_is_planned_on_the_beat() -> None:
    beat = PlannerBeat(5.0)
    seconds = [second for second in range(13) if beat.due(replace(QUIET), float(second))]
    assert seconds == [0, 5, 10]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (QUIET, replace(QUIET, jobs=(pending("7", 8),))),
        (QUIET, LATER),
        (LATER, replace(QUIET, events=(replace(EVENT, starts_in_seconds=-1.0),))),
        (LATER, QUIET),
        (QUIET, replace(QUIET, ess={"battery": ess_reading(quality=Quality.INVALID)})),
        (QUIET, situation(jobs=QUIET.jobs, import_age_seconds=30.0)),
        (replace(QUIET, holds={"7": HoldLease(job_id="7", held_seconds=9.0, ends_in_seconds=9.0)}), QUIET),
    ],
    ids=["jobs", "event comes", "event starts", "event ends", "battery lost", "meter late", "hold over"],
)
def test_what_has_changed_is_planned_at_once(before: Snapshot, after: Snapshot) -> None:
    beat = PlannerBeat(5.0)
    assert beat.due(before, 0.0)
    assert beat.due(after, 1.0)
    assert not beat.due(replace(after), 2.0)
