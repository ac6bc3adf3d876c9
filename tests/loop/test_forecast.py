"""The forecast on a real cluster: a massive start is seen before it comes, a worker that stops is missed."""

from typing import Any

from tests.loop.bed import Bed

# Four idle nodes with all that belongs to them draw 8 kW.
REST_WATTS = 9_000.0


def near(bed: Bed) -> Any:
    return bed.ask("forecast")["forecasts"]["near"]


def coming(bed: Bed, job: str) -> Any:
    return [start for start in bed.ask("forecast")["starts"] if start["job_id"] == job]


def test_an_announced_massive_job_is_in_the_forecast_before_it_starts(bed: Bed) -> None:
    bed.until(lambda: near(bed) and near(bed)["source"] != "persistence", "a forecast by the worker", 30)
    # What the test before has ended may draw for some seconds more, and its battery recharge.
    bed.plant("set_soc", soc_ratio=0.9)
    bed.until(lambda: 0.0 < bed.grid_watts() < REST_WATTS, "a site at rest", 20)
    before = bed.grid_watts()
    job = bed.submit("--begin=now+25")
    # A job of the test before may still be listed.
    bed.until(lambda: coming(bed, job), "the coming start", 10)
    (start,) = coming(bed, job)
    assert start["massive"] and start["known_from"] == "its begin time"
    expected = start["step_watts"]["grid"]

    def seen() -> bool:
        # How long it will run is another matter: the jobs of the tests before were short.
        return bool(max(near(bed)["p50_watts"][:10]) - before > 0.7 * expected)

    bed.until(seen, "the step in the forecast", 12)
    assert bed.power_job(job)["state"] == "pending", "it has not started yet"
    assert bed.grid_watts() - before < 0.2 * expected
    # Others see what comes, and not whose it is.
    others = bed.ask_as("bob", "forecast")["starts"]
    assert any(other["step_watts"] == start["step_watts"] for other in others)
    assert not any(other["job_id"] or other["user"] or other["name"] for other in others)
    bed.until(lambda: bed.grid_watts() - before > 0.7 * expected, "the start itself", 40)
    assert bed.ask("forecast")["label"] == "massive start"
    bed.until(lambda: bed.entries("massive start", job), "what came of it", 30)
    (said,) = bed.entries("massive start", job)
    assert abs(said["details"]["came_watts"] - expected) < 0.3 * expected
    assert said["details"]["announced_seconds"] > 10.0


def test_a_worker_that_stops_is_missed_and_named_and_the_next_one_is_heard(bed: Bed) -> None:
    bed.until(lambda: bed.ask("forecast")["worker"]["state"] == "running", "a forecast by the worker", 30)
    worker = bed.ask("forecast")["worker"]["process_id"]
    bed.lab.run(["kill", "-STOP", str(worker)])
    bed.until(lambda: near(bed)["source"] == "persistence", "the naive forecast", 40)
    assert near(bed)["reason"] == "fall-back: the forecast worker is late"
    assert bed.settled() and bed.glance()["mode"] == "control", "control goes on"
    bed.until(lambda: bed.entries("fault", subject="forecast"), "the fault in the ledger", 5)
    assert bed.entries("fault", subject="forecast")[-1]["reason"].endswith("meanwhile persistence speaks")
    bed.lab.run(["kill", "-KILL", str(worker)])
    bed.until(lambda: bed.ask("forecast")["worker"]["state"] == "running", "the next worker", 30)
    assert bed.ask("forecast")["worker"]["process_id"] != worker
    bed.until(lambda: bed.entries("fault over", subject="forecast"), "the end of the fault", 5)
    assert near(bed)["source"] != "persistence" or not near(bed)["reason"].startswith("fall-back")
