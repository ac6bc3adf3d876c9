"""The PCS driver against the plant's PCS: order of writes, reversion, LOCAL, refusals."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes

from containers.plant.pcs import PcsFront
from slurm_power.devices import build_driver
from slurm_power.devices.pcs_sunspec import SunspecPcsDriver
from slurm_power.model.reading import Quality
from slurm_power.ports import DeviceError
from tests.devices import benches
from tests.devices.benches import HEALTHS
from tests.devices.contract import check_storage, check_unreachable, until


class Witness(PcsFront):
    """The plant's PCS, which also notes what is written to it, in order; may refuse or garble points."""

    def __init__(self, port: int) -> None:
        plain = benches.pcs_front(port)
        self.written: list[tuple[str, int]] = []
        self.refused: dict[str, ExcCodes] = {}
        self.deaf: set[str] = set()
        super().__init__(plain.pcs, plain.site, host="127.0.0.1", port=port)

    def write(self, addresses: range, registers: list[int]) -> ExcCodes | None:
        for model, name in [*((704, point) for point in POINTS), (715, "ControllerHb")]:
            if self.image.addresses(model, name) == addresses:
                if name in self.refused:
                    return self.refused[name]
                self.written.append((name, self.image.raw(model, name, registers)))
                if name in self.deaf:
                    registers[:] = self.image.registers
                    return None
        return super().write(addresses, registers)

    def names(self) -> list[str]:
        """The points written, without the heartbeat."""
        return [name for name, _ in self.written if name != "ControllerHb"]


POINTS = ("WSetRvrtTms", "WSetRvrt", "WSetEnaRvrt", "WSetMod", "WSet", "WSetEna")


def run_with(
    body: Callable[[Witness, SunspecPcsDriver], Awaitable[None]], timeout_seconds: float = 0.5
) -> None:
    async def run() -> None:
        port = benches.free_port()
        front = Witness(port)
        async with benches.serving(front):
            driver = SunspecPcsDriver(benches.pcs_config(port, timeout_seconds))
            try:
                await driver.open()
                await body(front, driver)
            finally:
                await driver.close()

    asyncio.run(run())


def test_contract() -> None:
    async def run() -> None:
        port = benches.free_port()
        async with benches.serving(benches.pcs_front(port)):
            driver = build_driver(benches.pcs_config(port))
            assert isinstance(driver, SunspecPcsDriver)
            await check_storage(driver, 6_000.0)

    asyncio.run(run())


def test_the_fallback_is_armed_before_the_setpoint_counts() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        await driver.set_discharge(5_000, 9.2)
        assert front.names() == list(POINTS)
        values = dict(front.written)
        assert (values["WSetRvrtTms"], values["WSetRvrt"], values["WSetEnaRvrt"]) == (10, 0, 0)
        assert (values["WSetMod"], values["WSet"], values["WSetEna"]) == (1, 5000, 1)

    run_with(body)


def test_a_refresh_rearms_in_place_and_toggles_nothing() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        await driver.set_discharge(5_000, 3)
        front.written.clear()
        deadline = asyncio.get_running_loop().time() + 4.5
        while asyncio.get_running_loop().time() < deadline:
            await driver.set_discharge(5_000, 3)
            assert front.pcs.control.enabled
            await asyncio.sleep(0.5)
        assert set(front.names()) == {"WSetRvrtTms", "WSet"}
        assert (await driver.read()).discharge_watts == pytest.approx(5_000, abs=50)

    run_with(body)


def test_reverts_by_itself_when_we_go_silent() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        await driver.set_discharge(5_000, 2)
        await until(driver, lambda now: now.discharge_watts > 4_000, 4, "discharge")
        # Reading is no renewal: only a new set_discharge is.
        await until(driver, lambda now: abs(now.discharge_watts) < 50, 6, "reversion")
        assert not front.pcs.control.enabled

    run_with(body)


def test_a_control_left_on_in_percent_is_taken_over_without_a_jump() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        client = AsyncModbusTcpClient("127.0.0.1", port=front.address[1])
        await client.connect()
        for point, raw in (("WSetMod", 0), ("WSetPct", 200), ("WSetEna", 1)):
            start = front.image.addresses(704, point).start
            assert not (await client.write_registers(start, [raw], device_id=1)).isError()
        client.close()
        front.written.clear()
        await driver.set_discharge(3_000, 5)
        names = front.names()
        assert names.index("WSet") < names.index("WSetMod")
        assert "WSetEna" not in names

    run_with(body)


def test_local_is_seen_and_refused() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        front.set_fault("local", 1.0, None)
        assert not (await driver.read()).remote
        front.written.clear()
        with pytest.raises(DeviceError, match=r"battery: 715\.LocRemCtl: under LOCAL control"):
            await driver.set_discharge(1_000, 10)
        assert front.written == []
        front.clear_faults()
        assert (await driver.read()).remote
        await driver.set_discharge(1_000, 10)

    run_with(body)


def test_alarms_are_words() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        front.set_fault("alarm", 1.0, None)
        reading = await driver.read()
        assert "dc over volt" in reading.alarms
        assert "inverter fault" in reading.alarms
        assert not reading.usable()

    run_with(body)


@pytest.mark.parametrize(
    ("code", "words"), [(ExcCodes.ILLEGAL_VALUE, "illegal value"), (ExcCodes.DEVICE_BUSY, "device busy")]
)
def test_a_refused_write_names_point_and_reason(code: ExcCodes, words: str) -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        front.refused["WSetRvrtTms"] = code
        with pytest.raises(DeviceError, match=rf"battery: write of 704\.WSetRvrtTms = 10: refused, {words}"):
            await driver.set_discharge(1_000, 10)
        assert not front.pcs.control.enabled

    run_with(body)


