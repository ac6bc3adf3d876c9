"""powerbridge's loop: tasks that throw, end and hang; what powerctld is told; a clean end of the process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_power.bridge import daemon
from slurm_power.bridge.daemon import Bridge
from slurm_power.cli.powerbridge_run import file_problems
from slurm_power.config import ConfigError, load_site
from slurm_power.config.signals import OpenAdr3Signal
from slurm_power.powerctld_line import LineError
from slurm_power.wire import Message

SITE = """
[site]
name = "here"
[circuit.grid]
rating_watts = 50000
limit_kind = "economic"
meter = "m"
[device.m]
driver = "sunspec_meter"
address = "127.0.0.1:1502"
[controller]
state_directory = "{folder}/state"
socket = "{folder}/powerctld.sock"
{more}
"""
SIGNALS = """
[signals.utility]
kind = "openadr3"
url = "http://127.0.0.1:1"
ven_name = "site-1"
poll_seconds = 1
[signals.older]
kind = "openadr2"
url = "http://127.0.0.1:1/OpenADR2/Simple/2.0b"
ven_name = "site-1"
poll_seconds = 1
"""


def site_file(folder: Path, more: str = SIGNALS) -> Path:
    file = folder / "site.toml"
    file.write_text(SITE.format(folder=folder, more=more))
    return file


async def until(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not happened():  # noqa: ASYNC110  # what is waited for is no event of ours
            await asyncio.sleep(0.02)


def test_a_task_that_throws_ends_or_hangs_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "_FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(daemon, "_LOOK_SECONDS", 0.02)
    begun = {"throws": 0, "ends": 0, "signal:utility": 0}
    told: list[Message] = []

    async def throws() -> None:
        begun["throws"] += 1
        raise RuntimeError("a fault of ours")

    async def ends() -> None:
        begun["ends"] += 1

    async def hangs() -> None:
        begun["signal:utility"] += 1
        await asyncio.Event().wait()

    async def ask(message: Message) -> Message:
        told.append(message)
        return {}

    async def run() -> None:
        bridge = Bridge(load_site(site_file(tmp_path)), ask, {"throws": throws, "ends": ends})
        bridge._runs["signal:utility"] = hangs
        monkeypatch.setattr(type(bridge.states["utility"]), "hang_seconds", 0.2)
        stop = asyncio.Event()
        task = asyncio.create_task(bridge.run(stop))
        await until(lambda: min(begun.values()) >= 2 and len(told) >= 2)
        stop.set()
        await task

    asyncio.run(run())
    rows = {row["name"]: row for row in told[-1]["signals"]}  # type: ignore[attr-defined]  # the bridge's word
    assert rows["utility"]["state"] == "invalid"
    assert rows["older"]["kind"] == "openadr2"


def test_it_survives_that_powerctld_is_away(tmp_path: Path) -> None:
    asked = 0

    async def ask(_: Message) -> Message:
        nonlocal asked
        asked += 1
        raise LineError("powerctld did not answer in 2 s")

    async def run() -> None:
        bridge = Bridge(load_site(site_file(tmp_path)), ask, {})
        stop = asyncio.Event()
        task = asyncio.create_task(bridge.run(stop))
        await until(lambda: asked >= 3)
        stop.set()
        await task

    asyncio.run(run())


def test_the_process_ends_at_once_and_there_is_only_one(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "slurm_power.cli.powerbridge", "--config", str(site_file(tmp_path))]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = ""
        while "signal:" not in seen and "powerctld" not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        other = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert (other.returncode, "another powerbridge has" in other.stderr) == (2, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


BAD = """
[signals."Not good"]
kind = "openadr4"
[signals.one]
kind = "openadr3"
url = "http://vtn.example.org"
ven_name = ""
poll_seconds = 0.1
client_id = "x"
circuit = "nowhere"
colour = "red"
[signals.two]
kind = "openadr2"
url = "https://user:secret@vtn.example.org/a?b"
ven_name = "v"
sign_messages = true
vtn_fingerprint = "xyz"
cert_file = "c.pem"
"""


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_site(site_file(tmp_path, BAD))
    text = str(caught.value)
    for problem in (
        "signals.Not good: must be lower-case",
        "signals.Not good.kind: 'openadr4' is unknown; did you mean",
        "signals.one.colour: unknown key",
        "signals.two.url: has a password in it",
        "signals.two.url: must end with its path",
        "signals.two.cert_file and key_file",
        "signals.two.vtn_fingerprint: must be ten pairs",
    ):
        assert problem in text
    with pytest.raises(ConfigError) as caught:
        load_site(site_file(tmp_path, BAD.replace('colour = "red"\n', "")))
    text = str(caught.value)
    for problem in (
        "signals.one.url: must be https",
        "signals.one.ven_name: must have 1 to 128",
        "signals.one.poll_seconds: 0.1 is not between 1 and 3600",
        "signals.one.client_id and client_secret_file",
        "signals.one.circuit: there is no [circuit.nowhere]",
    ):
        assert problem in text


def test_secrets_must_be_there_and_for_nobody_else(tmp_path: Path) -> None:
    config = load_site(site_file(tmp_path))
    secret = tmp_path / "secret"
    utility = config.signals["utility"]
    assert isinstance(utility, OpenAdr3Signal)
    signals = {"utility": replace(utility, client_id="x", client_secret_file=secret)}
    config = replace(config, signals=signals)
    assert "cannot be read: No such file" in file_problems(config)[0]
    secret.write_text("s")
    secret.chmod(0o644)
    assert file_problems(config) == [
        f"signals.utility.client_secret_file: {secret} can be read by others; chmod 600 {secret}"
    ]
    secret.chmod(0o600)
    assert file_problems(config) == []
    assert os.access(secret, os.R_OK)
