"""The rack PDUs over SNMP, asked by net-snmp: readings, security, walks, faults."""

import time

import pytest

from tests.plant.fronts.lab import SNMP, PlantLab, eventually

RPDU2 = ".1.3.6.1.4.1.318.1.1.26"
POWER = f"{RPDU2}.4.3.1.5.1"
COMMUNITY = ("-v2c", "-c", SNMP["community"])
USER = ("-v3", "-u", SNMP["user"], "-l", "authPriv", "-a", "SHA-256", "-A", SNMP["auth_key"])
PRIVATE = (*USER, "-x", "AES", "-X", SNMP["priv_key"])


def test_power_comes_in_steps_of_ten_watts(lab: PlantLab) -> None:
    for rack in ("rack1", "rack2"):
        watts = lab.truth()["racks_watts"][rack]
        assert lab.pdu_value(rack, POWER) * 10 == pytest.approx(watts, abs=5.0)


def test_version_3_signs_and_encrypts(lab: PlantLab) -> None:
    result = lab.snmp("snmpget", "rack2", *PRIVATE, "-Oqv", POWER)
    assert int(result.stdout) == lab.pdu_value("rack2", POWER)


@pytest.mark.parametrize(
    "credentials",
    [
        ("-v2c", "-c", "wrong"),
        ("-v3", "-u", SNMP["user"], "-l", "noAuthNoPriv"),
        (*USER[:4], "authNoPriv", *USER[5:]),
        (*USER[:-1], "a-wrong-password", "-x", "AES", "-X", SNMP["priv_key"]),
        ("-v3", "-u", "stranger", "-l", "noAuthNoPriv"),
    ],
)
def test_nobody_else_reads(lab: PlantLab, credentials: tuple[str, ...]) -> None:
    result = lab.snmp("snmpget", "rack1", *credentials, "-Oqv", POWER)
    assert result.returncode != 0
    assert result.stdout.strip() == ""


def test_a_set_is_refused(lab: PlantLab) -> None:
    before = lab.pdu_value("rack1", POWER)
    result = lab.snmp("snmpset", "rack1", *COMMUNITY, POWER, value=("i", "5"))
    assert result.returncode != 0
    assert "Timeout" in result.stderr
    assert lab.pdu_value("rack1", POWER) == pytest.approx(before, abs=5)


@pytest.mark.parametrize("program", ["snmpwalk", "snmpbulkwalk"])
@pytest.mark.parametrize("credentials", [COMMUNITY, PRIVATE])
def test_a_walk_goes_through_everything_in_order(
    lab: PlantLab, program: str, credentials: tuple[str, ...]
) -> None:
    result = lab.snmp(program, "rack1", *credentials, ".1.3.6.1")
    assert result.returncode == 0, result.stderr
    oids = [line.split(" = ")[0] for line in result.stdout.splitlines() if "No more variables" not in line]
    keys = [tuple(int(part) for part in oid.strip(".").split(".")) for oid in oids]
    assert keys == sorted(set(keys))
    assert POWER in oids
    assert ".1.3.6.1.2.1.1.3.0" in oids
    assert f"{RPDU2}.6.3.1.7.3" in oids


def test_identity(lab: PlantLab) -> None:
    result = lab.snmp("snmpwalk", "rack2", *COMMUNITY, f"{RPDU2}.2")
    assert '"pdu-rack2"' in result.stdout
    assert '"AP8865"' in result.stdout
    system = lab.snmp("snmpget", "rack2", *COMMUNITY, "-Oqv", ".1.3.6.1.2.1.1.2.0")
    assert system.stdout.strip() == ".1.3.6.1.4.1.318.1.3.4.6"


def test_what_is_not_there(lab: PlantLab) -> None:
    other_index = lab.snmp("snmpget", "rack1", *COMMUNITY, f"{RPDU2}.4.3.1.5.9")
    assert "No Such Instance" in other_index.stdout
    elsewhere = lab.snmp("snmpget", "rack1", *COMMUNITY, ".1.3.6.1.4.1.999.1")
    assert "No Such Object" in elsewhere.stdout


def test_phases_make_up_the_whole(lab: PlantLab) -> None:
    amperes = [lab.pdu_value("rack1", f"{RPDU2}.6.3.1.5.{phase}") / 10.0 for phase in (1, 2, 3)]
    volts = [lab.pdu_value("rack1", f"{RPDU2}.6.3.1.6.{phase}") for phase in (1, 2, 3)]
    apparent = sum(a * v for a, v in zip(amperes, volts, strict=True))
    assert apparent == pytest.approx(lab.pdu_value("rack1", f"{RPDU2}.4.3.1.16.1") * 10, rel=0.02)


def test_minus_one_means_not_supported(lab: PlantLab) -> None:
    lab.fault("pdu.rack1", "minus_one")
    eventually(lambda: lab.pdu_value("rack1", POWER) == -1, 4.0)
    assert lab.pdu_value("rack2", POWER) > 0
    lab.ask("clear_faults", target="pdu.rack1")
    eventually(lambda: lab.pdu_value("rack1", POWER) > 0, 4.0)


def test_silence(lab: PlantLab) -> None:
    lab.fault("pdu.rack2", "silence")
    for credentials in (COMMUNITY, PRIVATE):
        result = lab.snmp("snmpget", "rack2", *credentials, POWER)
        assert "Timeout" in result.stderr
    lab.ask("clear_faults")
    assert lab.pdu_value("rack2", POWER) > 0


def test_freeze_keeps_the_reading_while_the_load_changes(lab: PlantLab) -> None:
    lab.fault("pdu.rack1", "freeze")
    frozen = lab.pdu_value("rack1", POWER)
    job = lab.job("c1", "0,1,2,3,4,5,6,7", "--workload", "generation", "--seconds", "60")
    eventually(lambda: lab.truth()["racks_watts"]["rack1"] > frozen * 10 + 400.0)
    until = time.monotonic() + 2.2
    while time.monotonic() < until:
        assert lab.pdu_value("rack1", POWER) == frozen
    lab.ask("clear_faults")
    eventually(lambda: lab.pdu_value("rack1", POWER) > frozen + 40, 4.0)
    job.terminate()
    job.communicate(timeout=10)