@pytest.mark.parametrize("point", ["WSetRvrtTms", "WSet"])
def test_a_write_that_does_not_take_is_never_enabled(point: str) -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        front.deaf.add(point)
        with pytest.raises(DeviceError, match=rf"704\.{point}: wrote .* reads back 0"):
            await driver.set_discharge(1_000, 10)
        assert not front.pcs.control.enabled

    run_with(body)


def test_a_device_without_heartbeat_is_commanded_all_the_same() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        front.refused["ControllerHb"] = ExcCodes.ILLEGAL_ADDRESS
        await driver.set_discharge(1_000, 10)
        assert front.pcs.control.enabled

    run_with(body)


def test_the_heartbeat_counts_while_we_command() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        await driver.read()
        assert front.written == []
        await driver.set_discharge(1_000, 30)
        for _ in range(3):
            await driver.read()
        beats = [value for name, value in front.written if name == "ControllerHb"]
        assert beats == sorted(set(beats))
        assert len(beats) == 4
        await driver.release()
        front.written.clear()
        await driver.read()
        assert front.written == []

    run_with(body)


def test_release_goes_through_zero() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        await driver.set_discharge(-4_000, 30)
        front.written.clear()
        await driver.release()
        assert [entry for entry in front.written if entry[0] != "ControllerHb"] == [
            ("WSet", 0),
            ("WSetEna", 0),
        ]

    run_with(body)


def test_out_of_range_is_refused_before_anything_is_written() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        front.written.clear()
        for watts in (12_001.0, -12_001.0, float("nan")):
            with pytest.raises(DeviceError, match="outside"):
                await driver.set_discharge(watts, 10)
        assert front.written == []

    run_with(body)


def test_full_and_empty() -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        front.pcs.stored_joules = 0.0
        empty = await driver.read()
        assert (empty.max_discharge_watts, empty.max_charge_watts) == (0.0, 12_000.0)
        front.pcs.stored_joules = front.pcs.capacity_joules
        full = await driver.read()
        assert (full.max_discharge_watts, full.max_charge_watts) == (12_000.0, 0.0)

    run_with(body)


@pytest.mark.parametrize(("model", "point"), [(713, "SoC"), (701, "W"), (713, "WHRtg")])
def test_no_value_is_an_error(model: int, point: str) -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.chain(benches.PCS_MODELS, port)
        front.image.put_not_implemented(model, point)
        async with benches.serving(front):
            driver = SunspecPcsDriver(benches.pcs_config(port))
            with pytest.raises(DeviceError, match=rf"battery: {model}\.{point}: the device has no value"):
                await driver.open()
            await driver.close()

    asyncio.run(run())


def test_the_setpoint_is_rounded_to_the_scale_of_the_device() -> None:
    async def run() -> None:
        port = benches.free_port()
        front = benches.chain(benches.PCS_MODELS, port)
        written: list[list[int]] = []

        def write(addresses: range, registers: list[int]) -> ExcCodes | None:
            if addresses == front.image.addresses(704, "WSet"):
                written.append([front.image.raw(704, "WSet", registers)])
            return None

        front.write = write  # type: ignore[method-assign]  # a device without physics, any write is fine
        async with benches.serving(front):
            driver = SunspecPcsDriver(benches.pcs_config(port))
            for watts in (1_849.0, -1_851.0, 12_049.0):
                await driver.open()
                await driver.set_discharge(watts, 10)
            await driver.close()
        # Steps of 100 W; the last would round to 12,000 W, which is still inside 12,049 W.
        assert written == [[18], [-19], [120]]

    asyncio.run(run())


def test_unreachable() -> None:
    async def run() -> None:
        driver = SunspecPcsDriver(benches.pcs_config(benches.free_port()))
        await check_unreachable(driver.open, "battery", 0.6)
        await check_unreachable(driver.read, "battery", 0.6)
        await check_unreachable(lambda: driver.set_discharge(0, 10), "battery", 0.6)

    asyncio.run(run())


def test_refuses_what_is_no_pcs() -> None:
    async def run() -> None:
        port = benches.free_port()
        async with benches.serving(benches.meter_front(port)):
            driver = SunspecPcsDriver(benches.pcs_config(port))
            with pytest.raises(
                DeviceError, match="battery: no PCS: SunSpec model 701, 702, 704, 713, 715 missing"
            ):
                await driver.open()
            await driver.close()

    asyncio.run(run())


@pytest.mark.parametrize(("percent", "told"), [(120.0, "120 %"), (101.0, "101 %"), (650.0, "650 %")])
def test_a_charge_that_cannot_be_is_no_reading(percent: float, told: str) -> None:
    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        front.refresh = lambda: None  # type: ignore[method-assign]  # registers stand as they are put
        front.image.put(713, "SoC", percent)
        with pytest.raises(DeviceError, match=rf"713\.SoC: {told} cannot be"):
            await driver.read()

    run_with(body)


@pytest.mark.parametrize(("percent", "ratio", "quality"), HEALTHS)
def test_a_health_that_cannot_be_is_unknown(percent: float, ratio: float, quality: Quality) -> None:
    """Taken at its word it would make a battery that is empty for ever, or has six times its energy."""

    async def body(front: Witness, driver: SunspecPcsDriver) -> None:
        front.refresh = lambda: None  # type: ignore[method-assign]  # registers stand as they are put
        front.image.put(713, "SoH", percent)
        reading = await driver.read()
        assert reading.soh_ratio == pytest.approx(ratio)
        assert reading.quality is quality

    run_with(body)
