from pathlib import Path

import pytest

from slurm_power.config import ConfigError, SnmpPdu, SunspecMeter, SunspecPcs, load_site
from slurm_power.model.site import LimitKind

GOOD = """
[site]
name = "lab"

[circuit.grid]
rating_watts = 60_000
limit_watts = 30_000
limit_kind = "economic"
meter = "meter"
overhead_ratio = 1.1

[circuit.rack1]
parent = "grid"
rating_watts = 20_000
limit_watts = 18_000
limit_kind = "safety"
meter = "pdu1"
nodes = ["c1", "c2"]

[device.meter]
driver = "sunspec_meter"
address = "127.0.0.1:5020"

[device.pcs]
driver = "sunspec_pcs"
address = "127.0.0.1:5021"

[device.pdu1]
driver = "snmp_pdu"
address = "127.0.0.1:1161"
community = "lab"

[ess.battery]
circuit = "grid"
device = "pcs"
"""

SUNSPEC_METER = 'driver = "sunspec_meter"'
REGISTER_METER = 'driver = "register_meter"\nmap = "eastron_sdm630"'
SUNSPEC_PCS = 'driver = "sunspec_pcs"'
REGISTER_PCS = """driver = "register_pcs"
map = "sungrow_sh"
energy_rating_kwh = 9.6
max_charge_watts = 5_000
max_discharge_watts = 4_600"""


def write(folder: Path, text: str) -> Path:
    file = folder / "site.toml"
    file.write_text(text)
    return file


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_site(write(folder, text))
    return caught.value.problems


def test_a_good_file_becomes_a_site(tmp_path: Path) -> None:
    config = load_site(write(tmp_path, GOOD))
    assert config.site.root.name == "grid"
    assert config.site.circuits_of_node("c2") == ("rack1", "grid")
    assert config.site.circuits["rack1"].limit_kind is LimitKind.SAFETY
    assert config.ess_devices == {"battery": "pcs"}
    assert isinstance(config.devices["meter"], SunspecMeter)
    assert isinstance(config.devices["pcs"], SunspecPcs)
    assert isinstance(config.devices["pdu1"], SnmpPdu)
    assert config.controller.cap_lease_seconds == 10.0


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ('name = "lab"', 'nam = "lab"', "site.nam", "did you mean name?"),
        ("limit_watts = 18_000", "limit_watts = 3", "circuit.rack1.limit_watts", "is it in kW or MW?"),
        ("limit_watts = 18_000", "limit_watts = 19_000", "", ""),
        ("limit_watts = 18_000", "limit_watts = 40_000", "circuit.rack1.limit_watts", "above its own rating"),
        ("limit_watts = 30_000", "limit_watts = 17_000", "circuit.rack1.limit_watts", "above its parent"),
        ("rating_watts = 20_000", "rating_watts = 70_000", "circuit.rack1.rating_watts", "above its parent"),
        ('limit_kind = "safety"', 'limit_kind = "safty"', "circuit.rack1.limit_kind", "safety, economic"),
        ('parent = "grid"', 'parent = "gird"', "circuit.rack1.parent", "there is no [circuit.gird]"),
        ('parent = "grid"\n', "", "circuit", "exactly one circuit has no parent"),
        ('meter = "pdu1"', 'meter = "pdu9"', "circuit.rack1.meter", "there is no [device.pdu9]"),
        ('meter = "pdu1"', 'meter = "pcs"', "circuit.rack1.meter", "is a PCS, no meter"),
        ('community = "lab"', "", "device.pdu1.user", "either user (SNMP v3) or community"),
        ('community = "lab"', 'user = "m"', "device.pdu1.auth_key_file", "SNMP v3 needs"),
        ('"127.0.0.1:1161"', '"127.0.0.1"', "device.pdu1.address", "is not HOST:PORT"),
        ('driver = "snmp_pdu"', 'driver = "apc"', "device.pdu1.driver", "is not one of"),
        (
            'driver = "snmp_pdu"',
            'driver = "snmp_pdu"\nmap = "acme"',
            "device.pdu1.map",
            "shipped are apc_rpdu2",
        ),
        ('device = "pcs"', 'device = "meter"', "ess.battery.device", "is no PCS"),
        (SUNSPEC_METER, REGISTER_METER, "", ""),
        (SUNSPEC_METER, f"{REGISTER_METER}\nunit_id = 300", "device.meter.unit_id", "not between 0 and 255"),
        (SUNSPEC_METER, f"{SUNSPEC_METER}\nunit_id = -1", "device.meter.unit_id", "not between 0 and 255"),
        (SUNSPEC_METER, REGISTER_METER.replace("eastron_", ""), "device.meter.map", "shipped are"),
        (SUNSPEC_METER, REGISTER_METER.replace("eastron_sdm630", "sungrow_sh"), "device.meter.map", "role:"),
        (SUNSPEC_PCS, REGISTER_PCS, "", ""),
        (
            SUNSPEC_PCS,
            REGISTER_PCS.replace("sungrow_sh", "sma_sunny_boy_storage"),
            "ess.battery.lease_seconds",
            "pcs keeps a setpoint for 60 s when powerctld is gone; write lease_seconds = 60",
        ),
        (SUNSPEC_PCS, REGISTER_PCS.replace("= 9.6", "= 0"), "device.pcs.energy_rating_kwh", "above 0"),
        (SUNSPEC_PCS, REGISTER_PCS.replace("= 5_000", "= nan"), "device.pcs.max_charge_watts", "finite"),
        (SUNSPEC_PCS, REGISTER_PCS.replace("= 4_600", "= inf"), "device.pcs.max_discharge_watts", "finite"),
        (
            SUNSPEC_PCS,
            REGISTER_PCS.replace("energy_rating_kwh = 9.6\n", ""),
            "device.pcs.energy_rating_kwh",
            "the map sungrow_sh does not read it",
        ),
        ('circuit = "grid"', 'circuit = "g"', "ess.battery.circuit", "there is no [circuit.g]"),
        ("overhead_ratio = 1.1", "overhead_ratio = 110", "circuit.grid.overhead_ratio", "between 1 and 3"),
        ("rating_watts = 60_000", 'rating_watts = "60 kW"', "circuit.grid.rating_watts", "must be a number"),
        ("rating_watts = 60_000", "rating_watts = true", "circuit.grid.rating_watts", "must be a number"),
        ("rating_watts = 60_000", "rating_watts = nan", "circuit.grid.rating_watts", "no amount of power"),
        ('["c1", "c2"]', '["c1", "c1"]', "circuit.rack1.nodes", "already hangs on"),
    ],
)
def test_each_mistake_is_named_with_its_path(
    tmp_path: Path, old: str, new: str, path: str, words: str
) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if not path:
        load_site(write(tmp_path, text))
        return
    found = problems(tmp_path, text)
    assert any(p.startswith(f"{path}:") and words in p for p in found), found


