"""Reports from the state directory of a powerctld that runs: read as it is, not disturbed."""

import json
from subprocess import CompletedProcess

from slurm_power import clock
from slurm_power.config import load_site
from slurm_power.controller.planning.month_terms import site_terms
from tests.loop.bed import Bed

# Demand by minutes: what was metered in the last one is known at once.
TARIFF = """
name = "minutes"
demand_interval_minutes = 1
[[season]]
name = "all"
from = "01-01"
to = "12-31"
[[season.period]]
price_per_kwh = 0.2
[[demand]]
name = "minute"
price_per_kw = 5.0
"""


def test_the_running_month_and_the_proof(bed: Bed) -> None:
    site = load_site(bed.site_file)
    state = site.controller.state_directory
    tariff = bed.run / "minutes.toml"
    tariff.write_text(TARIFF)
    assert site_terms(site, tariff).step_seconds == 60.0

    def report(name: str, *words: str) -> CompletedProcess[str]:
        return bed.lab.run(
            ["slurm-power", "report", name, *words, "--state", str(state), "--json"], check=False
        )

    month = f"{clock.now().astimezone(site.zone):%Y-%m}"
    words = (month, "--site", str(bed.site_file), "--tariff", str(tariff))

    # Until then nothing is known of the month; nothing else may be wrong with the command.
    def known() -> bool:
        done = report("month", *words)
        assert done.returncode == 0 or "nothing was metered" in done.stderr, done.stderr
        return done.returncode == 0

    bed.until(known, "a whole minute of meter data", 100)
    told = json.loads(report("month", *words).stdout)
    rows = {
        block["table"]: block
        for section in told["sections"]
        for block in section["blocks"]
        if "table" in block
    }
    peak = max(row[3] for row in rows["days"]["rows"] if row[3] is not None)
    assert 1.0 < peak < 60.0
    demand = [row for row in rows["bill"]["rows"] if row[0] == "demand"]
    assert demand[0][5] == 5.0 * demand[0][2]
    assert [row[0] for row in rows["batteries"]["rows"]] == list(site.site.ess)
    assert all(row[5] is not None for row in rows["batteries"]["rows"])  # its health
    proof = json.loads(report("proof").stdout)
    again = json.loads(report("proof", "--since-hash", proof["last_hash"]).stdout)
    assert proof["whole"] and again["whole"]
    assert again["known_at_sequence"] == proof["entries"] <= again["entries"]
