"""A grid event with ramp and recovery on a live lab, over a restart of the controller, to its report."""

from typing import Any

from tests.loop.bed import TIGHT_WATTS, Bed

EVENT_SECONDS = 25
SLIDE_SECONDS = 5


def test_an_event_is_held_recovers_and_has_a_report_over_a_restart(bed: Bed) -> None:
    bed.plant("set_soc", soc_ratio=0.10)
    job = bed.submit()
    bed.run_full(job)
    before = [entry["sequence"] for entry in bed.ledger(3600)]
    event = bed.ask(
        "event",
        circuit="grid",
        limit_watts=TIGHT_WATTS,
        duration_seconds=EVENT_SECONDS,
        ramp_seconds=SLIDE_SECONDS,
        recover_seconds=SLIDE_SECONDS,
        reason="the grid is short",
    )
    assert event["starts_in_seconds"] == SLIDE_SECONDS

    def report() -> dict[str, Any]:
        found: dict[str, Any] = bed.ask("event_report", event_id=event["event_id"])["report"]
        return found

    bed.until(lambda: bed.truth()["grid_import_watts"] <= TIGHT_WATTS, "the level", 15)
    bed.until(lambda: report()["state"] == "running", "its start", 10)
    bed.lab.restart("powerctld")
    bed.until(lambda: report()["state"] == "recovering", "its end", EVENT_SECONDS)
    bed.until(lambda: not bed.glance()["events"], "the end of its recovery", 4 * SLIDE_SECONDS)
    bed.until(bed.free, "everything as before", 15)
    bed.until(lambda: report()["state"] == "over", "its last word", 5)
    found = report()
    assert found["result"]["coverage_ratio"] > 0.5
    assert found["result"]["lost_gpu_hours"] > 0.0
    assert [row["job_id"] for row in found["jobs"]] == [job]
    assert bed.ask("events")["events"][-1]["event_id"] == event["event_id"]
    told = [entry for entry in bed.ledger(3600) if entry["sequence"] > max(before)]
    kinds = [entry["kind"] for entry in told if entry["kind"].startswith("event")]
    assert kinds == ["event", "event begins", "event over", "event recovered"]
