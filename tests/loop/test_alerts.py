"""powerbridge beside powerctld and plant: a dead PDU is one alert with its end, a lost limit another."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.loop.bed import Bed

# Far above the limit of 32 kW, and nothing that any lever could lower: the limit cannot be held.
BASE_WATTS = 60_000
# Where the modules are, if that is not where the virtual environment has them.
TREE = {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
ALERTS = """
[alerts]
poll_seconds = 1
disk_free_ratio = 0.0
certificate_days = 0.0
[alerts.rule.dead_source]
for_seconds = 2
keep_seconds = 2
[alerts.rule.limit_at_risk]
for_seconds = 2
keep_seconds = 2
[alerts.rule.powerctld_silent]
for_seconds = 2
keep_seconds = 2
[alerts.hook.test]
command = ["{hook}"]
run_as_root = true
severity = "info"
"""


@contextmanager
def powerbridge(bed: Bed, folder: Path, site: str) -> Iterator[Path]:
    """Run it with a hook that keeps what it is told; yields the file."""
    told, hook, file = folder / "told", folder / "hook", folder / "site.toml"
    hook.write_text(f"#!/bin/sh\ncat >> {told}\n")
    hook.chmod(0o755)
    told.touch()
    file.write_text(site + ALERTS.format(hook=hook))
    words = [sys.executable, "-m", "slurm_power.cli.powerbridge", "--config", str(file)]
    with (folder / "log").open("wb") as log:
        bridge = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ.copy())
        try:
            yield told
            assert bridge.poll() is None, (folder / "log").read_text()
        finally:
            bridge.terminate()
            bridge.wait(20.0)


def news(told: Path, rule: str) -> list[dict[str, Any]]:
    """What the hook was told of a rule; on a busy machine nodes may be late, too, which is no matter here."""
    rows = [json.loads(line) for line in told.read_text().splitlines() if line.endswith("}")]
    return [row for row in rows if row["rule"] == rule and "node" not in row["cause"]]


def over(told: Path, rule: str) -> bool:
    """Whether the last that the hook was told of a rule is its end."""
    said = news(told, rule)
    return bool(said) and said[-1]["news"] == "over"


def firing(bed: Bed, rule: str) -> list[dict[str, Any]]:
    """What powerctld says of the same."""
    rows = bed.ask("alerts")["alerts"]
    return [row for row in rows if row["rule"] == rule and "node" not in row["cause"]]


def test_a_dead_pdu_is_one_alert_and_a_limit_that_nothing_holds_is_another(bed: Bed, tmp_path: Path) -> None:
    with powerbridge(bed, tmp_path, bed.site_toml) as told:
        bed.plant("fault", target="pdu.rack1", fault="silence", value=0)
        bed.until(lambda: news(told, "dead_source"), "an alert of the PDU", 40)
        bed.until(lambda: firing(bed, "dead_source"), "a word to powerctld", 10)
        (row,) = firing(bed, "dead_source")
        assert "bob may not see or change alerts" in bed.ask_as("bob", "alerts")["error"]
        assert "rack1" in row["summary"]
        assert row["id"] in [alert["id"] for alert in bed.ask("live")["alerts"]]
        bed.plant("clear_faults")
        bed.until(lambda: over(told, "dead_source"), "the end of the alert", 40)
        # What follows from it may have made it graver meanwhile.
        said = [one["news"] for one in news(told, "dead_source")]
        assert [word for word in said if word != "graver"] == ["firing", "over"]

        bed.plant("base_load", watts=BASE_WATTS)
        bed.until(lambda: news(told, "limit_at_risk"), "an alert of the limit", 40)
        (first, *_) = news(told, "limit_at_risk")
        assert first["severity"] == "page"
        assert first["cause"] == "grid"
        assert "above its limit" in first["summary"]
        assert bed.ask("live")["standing"]["headline"].startswith("AT RISK: grid is")
        bed.until(lambda: firing(bed, "limit_at_risk"), "a word to powerctld", 10)
        for user, sees_alerts in (("root", True), ("bob", False)):
            top = bed.lab.run(["slurm-power", "top", "--once"], user=user, environment=TREE).stdout
            assert top.startswith("AT RISK: grid is")
            assert ("PAGE grid is" in top) == sees_alerts
        bed.plant("base_load", watts=0)
        bed.until(lambda: over(told, "limit_at_risk"), "the end of that", 40)
        bed.until(lambda: not firing(bed, "limit_at_risk"), "a word to powerctld", 10)
        kinds = [(entry["kind"], entry["subject"].split(":")[1]) for entry in bed.entries("alert")]
        kinds += [(entry["kind"], entry["subject"].split(":")[1]) for entry in bed.entries("alert over")]
        assert {("alert", "limit_at_risk"), ("alert", "dead_source"), ("alert over", "dead_source")} <= set(
            kinds
        )
        assert not news(told, "powerctld_silent")

        bed.lab.stop("powerctld")
        bed.until(lambda: news(told, "powerctld_silent"), "an alert of powerctld itself", 20)
        bed.lab.start("powerctld")
        bed.until(lambda: over(told, "powerctld_silent"), "the end of that", 20)
        bed.until(
            lambda: bed.entries("alert over", subject="alert:powerctld_silent"), "both in the ledger", 10
        )
