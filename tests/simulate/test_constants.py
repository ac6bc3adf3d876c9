"""plant.toml: every constant has a value, the right unit and a source; all problems are reported at once."""

import tomllib
from pathlib import Path

import pytest

from slurm_power.config.problems import ConfigError
from slurm_power.simulate.constants import load_constants
from tests.simulate.plant_constants import CONSTANTS, PLANT_FILE


def test_the_given_constants() -> None:
    assert CONSTANTS.gpu.cap_dead_time_seconds == 0.1
    assert CONSTANTS.gpu.cap_time_constant_seconds == 0.1
    assert (CONSTANTS.pcs.dead_time_seconds, CONSTANTS.pcs.ramp_full_seconds) == (0.2, 2.0)
    assert CONSTANTS.meter.refresh_seconds == 1.0
    assert (CONSTANTS.pdu.refresh_seconds, CONSTANTS.pdu.resolution_watts) == (2.0, 10.0)
    assert (CONSTANTS.host.idle_watts, CONSTANTS.host.full_load_watts) == (1000.0, 2800.0)
    pcs = CONSTANTS.pcs
    assert pcs.discharge_efficiency_ratio * pcs.charge_efficiency_ratio == pytest.approx(0.88, abs=0.001)


def test_every_constant_names_its_source() -> None:
    for section in tomllib.loads(PLANT_FILE.read_text()).values():
        for entry in section.values():
            assert entry["source"]


# constant, what its entry becomes, and the one problem that must be named
WRONG = [
    ("pcs.rated_watts", 'value = 12.0\nunit = "kW"', "pcs.rated_watts.unit: must be 'W'"),
    ("pcs.initial_soc_ratio", 'value = 60\nunit = "1"', "pcs.initial_soc_ratio.value: 60 is above 1"),
    ("pcs.initial_soc_ratio", 'value = 0.99\nunit = "1"', "initial_soc_ratio <= max_soc_ratio"),
    ("meter.refresh_seconds", 'value = "1"\nunit = "s"', "meter.refresh_seconds.value: must be a number"),
    ("pdu.refresh_seconds", 'value = 0.0\nunit = "s"', "pdu.refresh_seconds.value: must be above 0"),
    ("host.idle_watts", 'value = -1.0\nunit = "W"', "host.idle_watts.value: -1 is out of range"),
    ("host.idle_watts", 'value = 1.0\nunit = "W"\nsauce = "x"', "host.idle_watts.sauce: unknown key"),
]


@pytest.mark.parametrize(("name", "entry", "problem"), WRONG)
def test_a_wrong_constant_is_refused_by_its_path(tmp_path: Path, name: str, entry: str, problem: str) -> None:
    head = f"[{name}]\n"
    before, after = PLANT_FILE.read_text().split(head)
    source = after[after.index("source") :]
    wrong = tmp_path / "plant.toml"
    wrong.write_text(f"{before}{head}{entry}\n{source}")
    with pytest.raises(ConfigError) as caught:
        load_constants(wrong)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]


def test_several_problems_are_reported_together(tmp_path: Path) -> None:
    wrong = tmp_path / "plant.toml"
    wrong.write_text("[pcs.rated_watts]\nvalue = 1\n[nonsense]\n")
    with pytest.raises(ConfigError) as caught:
        load_constants(wrong)
    for path in ("nonsense: unknown", "gpu: missing", "pcs.rated_watts.unit", "pcs.rated_watts.source"):
        assert any(problem.startswith(path) for problem in caught.value.problems)
