"""docs/tiers.md, followed literally by a user of a lab with power: models are trained, a job is moved."""

from collections.abc import Iterator

import pytest

from containers.bench.steady import without_recharging
from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT
from containers.demo.stage import ask
from tests.install.followed import follow, steps
from tests.install.shells import shells

pytest.importorskip("torch")
DOCUMENT = CHECKOUT / "docs/tiers.md"
INSTALLED = "/opt/slurm-power/share/slurm-power"


@pytest.fixture
def short_lab(power_lab: Lab) -> Iterator[Lab]:
    """The lab with a place for its catalog, and a battery that has nothing to give."""
    site, conf = power_lab.layout.etc / "site.toml", power_lab.layout.etc / "slurm-power.conf"
    catalog = power_lab.layout.etc / "tiers.toml"
    before = {file: file.read_text() for file in (site, conf)}
    text = before[site].replace("[controller]\n", f'[controller]\ntiers_path = "{catalog}"\n')
    site.write_text(without_recharging(text))
    conf.write_text(f"{before[conf]}tiers_path={catalog}\n")
    power_lab.restart("powerctld")
    plant = power_lab.run_directory / "run" / "plant.sock"
    ask(plant, {"op": "set_soc", "soc_ratio": 0.10})
    yield power_lab
    controller = power_lab.run_directory / "run" / "powerctld.sock"
    for event in ask(controller, {"op": "status"})["events"]:
        power_lab.run(["slurm-power", "cancel-event", event["event_id"]])
    power_lab.run(["scancel", "--user=alice"])
    for file, content in before.items():
        file.write_text(content)
    catalog.unlink(missing_ok=True)
    power_lab.restart("powerctld")
    ask(plant, {"op": "set_soc", "soc_ratio": 0.5})


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.timeout(600)
def test_a_user_gets_from_a_model_to_a_job_that_flexes(short_lab: Lab) -> None:
    text = DOCUMENT.read_text().replace(INSTALLED, str(CHECKOUT))
    text = text.replace(f"{CHECKOUT}/examples", str(CHECKOUT / "docs/examples"))
    follow(text, shells(short_lab, timeout_seconds=120.0), patience_seconds=120.0)
