"""Commissioning on the plant's battery behind real Modbus: what proves it, what does not, what stops it."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from containers.plant.pcs import PcsFront
from slurm_power.config import load_site
from slurm_power.controller.sensing.trust import note_trust, read_records, unproven, write_record
from slurm_power.controller.storage.commission import CommissionError, Commissioning, Findings
from slurm_power.devices.pcs_sunspec import SunspecPcsDriver
from slurm_power.model.reading import EssReading
from slurm_power.model.watch import Expectation, Watch
from slurm_power.ports import DeviceError
from tests.devices import benches

GOOD = Findings(
    step_watts=400.0,
    charge_reads_negative=True,
    response_seconds=0.4,
    ramp_watts_per_second=900.0,
    revert_seconds=6.0,
    expected_seconds=5.0,
)


class Meter:
    """A grid connection with so much import, less what the battery gives."""

    def __init__(self, front: PcsFront, watts: float = 20_000.0) -> None:
        self.front, self.watts = front, watts
        self.frozen: float | None = None
        self.least_watts = watts

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def read_watts(self) -> float:
        self.front.advance()
        import_watts = self.watts - self.front.pcs.discharge_watts
        self.least_watts = min(self.least_watts, import_watts)
        return import_watts if self.frozen is None else self.frozen


class Reversed(SunspecPcsDriver):
    """A driver for a device whose sign is the other way round."""

    async def read(self) -> EssReading:
        reading = await super().read()
        return replace(reading, discharge_watts=-reading.discharge_watts)


class Oversized(SunspecPcsDriver):
    """A driver for a device that gives four times what it is told."""

    async def set_discharge(self, discharge_watts: float, lease_seconds: float) -> None:
        await super().set_discharge(4.0 * discharge_watts, lease_seconds)


class LetsGo(SunspecPcsDriver):
    """A driver for a device that drops its setpoint with the connection, whatever its timer."""

    async def close(self) -> None:
        with suppress(DeviceError):
            await self.release()
        await super().close()


class Run:
    """One commissioning, and what was said."""

    def __init__(self, front: PcsFront, port: int, driver: type[SunspecPcsDriver] = SunspecPcsDriver) -> None:
        self.front = front
        self.storage_config = benches.pcs_config(port)
        self.storage = driver(self.storage_config)
        self.meter = Meter(front)
        self.said: list[str] = []
        self.at_step: Callable[[str], None] = lambda _text: None
        expectation = Expectation(rating_watts=60_000.0, lowest_watts=-20_000.0, max_age_seconds=5.0)
        self.commissioning = Commissioning(
            self.storage, self.meter, self._say, Watch("grid-meter", expectation)
        )

    def _say(self, text: str) -> None:
        self.said.append(text)
        self.at_step(text)


def tried(check: Callable[[Run], Awaitable[None]], driver: type[SunspecPcsDriver] = SunspecPcsDriver) -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.pcs_front(port)
        front.pcs.stored_joules = 0.5 * front.pcs.constants.rated_capacity_wh * 3600.0
        async with benches.serving(front):
            made = Run(front, port, driver)
            await made.storage.open()
            await check(made)
            await made.storage.close()
            front.advance()
            assert abs(front.pcs.discharge_watts) < 60.0

    asyncio.run(run())


def test_a_sound_battery_is_proven_with_little_power() -> None:
    async def check(run: Run) -> None:
        reading, watts = await run.commissioning.look()
        assert watts == pytest.approx(0.05 * min(reading.max_charge_watts, reading.max_discharge_watts))
        found = await run.commissioning.run()
        assert found.problems() == []
        assert found.revert_seconds is not None
        assert 4.0 < found.revert_seconds < 10.0
        assert found.response_seconds < 2.0
        assert found.ramp_watts_per_second > 50.0
        assert len(run.said) == 3

    tried(check)


def test_a_reversion_that_only_counts_down_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(run: Run) -> None:
        run.front.set_fault("reversion_cosmetic", 0.0, None)
        found = await run.commissioning.run()
        assert found.revert_seconds is None
        assert "outlives its controller" in found.problems()[0]

    monkeypatch.setattr("slurm_power.controller.storage.commission.STEP_SECONDS", 6.0)
    monkeypatch.setattr("slurm_power.controller.storage.commission.SILENT_LEASE_SECONDS", 2.0)
    tried(check)


def test_a_reversed_sign_is_found_by_the_first_step() -> None:
    async def check(run: Run) -> None:
        found = await run.commissioning.run()
        assert not found.charge_reads_negative
        assert "sign is reversed" in found.problems()[0]
        assert len(run.said) == 2

    tried(check, Reversed)


@pytest.mark.parametrize(("fault", "word"), [("local", "LOCAL"), ("alarm", "alarms"), ("nan", "no value")])
def test_what_happens_in_the_middle_ends_it_at_rest(fault: str, word: str) -> None:
    async def check(run: Run) -> None:
        def strike(text: str) -> None:
            if text.startswith("discharging"):
                run.front.set_fault(fault, 0.0, 2.0)

        run.at_step = strike
        with pytest.raises((CommissionError, DeviceError), match=word):
            await run.commissioning.run()

    tried(check)


def test_an_interruption_brings_it_to_rest() -> None:
    async def check(run: Run) -> None:
        task = asyncio.create_task(run.commissioning.run())
        await asyncio.sleep(1.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1.5)

    tried(check)


def test_a_device_that_hangs_in_the_middle_ends_at_rest() -> None:
    async def check(run: Run) -> None:
        def strike(text: str) -> None:
            if text.startswith("discharging"):
                run.front.set_fault("hang", 0.0, 3.0)

        run.at_step = strike
        with pytest.raises(DeviceError):
            await run.commissioning.run()

    tried(check)


def test_interrupting_again_does_not_keep_it_from_rest() -> None:
    async def check(run: Run) -> None:
        task = asyncio.create_task(run.commissioning.run())
        await asyncio.sleep(1.5)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.02)
        with pytest.raises(asyncio.CancelledError):
            await task
        run.front.advance()
        assert abs(run.front.pcs.discharge_watts) < 60.0
        assert not (await run.storage.read()).alarms

    tried(check)


def test_a_setpoint_of_somebody_else_is_left_alone() -> None:
    async def check(run: Run) -> None:
        other = SunspecPcsDriver(run.storage_config)
        await other.open()
        await other.set_discharge(3_000.0, 20.0)
        await asyncio.sleep(2.0)
        with pytest.raises(CommissionError, match="somebody commands it"):
            await run.commissioning.run()
        run.front.advance()
        assert run.front.pcs.discharge_watts == pytest.approx(3_000.0, abs=100.0)
        await other.release()
        await other.close()
        await asyncio.sleep(2.0)

    tried(check)


def test_more_power_than_was_asked_for_ends_it() -> None:
    async def check(run: Run) -> None:
        with pytest.raises(CommissionError, match="more than it was told"):
            await run.commissioning.run()

    tried(check, Oversized)


def test_a_setpoint_that_ends_with_the_connection_is_no_reversion() -> None:
    async def check(run: Run) -> None:
        found = await run.commissioning.run()
        assert "too early" in found.problems()[0]

    tried(check, LetsGo)


def test_a_load_that_falls_while_charging_leads_to_no_export() -> None:
    async def check(run: Run) -> None:
        def strike(text: str) -> None:
            if text.startswith("discharging"):
                run.meter.watts = 300.0

        run.at_step = strike
        with pytest.raises(CommissionError, match="exported"):
            await run.commissioning.run()
        assert run.meter.least_watts >= 0.0

    tried(check)


@pytest.mark.parametrize(("value", "word"), [(math.nan, "no number"), (500_000.0, "out of range")])
def test_a_meter_that_reads_no_power_is_not_begun_with(value: float, word: str) -> None:
    async def check(run: Run) -> None:
        run.meter.frozen = value
        with pytest.raises(CommissionError, match=word):
            await run.commissioning.look()

    tried(check)


def test_a_meter_that_stands_still_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_power.controller.storage.commission.STEP_SECONDS", 12.0)

    async def check(run: Run) -> None:
        run.front.set_fault("reversion_cosmetic", 0.0, None)
        run.meter.frozen = 3_000.0
        with pytest.raises(CommissionError, match="stuck"):
            await run.commissioning.run()

    tried(check)


@pytest.mark.parametrize(
    ("soc_ratio", "import_watts", "word"),
    [(0.2, 2e4, "between 30 and 70"), (0.8, 2e4, "between 30 and 70"), (0.5, 10.0, "exported")],
)
def test_outside_its_bounds_it_is_not_begun(soc_ratio: float, import_watts: float, word: str) -> None:
    async def check(run: Run) -> None:
        pcs = run.front.pcs
        pcs.stored_joules = soc_ratio * pcs.constants.rated_capacity_wh * 3600.0
        run.meter.watts = import_watts
        with pytest.raises(CommissionError, match=word):
            await run.commissioning.look()

    tried(check)


SITE = """
[site]
name = "s"
[controller]
state_directory = "{folder}"
[circuit.grid]
rating_watts = 60_000
limit_kind = "economic"
nodes = ["c1"]
[device.pcs]
driver = "sunspec_pcs"
address = "127.0.0.1:{port}"
[ess.battery]
circuit = "grid"
device = "pcs"
"""


def test_a_battery_is_used_when_proven_as_it_is_or_when_somebody_answers_for_it(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(SITE.format(folder=tmp_path, port=5020))
    notes: list[tuple[str, ...]] = []
    assert "slurm-power commission pcs battery" in unproven(load_site(file))["battery"]
    write_record(load_site(file), "battery", GOOD, datetime(2026, 1, 2, tzinfo=UTC), "root")
    assert unproven(load_site(file)) == {}
    assert read_records(tmp_path)["battery"]["by"] == "root"
    note_trust(load_site(file), lambda *words: notes.append(words))
    assert notes == []
    # Another address is another device.
    file.write_text(SITE.format(folder=tmp_path, port=5021))
    assert set(unproven(load_site(file))) == {"battery"}
    file.write_text(SITE.format(folder=tmp_path, port=5021) + 'uncommissioned = "ops: until the site test"\n')
    assert unproven(load_site(file)) == {}
    note_trust(load_site(file), lambda *words: notes.append(words))
    assert notes[-1][1:] == ("uncommissioned", "ess:battery", "used unproven: ops: until the site test")
    (tmp_path / "commissioned.json").write_text("{spoiled")
    assert read_records(tmp_path) == {}
