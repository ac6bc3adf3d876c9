"""OpenADR end to end: an event at a VTN, the import at the meter below its target, a report back."""

from collections.abc import Iterator

import pytest

from containers.vtn.stage import Utilities
from tests.loop.bed import TIGHT_WATTS, Bed

EVENT_SECONDS = 8


@pytest.fixture
def utility(bed: Bed) -> Iterator[Utilities]:
    made = Utilities(bed.lab)
    yield made
    made.close()


def test_events_of_both_protocols_reach_the_meter_and_reports_go_back(bed: Bed, utility: Utilities) -> None:
    bed.plant("set_soc", soc_ratio=0.10)
    job = bed.submit()
    bed.run_full(job)
    bed.until(
        lambda: [row["quality"] for row in utility.states(bed.ask("sources")).values()] == ["good", "good"],
        "both signals",
        15,
    )
    before_watts = bed.truth()["grid_import_watts"]
    assert before_watts > TIGHT_WATTS
    event = utility.announce_newer(TIGHT_WATTS, EVENT_SECONDS)
    bed.until(lambda: bed.truth()["grid_import_watts"] <= TIGHT_WATTS, "the level of OpenADR 3", 10)
    bed.until(lambda: utility.newer.reports(event), "a report of OpenADR 3", EVENT_SECONDS + 15)
    (report,) = utility.newer.reports(event)
    (value, quality) = report["resources"][0]["intervals"][0]["payloads"]
    assert quality["values"] == ["OK"]
    # The mean of an interval that has the fall in it.
    assert 5.0 < value["values"][0] < before_watts / 1000.0
    assert not utility.newer.invalid
    bed.until(lambda: not bed.glance()["events"], "the end of its recovery", 20)
    utility.older.values.clear()
    utility.announce_older(TIGHT_WATTS, EVENT_SECONDS)
    bed.until(lambda: bed.truth()["grid_import_watts"] <= TIGHT_WATTS, "the level of OpenADR 2.0b", 10)
    bed.until(lambda: utility.older.answers == [("e1", "optIn")], "its answer", 10)
    bed.until(
        lambda: any(1_000.0 < watts <= TIGHT_WATTS for _, watts in utility.older.values), "telemetry", 15
    )
    told = [entry for entry in bed.ledger(120) if entry["kind"] == "event"]
    assert [entry["actor"] for entry in told[-2:]] == ["signal:newer", "signal:older"]
    utility.stop()


@pytest.mark.slow
def test_killing_all_three_in_turn_neither_loses_nor_doubles_an_event(bed: Bed, utility: Utilities) -> None:
    bed.until(
        lambda: [row["quality"] for row in utility.states(bed.ask("sources")).values()] == ["good", "good"],
        "both signals",
        15,
    )
    before = bed.ledger(60)[-1]["sequence"]

    def told() -> list[str]:
        rows = [row for row in bed.ledger(180) if row["sequence"] > before]
        return [row["kind"] for row in rows if row["actor"] == "signal:newer"]

    def stands() -> bool:
        return len(bed.glance()["events"]) == 1

    event = utility.announce_newer(TIGHT_WATTS, 120)
    bed.until(stands, "the event", 10)
    utility.bridge.kill()
    utility.bridge.wait()
    utility.bridge = utility.start()
    bed.lab.kill("powerctld")
    bed.lab.start("powerctld")
    utility.loop.run(utility.newer.stop())
    bed.until(lambda: utility.states(bed.ask("sources"))["signal:newer"]["quality"] != "good", "a doubt", 30)
    assert stands()
    utility.loop.run(utility.newer.start())
    bed.until(
        lambda: utility.states(bed.ask("sources"))["signal:newer"]["quality"] == "good", "its answer", 30
    )
    bed.until(stands, "the event after all of this", 10)
    assert told() == ["event"]
    utility.newer.delete("events", event)
    bed.until(lambda: told() == ["event", "event cancelled"], "its cancellation", 15)
    bed.until(lambda: not bed.glance()["events"], "the end of its recovery", 60)
    utility.stop()
