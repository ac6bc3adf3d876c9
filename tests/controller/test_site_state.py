"""The site that is kept beside the ledger is the one that reports read back."""

from pathlib import Path

from slurm_power.config.site import load_site
from slurm_power.controller.records.site_state import keep_site
from slurm_power.report.site_facts import SITE_KEY, site_facts
from slurm_power.store.sqlite import SqliteStore

TOML = """\
[site]
name = "lab"
timezone = "Europe/Berlin"
[policy]
value_per_gpu_hour = 2.0
delay_price_per_gpu_hour = 0.5
[circuit.grid]
rating_watts = 1e6
limit_kind = "economic"
meter = "m"
[circuit.hall]
parent = "grid"
rating_watts = 1e6
limit_kind = "economic"
nodes = ["c1", "c2"]
[device.m]
driver = "sunspec_meter"
address = "127.0.0.1:502"
"""


def test_a_site_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(TOML)
    store = SqliteStore(tmp_path / "powerctld.sqlite")
    keep_site(store, load_site(file))
    site = site_facts(store.state(SITE_KEY))
    store.close()
    assert site is not None
    assert (site.name, site.zone_name, str(site.zone)) == ("lab", "Europe/Berlin", "Europe/Berlin")
    assert site.parents == {"grid": None, "hall": "grid"}
    assert site.nodes["hall"] == ("c1", "c2")
    assert (site.meter_of("hall"), site.meter_above("grid")) == ("grid", None)
    assert site.wait_lost_ratio == 0.25
