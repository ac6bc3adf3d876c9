"""``slurm-power commission pcs`` as it is typed: what it refuses, what it asks, and what it leaves behind."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from containers.plant.pcs import PcsFront
from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import STATUS, fake_powerctld
from tests.devices import benches

SITE = """
[site]
name = "s"
[controller]
state_directory = "{folder}/state"
socket = "{socket}"
[circuit.grid]
rating_watts = 60_000
limit_kind = "economic"
meter = "grid-meter"
nodes = ["c1"]
[device.grid-meter]
driver = "sunspec_meter"
address = "127.0.0.1:{meter}"
[device.pcs]
driver = "sunspec_pcs"
address = "127.0.0.1:{pcs}"
[ess.battery]
circuit = "grid"
device = "pcs"
"""


class Bench:
    """A battery and the grid meter before it in a thread of their own, and the site.toml that names them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"meter": benches.free_port(), "pcs": benches.free_port()}
        self.front: PcsFront = benches.pcs_front(self.ports["pcs"])
        self.front.pcs.stored_joules = 0.5 * self.front.pcs.constants.rated_capacity_wh * 3600.0
        self.used_watts = 20_000.0

    def site(self, socket: Path | None = None, old: str = "", new: str = "") -> Path:
        file = self.folder / "site.toml"
        text = SITE.format(folder=self.folder, socket=socket or self.folder / "none.sock", **self.ports)
        file.write_text(text.replace(old, new) if old else text)
        return file

    @property
    def record(self) -> Path:
        return self.folder / "state" / "commissioned.json"

    @contextmanager
    def serving(self) -> Iterator[None]:
        started, stop = threading.Event(), threading.Event()

        async def serve() -> None:
            meter = benches.meter_front(self.ports["meter"])
            async with benches.serving(self.front), benches.serving(meter):
                while not stop.is_set():
                    self.front.advance()
                    benches.take(meter, self.used_watts - self.front.pcs.discharge_watts)
                    started.set()
                    await asyncio.sleep(0.02)

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        try:
            assert started.wait(5.0)
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def commission(file: Path, *words: str, name: str = "battery", typed: str = "") -> Result:
    return CliRunner().invoke(main, ["commission", "pcs", name, "--config", str(file), *words], input=typed)


def test_a_sound_battery_is_proven_and_the_record_says_so(bench: Bench) -> None:
    with bench.serving():
        result = commission(bench.site(), typed="y\n")
    assert result.exit_code == 0, result.output
    for words in ("charged with 600 W, then discharged with 600 W", "60 s", "a setpoint of 5 s", "proven"):
        assert words in result.output
    assert "NOT PROVEN" not in result.output
    assert json.loads(bench.record.read_text())["battery"]["findings"]["charge_reads_negative"]
    assert bench.front.pcs.discharge_watts == pytest.approx(0.0, abs=60.0)


@pytest.mark.parametrize("typed", ["n\n", ""])
def test_who_does_not_say_yes_moves_nothing(bench: Bench, typed: str) -> None:
    with bench.serving():
        result = commission(bench.site(), typed=typed)
    assert result.exit_code == 2, result.output
    assert bench.front.pcs.discharge_watts == 0.0
    assert not bench.record.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_rest_and_a_second_one_too(bench: Bench, number: signal.Signals) -> None:
    words = [sys.executable, "-m", "slurm_power.cli.slurm_power", "commission", "pcs", "battery", "--yes"]
    with (
        bench.serving(),
        subprocess.Popen([*words, "--config", bench.site()], stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("falling silent"):
                break
        # Begun, so that there is something to give back.
        deadline = time.monotonic() + 5.0
        while bench.front.pcs.discharge_watts < 500.0 and time.monotonic() < deadline:
            time.sleep(0.02)
        # It cannot be told to rest for a while, and has to be told when it can.
        bench.front.set_fault("hang", 0.0, 1.5)
        process.send_signal(number)
        time.sleep(0.05)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(30.0) == 1, said
        assert "given up: interrupted" in said
        assert abs(bench.front.pcs.discharge_watts) < 60.0
    assert not bench.record.exists()


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output


def test_a_name_or_a_meter_that_is_not_there_is_refused(bench: Bench) -> None:
    refused(commission(bench.site(), "--yes", name="other"), "[ess.other]", "known: battery")
    refused(commission(bench.site(old='meter = "grid-meter"\n'), "--yes"), "circuit.grid.meter: missing")
    refused(commission(bench.folder / "nowhere.toml", "--yes"), "nowhere.toml")


def test_devices_that_do_not_answer_are_refused(bench: Bench) -> None:
    refused(commission(bench.site(), "--yes"), "not begun")


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (STATUS, "slurm-power control off"),
        (b"", "does not say"),
        (b"[]\n", "does not say"),
        ({"ok": False, "error": "busy"}, "does not say"),
    ],
)
def test_a_powerctld_that_may_control_is_refused(bench: Bench, answer: Any, word: str) -> None:
    with bench.serving(), fake_powerctld(lambda _: answer) as fake:
        refused(commission(bench.site(fake.path), "--yes"), word)
    assert bench.front.pcs.discharge_watts == 0.0


def test_control_that_comes_on_while_it_asks_is_refused(bench: Bench) -> None:
    modes = iter(["off", "control"])
    with bench.serving(), fake_powerctld(lambda _: {**STATUS, "mode": next(modes)}) as fake:
        refused(commission(bench.site(fake.path), typed="y\n"), "slurm-power control off")
    assert bench.front.pcs.discharge_watts == 0.0


def test_a_record_that_cannot_be_written_is_refused_before_power_moves(bench: Bench) -> None:
    (bench.folder / "state").write_text("a file is in the way")
    with bench.serving():
        refused(commission(bench.site(), "--yes"), "controller.state_directory")
    assert bench.front.pcs.discharge_watts == 0.0
