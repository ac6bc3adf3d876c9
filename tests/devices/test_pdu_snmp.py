"""The PDU driver against the plant's agent, Debian's snmpget and snmpsim with a walk of an older model."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_power.config import ConfigError
from slurm_power.config.snmp_map import load_map, shipped
from slurm_power.devices import build_driver
from slurm_power.devices.pdu_snmp import SnmpPduDriver
from slurm_power.ports import DeviceError
from tests.devices import benches
from tests.devices.contract import check_meter, check_unreachable

UDP = socket.SOCK_DGRAM

# Sorted by OID, as snmpsim wants it; made up in the form of a recorded walk. An older PDU: it has the rPDU2
# objects, but no power in them.
OLD_PDU = """\
1.3.6.1.2.1.1.1.0|4|Made-up PDU without rPDU2 power
1.3.6.1.2.1.1.5.0|4|old-pdu
1.3.6.1.4.1.318.1.1.12.1.16.0|2|192
1.3.6.1.4.1.318.1.1.26.2.1.1.1|2|1
1.3.6.1.4.1.318.1.1.26.4.3.1.5.1|2|-1
"""
# A Raritan with its second inlet at 1234.5 W, told in tenths.
RARITAN = """\
1.3.6.1.2.1.1.1.0|4|Made-up PDU with the PDU2 MIB
1.3.6.1.4.1.13742.6.3.3.4.1.7.1.2.5|66|1
1.3.6.1.4.1.13742.6.5.2.3.1.4.1.2.5|66|12345
"""
NO_POWER = """\
1.3.6.1.2.1.1.1.0|4|Something else with SNMP
1.3.6.1.4.1.318.1.1.26.4.3.1.5.1|4|a text
"""


@pytest.mark.parametrize("version", ["v2c", "v3"])
def test_contract(version: str, tmp_path: Path) -> None:
    async def run() -> None:
        port = benches.free_port(UDP)
        agent = benches.pdu(port)
        agent.take(12_340.0, 0.0)
        config = benches.pdu_v2c(port) if version == "v2c" else benches.pdu_v3(port, tmp_path)
        driver = build_driver(config)
        assert isinstance(driver, SnmpPduDriver)
        async with benches.serving(agent):
            await check_meter(driver, lambda: 12_340.0, 5)
            agent.take(0.0, 0.0)
            assert await driver.read_watts() == 0.0
            await driver.close()

    asyncio.run(run())


@pytest.mark.skipif(shutil.which("snmpget") is None, reason="snmpget (package snmp) is not installed")
def test_agrees_with_snmpget(tmp_path: Path) -> None:
    async def run() -> None:
        port = benches.free_port(UDP)
        agent = benches.pdu(port)
        agent.take(4_560.0, 0.0)
        async with benches.serving(agent):
            client = await asyncio.create_subprocess_exec(
                *("snmpget", "-v3", "-u", benches.ACCESS.user, "-l", "authPriv", "-a", "SHA-256"),
                *("-A", benches.ACCESS.auth_key, "-x", "AES", "-X", benches.ACCESS.priv_key, "-Oqv"),
                *(f"127.0.0.1:{port}", load_map("apc_rpdu2").power[0].oid.format(unit=1)),
                stdout=subprocess.PIPE,
            )
            printed, _ = await client.communicate()
            driver = SnmpPduDriver(benches.pdu_v3(port, tmp_path))
            assert int(printed) * 10.0 == await driver.read_watts() == 4_560.0
            await driver.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"auth_key": "WRONG-key-123"}, "authentication key not accepted"),
        ({"priv_key": "WRONG-key-123"}, "pdu-1"),
    ],
)
def test_a_wrong_key_is_named(keys: dict[str, str], words: str, tmp_path: Path) -> None:
    async def run() -> None:
        port = benches.free_port(UDP)
        async with benches.serving(benches.pdu(port)):
            driver = SnmpPduDriver(benches.pdu_v3(port, tmp_path, **keys))
            with pytest.raises(DeviceError, match=words):
                await driver.open()
            await driver.close()

    asyncio.run(run())


def test_a_wrong_community_gets_no_answer() -> None:
    async def run() -> None:
        port = benches.free_port(UDP)
        async with benches.serving(benches.pdu(port)):
            # Loading the library takes a second or two; what is timed below is the driver.
            right = SnmpPduDriver(benches.pdu_v2c(port, 2.0))
            await right.open()
            await right.close()
            driver = SnmpPduDriver(benches.pdu_v2c(port, 0.3, community="not-this"))
            await check_unreachable(driver.open, "pdu-1", 2.5)
            await driver.close()

    asyncio.run(run())


def test_the_sentinel_is_no_minus_ten_watts() -> None:
    async def run() -> None:
        port = benches.free_port(UDP)
        agent = benches.pdu(port)
        agent.take(5_000.0, 0.0)
        async with benches.serving(agent):
            driver = SnmpPduDriver(benches.pdu_v2c(port))
            await driver.open()
            agent.set_fault("minus_one", 1.0, None)
            agent.take(5_000.0, 0.0)
            with pytest.raises(DeviceError, match="pdu-1: rPDU2DeviceStatusPower: not supported"):
                await driver.read_watts()
            with pytest.raises(DeviceError, match="pdu-1: no power of unit 1"):
                await driver.open()
            await driver.close()

    asyncio.run(run())


def test_silence_ends_within_the_time_out_and_heals() -> None:
    async def run() -> None:
        port = benches.free_port(UDP)
        agent = benches.pdu(port)
        agent.take(5_000.0, 0.0)
        async with benches.serving(agent):
            driver = SnmpPduDriver(benches.pdu_v2c(port, 0.4))
            await driver.open()
            agent.set_fault("silence", 1.0, None)
            await check_unreachable(driver.read_watts, "pdu-1", 1.0)
            agent.clear_faults()
            assert await driver.read_watts() == 5_000.0
            await driver.close()

    asyncio.run(run())


def test_nobody_there() -> None:
    async def run() -> None:
        driver = SnmpPduDriver(benches.pdu_v2c(benches.free_port(UDP), 0.3))
        # The first time loads the library, which takes as long as the disk takes.
        with pytest.raises(DeviceError, match="pdu-1"):
            await driver.open()
        await check_unreachable(driver.open, "pdu-1", 1.5)
        await driver.close()

    asyncio.run(run())


def test_v3_goes_on_after_the_agent_has_restarted(tmp_path: Path) -> None:
    async def run() -> None:
        port = benches.free_port(UDP)
        driver = SnmpPduDriver(benches.pdu_v3(port, tmp_path))
        first = benches.pdu(port)
        first.take(1_000.0, 0.0)
        async with benches.serving(first):
            assert await driver.read_watts() == 1_000.0
        again = benches.pdu(port)
        again.take(2_000.0, 0.0)
        async with benches.serving(again):
            deadline = time.monotonic() + 5
            while True:
                try:
                    assert await driver.read_watts() == 2_000.0
                    break
                except DeviceError:
                    assert time.monotonic() < deadline
            await driver.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def snmpsim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """snmpsim with our two walks; the community picks the file. Yields its port."""
    directory = tmp_path_factory.mktemp("snmpsim")
    data = directory / "data"
    data.mkdir()
    (data / "old.snmprec").write_text(OLD_PDU)
    (data / "none.snmprec").write_text(NO_POWER)
    (data / "raritan.snmprec").write_text(RARITAN)
    port = benches.free_port(UDP)
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(str(Path(sys.executable).parent / "snmpsim-command-responder"), f"--data-dir={data}"),
                *(f"--cache-dir={directory / 'cache'}", f"--agent-udpv4-endpoint=127.0.0.1:{port}"),
                *("--process-user=root", "--process-group=root"),
            ],
            stdout=log,
            stderr=log,
            env={"PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "ignore", "HOME": str(directory)},
        )
    try:
        _wait_for_answer(port, process, directory / "log")
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_for_answer(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    async def answers() -> bool:
        driver = SnmpPduDriver(benches.pdu_v2c(port, 0.5, community="old"))
        try:
            await driver.open()
        except DeviceError:
            return False
        finally:
            await driver.close()
        return True

    deadline = time.monotonic() + 30
    while not asyncio.run(answers()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()


def test_an_older_pdu_is_read_by_the_legacy_object(snmpsim: int) -> None:
    async def run() -> None:
        driver = SnmpPduDriver(benches.pdu_v2c(snmpsim, 2.0, community="old"))
        await check_meter(driver, lambda: 192.0, 0.1)

    asyncio.run(run())


def test_what_is_no_number_is_refused(snmpsim: int) -> None:
    async def run() -> None:
        driver = SnmpPduDriver(benches.pdu_v2c(snmpsim, 2.0, community="none"))
        with pytest.raises(DeviceError, match="pdu-1: rPDU2DeviceStatusPower: OctetString is no number"):
            await driver.open()
        await driver.close()

    asyncio.run(run())


def test_a_key_file_that_is_gone(tmp_path: Path) -> None:
    async def run() -> None:
        config = benches.pdu_v3(benches.free_port(UDP), tmp_path)
        (tmp_path / "auth").unlink()
        driver = SnmpPduDriver(config)
        with pytest.raises(DeviceError, match=r"pdu-1: .*auth: No such file"):
            await driver.open()

    asyncio.run(run())


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_map_is_sound_and_says_whose_it_is(name: str) -> None:
    found = load_map(name)
    assert found.vendor
    assert found.document
    for each in found.power:
        each.oid.format(unit=1, inlet=1)


def test_all_problems_of_a_map_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        'vendor = "Acme"\ncolour = 1\n[[power]]\nlabel = "x"\noid = "1.3.{what}"\nwatts_per_count = -1.0\n'
        'unsupported = "no"\n'
    )
    with pytest.raises(ConfigError) as raised:
        load_map(str(file))
    told = " ".join(raised.value.problems)
    assert all(
        word in told for word in ("colour", "document", "power[0].oid", "watts_per_count", "unsupported")
    )
    with pytest.raises(ConfigError, match="shipped are apc_rpdu2, raritan_pdu2"):
        load_map("acme")


def test_decimal_digits_come_from_the_pdu_itself(snmpsim: int) -> None:
    async def run() -> None:
        config = replace(benches.pdu_v2c(snmpsim, community="raritan"), map="raritan_pdu2", inlet=2)
        driver = SnmpPduDriver(config)
        assert await driver.read_watts() == 1234.5
        await driver.close()
        other = SnmpPduDriver(replace(config, inlet=1))
        with pytest.raises(DeviceError, match="no power of unit 1"):
            await other.open()
        await other.close()

    asyncio.run(run())
