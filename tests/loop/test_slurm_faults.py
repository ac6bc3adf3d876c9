"""Telling cells of docs/faults.md: a daemon breaks while a job is submitted, starts, runs or ends."""

import pytest

from containers.bench.fault_ground import HOLD_LEASE_SECONDS, NO_FAULT, Fault, Ground
from containers.bench.fault_moments import MOMENTS, Outcome, judge, trial
from tests.loop.bed import Bed


@pytest.mark.parametrize(
    ("moment", "fault"),
    [
        ("submit", Fault("powerctld", hung=True)),
        ("start", Fault("powerd", hung=True)),
        ("end", Fault("powerd")),
        ("end", Fault("munged")),
        ("run", Fault("slurmctld")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_job_and_node_come_through(bed: Bed, moment: str, fault: Fault) -> None:
    outcome = trial(Ground(bed.lab, ours=True), MOMENTS[moment], fault)
    assert outcome.well, outcome.text


def test_a_held_job_outlives_us(bed: Bed) -> None:
    bed.configure(hold_lease_seconds=HOLD_LEASE_SECONDS)
    bed.plant("set_soc", soc_ratio=0.10)
    ground = Ground(bed.lab, ours=True)
    ground.tidy()
    outcome = trial(ground, MOMENTS["held by us"], Fault("powerctld"))
    assert outcome.well, outcome.text


def test_a_lost_job_is_told(bed: Bed) -> None:
    """The judge itself: a job that Slurm forgets, and a node that is drained, are not well."""
    ground = Ground(bed.lab, ours=True)

    def lose(own: Ground, _fault: Fault) -> Outcome:
        job = own.submit("-wc1")
        own.slurm("scontrol", "update", "nodename=c2", "state=drain", "reason=trial")
        own.slurm("scancel", job.number)
        return judge(own, job, idle_seconds=1.0)

    outcome = trial(ground, lose, NO_FAULT)
    assert not outcome.well
    assert "CANCELLED" in outcome.text
    assert "c2 drained: trial" in outcome.text
