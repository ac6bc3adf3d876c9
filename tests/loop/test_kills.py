"""SIGKILL for each daemon at the peak: levers end by themselves, jobs go on, a restart takes over."""

import os
import signal
import time

from tests.cluster.lab import await_job
from tests.loop.bed import Bed

# Leases of the lab's site.toml, and what may come on top of them.
CAP_LEASE_SECONDS = 10.0
CAP_GRACE_SECONDS = 2.0
ESS_LEASE_SECONDS = 10.0
ESS_GRACE_SECONDS = 1.0
WATCHDOG_SECONDS = 2.0
# A job is taken to be starting for so long (start_expected_seconds), and caps that stood so long stand.
START_SECONDS = 20.0
STEADY_SECONDS = 3.0


def runs(bed: Bed, job: str) -> bool:
    return bed.lab.job(job)["JobState"] == "RUNNING"


def settled(bed: Bed) -> None:
    """Wait until caps stand: a job that has just started counts for more than it draws."""
    seen: list[tuple[float, list[float]]] = []

    def stand() -> bool:
        seen.append((time.monotonic(), bed.caps("c1")))
        long_ago = [caps for at, caps in seen if at < seen[-1][0] - START_SECONDS]
        recent = [caps for at, caps in seen if at >= seen[-1][0] - STEADY_SECONDS]
        return bool(long_ago) and all(caps == recent[-1] for caps in recent)

    bed.until(stand, "caps that stand", 60)


def test_powerctld(bed: Bed) -> None:
    capped, held = bed.peak()
    begin = bed.lab.job(held)["EligibleTime"]
    killed_at = time.monotonic()
    bed.lab.kill("powerctld")
    left: dict[str, float] = {}

    def all_over() -> bool:
        passed = time.monotonic() - killed_at
        if bed.free():
            left.setdefault("caps", passed)
        if not bed.truth()["ess"]["enabled"]:
            left.setdefault("battery", passed)
        return len(left) == 2

    bed.until(all_over, "the end of caps and setpoint", 20)
    assert left["caps"] <= CAP_LEASE_SECONDS + CAP_GRACE_SECONDS
    assert left["battery"] <= ESS_LEASE_SECONDS + ESS_GRACE_SECONDS
    assert runs(bed, capped)
    assert bed.lab.job(held)["JobState"] == "PENDING"

    bed.lab.start("powerctld")
    bed.until(bed.capped, "caps again, the event still lasts", 10)
    bed.until(lambda: bed.power_job(held).get("hold_ends_in_seconds"), "the hold", 10)
    entries = bed.ledger(120, job_id=held)
    assert [entry["kind"] for entry in entries].count("hold") == 1
    assert bed.lab.job(held)["EligibleTime"] >= begin
    assert any("taking over" in entry["reason"] for entry in bed.ledger(60))
    assert runs(bed, capped)


def test_powerctld_that_is_back_at_once_adopts_its_leases(bed: Bed) -> None:
    capped, held = bed.peak()
    settled(bed)
    caps = bed.caps("c1")
    bed.until(lambda: len(bed.glance()["leases"]) == 8, "all leases reported", 5)
    leases = {lease["lease_id"] for lease in bed.glance()["leases"]}
    bed.lab.kill("powerctld")
    bed.lab.start("powerctld")

    def adopted() -> bool:
        # From its first cycle on: a battery let go for half a second breaks the limit.
        assert bed.truth()["ess"]["enabled"]
        return len(bed.glance()["leases"]) == 8

    bed.until(adopted, "its leases", 5)
    # Longer than any lease of before: what is still there has been renewed.
    ends = time.monotonic() + CAP_LEASE_SECONDS + 1.0

    def renewed() -> bool:
        assert bed.capped()
        assert bed.truth()["ess"]["enabled"]
        return time.monotonic() > ends

    bed.until(renewed, "renewals", 15)
    assert {lease["lease_id"] for lease in bed.glance()["leases"]} == leases
    assert max(bed.caps("c1")) <= max(caps) + 100.0
    kinds = [entry["kind"] for entry in bed.ledger(60, job_id=held)]
    assert kinds.count("hold") == 1
    assert runs(bed, capped)