def test_a_register_pcs_is_no_meter(tmp_path: Path) -> None:
    text = GOOD.replace(SUNSPEC_PCS, REGISTER_PCS).replace('meter = "pdu1"', 'meter = "pcs"')
    assert problems(tmp_path, text) == ["circuit.rack1.meter: pcs is a PCS, no meter"]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = (
        GOOD.replace('"lab"', '""', 1)
        .replace("limit_watts = 18_000", "limit_watts = 3")
        .replace('limit_kind = "safety"', 'limit_kind = "x"')
        .replace('device = "pcs"', 'device = "nothing"')
        + "\n[controller]\nslurm_pol_seconds = 3\n[policy]\nmargin_ratio = 7\n"
    )
    paths = {problem.split(":")[0] for problem in problems(tmp_path, text)}
    assert {
        "site.name",
        "circuit.rack1.limit_kind",
        "circuit.rack1.limit_watts",
        "ess.battery.device",
        "controller.slurm_pol_seconds",
        "policy.margin_ratio",
    } <= paths


def test_prices_of_levers_are_the_sites_own(tmp_path: Path) -> None:
    own = '\n[policy]\nvalue_per_gpu_hour = 3\nflex3_weight = 0.25\naccount_weights = ["physics=2"]\n'
    policy = load_site(write(tmp_path, GOOD + own)).policy
    assert (policy.value_per_gpu_hour, policy.flex3_weight) == (3.0, 0.25)
    assert policy.weights_of_accounts() == {"physics": 2.0}
    wrong = '\n[policy]\nmax_user_share_ratio = 0\naccount_weights = ["physics", "b=-1"]\n'
    assert [problem.split(":")[0] for problem in problems(tmp_path, GOOD + wrong)] == [
        "policy.max_user_share_ratio",
        "policy.account_weights",
        "policy.account_weights",
    ]


def test_circles_are_found(tmp_path: Path) -> None:
    text = GOOD.replace('parent = "grid"', 'parent = "rack1"')
    assert any("goes round in a circle" in problem for problem in problems(tmp_path, text))


def test_unreadable_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_site(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_site(write(tmp_path, "[site"))


def test_times_and_log_level_outside_their_bounds_are_named(tmp_path: Path) -> None:
    text = GOOD.replace('driver = "sunspec_meter"', 'driver = "sunspec_meter"\nmax_age_seconds = 0')
    text = text.replace('community = "lab"', 'community = "lab"\ntimeout_seconds = nan')
    found = problems(tmp_path, text + '\n[controller]\nlog_level = "LOUD"\n')
    assert [problem.split(":")[0] for problem in found] == [
        "device.meter.max_age_seconds",
        "device.pdu1.timeout_seconds",
        "controller.log_level",
    ]
