"""Deeds of operators on the whole automation: everything given back at once, and a pause with an end."""

from datetime import datetime

from tests.loop.bed import Bed


def test_everything_is_given_back_once_or_until_a_pause_ends(bed: Bed) -> None:
    capped, held = bed.peak()
    said = bed.lab.run(["slurm-power", "release-all", "--reason", "visitors"]).stdout
    assert "1 cap" in said and "1 hold" in said
    bed.until(lambda: bed.entries("release", held), "the held job's release", 5)
    (back,) = [entry for entry in bed.entries("uncap", capped) if "visitors" in entry["reason"]]
    assert back["reason"] == "given back by operator:root: visitors"
    assert bed.entries("release", held)[-1]["reason"] == back["reason"]
    # The event still runs: the guard takes again what its limit needs.
    bed.until(lambda: _caps_after(bed, capped, back), "the cap's return", 30)
    bed.until(bed.capped, "the cap on the node", 10)
    (deed,) = bed.entries("release all")
    assert (deed["actor"], deed["details"]["kept_for_safety"]) == ("operator:root", 0)
    assert deed["details"]["counts"]["holds"] == 1

    bed.lab.run(["slurm-power", "control", "pause", "--for", "12s", "--reason", "a visit"])
    bed.until(bed.free, "the cap's end on the node", 5)
    until = datetime.fromisoformat(bed.glance()["paused_until"])
    # An update of powerctld in between resumes nothing.
    bed.lab.restart("powerctld")
    assert bed.glance()["mode"] == "off"
    assert abs((datetime.fromisoformat(bed.glance()["paused_until"]) - until).total_seconds()) < 1.0
    assert bed.free()
    bed.until(lambda: bed.glance()["mode"] == "control", "the end of the pause", 20)
    assert bed.glance()["paused_until"] is None
    (over,) = [one for one in bed.entries("control on") if one["actor"] == "controller"]
    assert datetime.fromisoformat(over["at"]) >= until
    bed.until(lambda: _caps_after(bed, capped, over), "a new cap", 30)


def _caps_after(bed: Bed, job: str, entry: dict[str, str]) -> list[dict[str, str]]:
    return [one for one in bed.entries("cap", job) if one["at"] > entry["at"]]