def test_powerd(bed: Bed) -> None:
    capped, _held = bed.peak()
    bed.lab.kill("powerd.c1")
    assert bed.until(bed.free, "the watchdog's work", 5) <= WATCHDOG_SECONDS
    bed.until(lambda: "node lost" in {entry["kind"] for entry in bed.ledger(30)}, "the note", 5)
    assert runs(bed, capped)
    bed.lab.start("powerd.c1")
    bed.until(bed.capped, "caps again", 10)
    row = bed.until(lambda: bed.power_job(capped).get("cap_watts"), "the cap in the status", 5)
    assert row < 5.0


def test_powerd_and_its_watchdog(bed: Bed) -> None:
    capped, _held = bed.peak()
    processes = bed.process_ids("c1")
    assert len(processes) == 3  # keeper, front, watchdog
    # The watchdog first would be started again by powerd.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            os.kill(process, number)
    bed.until(lambda: not bed.lab.is_running("powerd.c1"), "their end", 5)
    # Nobody is left to restore: without the event the restart itself has to.
    for event in bed.glance()["events"]:
        bed.lab.run(["slurm-power", "cancel-event", event["event_id"]])
    assert bed.capped()
    bed.lab.start("powerd.c1")
    bed.until(bed.free, "the restart's work", 10)
    assert runs(bed, capped)


def test_slurmctld(bed: Bed) -> None:
    capped, held = bed.peak()
    await_saved(bed, capped)
    bed.lab.kill("slurmctld")
    bed.until(lambda: ("fault", "scheduler") in told(bed), "the fault", 30)
    assert bed.capped()
    assert bed.truth()["ess"]["enabled"]
    bed.lab.start("slurmctld")
    bed.until(lambda: ("fault over", "scheduler") in told(bed), "the end of the fault", 30)
    assert runs(bed, capped)
    assert bed.lab.job(held)["JobState"] == "PENDING"
    assert bed.capped()


def await_saved(bed: Bed, job: str) -> None:
    """Wait until Slurm has written its jobs down; killed before, it loses them all by itself."""
    state = bed.run / "state" / "slurmctld" / "job_state"
    asked_at = time.time()
    bed.lab.run(["scontrol", "update", f"job={job}", "comment=noted"])
    bed.until(lambda: state.exists() and state.stat().st_mtime > asked_at, "Slurm's own state", 15)


def told(bed: Bed) -> set[tuple[str, str]]:
    return {(entry["kind"], entry["subject"]) for entry in bed.ledger(60)}


def test_slurmd(bed: Bed) -> None:
    capped, held = bed.peak()
    caps = bed.caps("c1")
    bed.until(lambda: len(bed.glance()["leases"]) == 8, "all leases reported", 5)
    leases = {lease["lease_id"] for lease in bed.glance()["leases"]}
    bed.lab.kill("slurmd.c1")
    bed.lab.start("slurmd.c1")
    assert runs(bed, capped)
    assert bed.capped()
    assert {lease["lease_id"] for lease in bed.glance()["leases"]} == leases
    assert max(bed.caps("c1")) <= max(caps) + 100.0
    bed.lab.run(["scancel", capped])
    await_job(bed.lab, capped, "CANCELLED")
    bed.until(bed.free, "the epilog's work", 10)
    assert bed.lab.job(held)["JobState"] == "PENDING"


def test_plant(bed: Bed) -> None:
    running = bed.submit()
    bed.run_full(running)
    bed.lab.kill("plant")
    bed.until(lambda: bed.glance()["circuits"][0]["quality"] == "invalid", "a stale meter", 10)
    assert bed.glance()["circuits"][0]["watts"] is None
    # 32 kW would have had room for it: unknown counts as full.
    waiting = bed.submit(user="bob")
    bed.until(lambda: bed.power_job(waiting).get("hold_ends_in_seconds"), "a hold", 10)
    assert runs(bed, running)
    bed.lab.start("plant")
    bed.until(lambda: bed.glance()["circuits"][0]["quality"] == "good", "the meter", 10)
    bed.until(lambda: not bed.power_job(waiting)["hold_ends_in_seconds"], "the end of the hold", 15)
    assert bed.lab.is_running("powerctld")
    assert runs(bed, running)
