"""Holds: leases like everything else, and never against the user's own word."""

import time
from datetime import UTC, datetime, timedelta

from tests.cluster.lab import await_job
from tests.loop.bed import TIGHT_WATTS, Bed


def begins(bed: Bed, job: str, field: str = "EligibleTime") -> datetime:
    """When Slurm may start a job (its StartTime is a forecast until it has), in the lab's own time zone."""
    return datetime.fromisoformat(bed.lab.job(job)[field]).astimezone(UTC)


def test_a_held_job_starts_by_itself_when_powerctld_is_gone(bed: Bed) -> None:
    bed.configure(hold_lease_seconds=10)
    _capped, held = bed.peak()
    assert '"by":"slurm-power"' in bed.lab.job(held)["AdminComment"]
    bed.lab.kill("powerctld")
    until = begins(bed, held)
    assert until <= datetime.now(UTC) + timedelta(seconds=11)
    # Its node becomes free at once, so only the hold keeps it.
    bed.lab.run(["scancel", "--user=alice"])
    await_job(bed.lab, held, "RUNNING", seconds=25)
    assert begins(bed, held, "StartTime") >= until - timedelta(seconds=1)


def test_what_users_asked_for_stays(bed: Bed) -> None:
    blocking = bed.submit()
    bed.run_full(blocking)
    later = bed.submit("--begin=now+3600", user="bob")
    held_by_user = bed.submit("--hold", user="bob")
    comments = {job: bed.lab.job(job)["AdminComment"] for job in (later, held_by_user)}
    begin = begins(bed, later)
    bed.plant("set_soc", soc_ratio=0.10)
    bed.announce(TIGHT_WATTS, 300)
    ours = bed.submit(user="bob")
    bed.until(lambda: bed.power_job(ours).get("hold_ends_in_seconds"), "a hold", 10)
    assert abs(begins(bed, later) - begin) < timedelta(seconds=1)
    assert {job: bed.lab.job(job)["AdminComment"] for job in comments} == comments
    assert not bed.power_job(later)["hold_ends_in_seconds"]
    assert not bed.power_job(held_by_user)["hold_ends_in_seconds"]
    assert bed.lab.job(held_by_user)["Reason"] == "JobHeldUser"

    # The user holds a job that we hold: from then on it is the user's alone.
    bed.lab.run(["scontrol", "hold", ours], user="bob")
    for event in bed.glance()["events"]:
        bed.lab.run(["slurm-power", "cancel-event", event["event_id"]])
    bed.until(lambda: not bed.glance()["events"], "the end of the event", 5)
    bed.lab.run(["scancel", blocking])
    await_job(bed.lab, blocking, "CANCELLED")
    bed.until(lambda: bed.lab.idle_nodes() == 4, "free nodes", 10)
    fields = bed.lab.job(ours)
    assert fields["JobState"] == "PENDING"
    assert fields["Priority"] == "0"
    assert bed.lab.job(held_by_user)["Priority"] == "0"


def test_an_announced_end_releases_the_job(bed: Bed) -> None:
    _capped, held = bed.peak()
    bed.lab.run(["scancel", "--user=alice"])
    for event in bed.glance()["events"]:
        bed.lab.run(["slurm-power", "cancel-event", event["event_id"]])
    began = time.monotonic()
    await_job(bed.lab, held, "RUNNING", seconds=15)
    assert time.monotonic() - began < 15.0
    kinds = [entry["kind"] for entry in bed.ledger(60, job_id=held)]
    assert [kind for kind in kinds if kind in ("hold", "release")][:2] == ["hold", "release"]
    assert "hold" not in bed.lab.job(held)["AdminComment"]
