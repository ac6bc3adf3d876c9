"""docs/tiers.md, followed literally by a user of a lab with power: models are trained, a job is moved."""

import shlex
from collections.abc import Iterator

import click
import pytest

from containers.bench.steady import without_recharging
from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT
from containers.demo.stage import ask
from slurm_power.cli.slurm_power import main
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


def test_every_command_of_the_document_is_taken() -> None:
    """The quick half of the walk: no command or option in it is one that there is not."""
    taken = []
    for step in steps(DOCUMENT.read_text()):
        words = shlex.split(step.command)
        if words[0] != "slurm-power":
            continue
        command: click.Command = main
        rest = words[1:]
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, step.command
            command, rest = found, rest[1:]
        command.make_context(command.name, rest)  # raises for an option or argument that is none
        taken.append(command.name)
    wanted = {"list", "full", "quantize", "distill", "show", "evaluate", "compare", "check", "card"}
    assert set(taken) == wanted | {"power", "publish", "approve", "event", "why", "jobs"}
