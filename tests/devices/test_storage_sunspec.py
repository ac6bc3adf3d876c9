"""Older SunSpec storage: bounds that make a setpoint, its end in our silence, and what is refused."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from slurm_power.config.devices import SunspecStorage
from slurm_power.controller.storage.commission import Commissioning
from slurm_power.devices import build_driver
from slurm_power.devices.storage_sunspec import SunspecStorageDriver
from slurm_power.devices.sunspec import Point, Values
from slurm_power.model.reading import Quality
from slurm_power.model.watch import Expectation, Watch
from slurm_power.ports import DeviceError
from tests.devices import benches
from tests.devices.benches import HEALTHS
from tests.devices.storage_bench import MAX_WATTS, StorageFront

Check = Callable[[StorageFront, SunspecStorageDriver], Awaitable[None]]


def tried(check: Check, *, opened: bool = True, charge_reads_positive: bool = False, **front: bool) -> None:
    async def run() -> None:
        port = benches.free_port()
        device = StorageFront(port, w_sign=-1.0 if charge_reads_positive else 1.0, **front)
        config = SunspecStorage(
            name="battery", address=f"127.0.0.1:{port}", charge_reads_positive=charge_reads_positive
        )
        async with benches.serving(device):
            driver = build_driver(config)
            assert isinstance(driver, SunspecStorageDriver)
            if opened:
                await driver.open()
            await check(device, driver)
            await driver.close()

    asyncio.run(run())


@pytest.mark.parametrize("charge_reads_positive", [False, True])
def test_both_directions_are_followed_and_read_back(charge_reads_positive: bool) -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        for watts in (4_000.0, 1_000.0, -3_000.0, -9_000.0, 2_500.0, 0.0):
            await driver.set_discharge(watts, 10.0)
            assert device.discharge_watts == pytest.approx(watts)
            assert (await driver.read()).discharge_watts == pytest.approx(watts)
            device.own_watts = 5_000.0  # whatever it would like to do
        assert not device.bounds_crossed
        assert device.beats > 6

    tried(check, charge_reads_positive=charge_reads_positive)


def test_it_reads_what_another_client_reads() -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        await driver.set_discharge(-3_330.0, 20.0)
        ours = await driver.read()

        def theirs() -> tuple[float, float, float, float]:
            client = SunSpecModbusClientDeviceTCP(
                1, ipaddr="127.0.0.1", ipport=device.address[1], timeout=2.0
            )
            client.scan()
            battery, control = client.models[802][0], client.models[124][0]
            battery.read()
            control.read()
            found = (battery.W.cvalue, battery.SoC.cvalue, battery.WHRtg.cvalue, control.OutWRte.cvalue)
            client.close()
            return found

        watts, soc_percent, capacity_wh, out_percent = await asyncio.to_thread(theirs)
        assert ours.discharge_watts == watts == -3_330.0
        assert ours.soc_ratio == pytest.approx(soc_percent / 100.0, abs=0.002)
        assert ours.energy_rating_kwh == capacity_wh / 1000.0 == 20.0
        assert out_percent == pytest.approx(-33.3)
        assert (ours.max_charge_watts, ours.max_discharge_watts) == (9_000.0, MAX_WATTS)
        assert (ours.soh_ratio, ours.quality, ours.remote, ours.alarms) == (0.97, Quality.GOOD, True, ())

    tried(check)


def test_in_our_silence_it_ends() -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        await driver.set_discharge(4_000.0, 1.0)
        assert driver.reversion_seconds(1.0) == 1.0
        await asyncio.sleep(0.7)
        await driver.set_discharge(4_000.0, 1.0)
        await asyncio.sleep(0.7)
        assert (await driver.read()).discharge_watts == 4_000.0, "it was renewed"
        await asyncio.sleep(0.6)
        assert (await driver.read()).discharge_watts == 0.0

    tried(check)


def test_release_ends_ours_and_leaves_the_owner_s_bounds() -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        await driver.set_discharge(-2_000.0, 10.0)
        await driver.release()
        assert device.image.raw(124, "StorCtl_Mod") == 0
        assert device.discharge_watts == 0.0
        device.image.put(124, "OutWRte", 80.0)
        device.image.put(124, "InWRte", 60.0)
        device.image.put_raw(124, "StorCtl_Mod", 3)
        await driver.release()
        assert (device.image.raw(124, "StorCtl_Mod"), device.image.value(124, "OutWRte")) == (3, 80.0)

    tried(check)


def test_local_out_of_range_and_what_does_not_stick_are_refused() -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        with pytest.raises(DeviceError, match=r"-9001 W is outside -9000 W to 10000 W"):
            await driver.set_discharge(-9_001.0, 10.0)
        device.image.put_raw(802, "LocRemCtl", 1)
        with pytest.raises(DeviceError, match=r"802\.LocRemCtl: under LOCAL"):
            await driver.set_discharge(1_000.0, 10.0)
        assert not (await driver.read()).usable()
        device.image.put_raw(802, "LocRemCtl", 0)
        device.forgets = True
        with pytest.raises(DeviceError, match=r"124\.OutWRte: wrote 1000, reads back 10000"):
            await driver.set_discharge(1_000.0, 10.0)
        assert device.image.raw(124, "StorCtl_Mod") == 0, "bounds that are not ours are never switched on"

    tried(check)


@pytest.mark.parametrize("point", ["OutWRte", "InWRte", "InOutWRte_RvrtTms"])
def test_one_that_cannot_be_commanded_or_does_not_let_go_is_refused_by_name(point: str) -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        device.image.put_not_implemented(124, point)
        with pytest.raises(DeviceError, match=rf"124\.{point}: not implemented; it "):
            await driver.open()

    tried(check, opened=False)


def test_state_limits_and_alarms_are_told() -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        device.soc_ratio = 0.96
        assert (await driver.read()).max_charge_watts == 0.0
        device.soc_ratio = 0.09
        assert (await driver.read()).max_discharge_watts == 0.0
        device.image.put_not_implemented(802, "SoH")
        device.image.put_raw(802, "Evt1", 0b110)  # over temperature: alarm and warning
        device.image.put_raw(802, "State", 99)
        reading = await driver.read()
        assert reading.quality is Quality.QUESTIONABLE
        assert reading.alarms == ("over temp alarm", "battery fault")
        device.image.put_raw(802, "Evt1", 0b100)
        device.image.put_raw(802, "State", 3)
        assert (await driver.read()).alarms == ()
        await driver.set_discharge(2_000.0, 10.0)
        device.own_watts = 2_000.0
        device.refresh()
        for point in ("W", "W_SF"):
            device.image.put_not_implemented(802, point)
        device.frozen = True
        assert (await driver.read()).discharge_watts == pytest.approx(2_000.0), "from voltage and current"
        device.image.put_not_implemented(802, "A")
        with pytest.raises(DeviceError, match=r"802\.W, 802\.A: the device has no value"):
            await driver.read()

    tried(check)


def test_a_device_without_a_heartbeat_is_asked_once() -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        for _ in range(3):
            await driver.set_discharge(1_000.0, 10.0)
            await driver.read()
        assert device.beats == 1

    tried(check, takes_heartbeat=False)


class Grid:
    """The meter above it: the site draws 30 kW, less what the battery gives."""

    def __init__(self, device: StorageFront) -> None:
        self.device = device

    async def open(self) -> None: ...

    async def read_watts(self) -> float:
        return 30_000.0 - self.device.discharge_watts

    async def close(self) -> None: ...


@pytest.mark.parametrize("reverts", [True, False])
def test_commissioning_proves_it_or_finds_that_it_does_not_let_go(
    reverts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm_power.controller.storage.commission.STEP_SECONDS", 8.0)
    monkeypatch.setattr("slurm_power.controller.storage.commission.SILENT_LEASE_SECONDS", 2.0)

    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        device.reverts = reverts
        expectation = Expectation(rating_watts=60_000.0, lowest_watts=-20_000.0, max_age_seconds=5.0)
        commissioning = Commissioning(driver, Grid(device), lambda _text: None, Watch("grid", expectation))
        found = await commissioning.run()
        assert found.charge_reads_negative
        assert (found.revert_seconds is not None) is reverts
        assert device.discharge_watts == 0.0

    tried(check)


@given(watts=st.floats(-9_000.0, 10_000.0))
def test_a_setpoint_never_asks_for_more_than_was_wanted(watts: float) -> None:
    driver = SunspecStorageDriver(SunspecStorage(name="b", address="127.0.0.1:1"))

    keys = {
        (124, "WChaMax"): 1_000,
        (802, "WChaRteMax"): 900,
        (802, "WDisChaRteMax"): 1_000,
        (124, "OutWRte"): 0,
    }
    scales = {124: 1, 802: 1}
    points = {
        key: Point(
            name=key[1],
            offset=0,
            words=1,
            format="h",
            not_implemented=None,
            scale=-2 if key[1] == "OutWRte" else scales[key[0]],
            symbols={},
        )
        for key in keys
    }
    out_raw, in_raw = driver._bounds(Values(keys, points), watts)
    given_watts = out_raw * 0.01 / 100.0 * 10_000.0
    assert in_raw == -out_raw
    assert abs(given_watts) <= abs(watts) + 1e-6
    assert abs(given_watts - watts) <= 1.0
    assert given_watts * watts >= 0.0


@pytest.mark.parametrize(("soc_ratio", "told"), [(1.2, "120 %"), (1.02, "102 %")])
def test_a_charge_that_cannot_be_is_no_reading(soc_ratio: float, told: str) -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        device.frozen = True
        device.image.put(802, "SoC", 100.0 * soc_ratio)
        with pytest.raises(DeviceError, match=rf"802\.SoC: {told} cannot be"):
            await driver.read()
        # A hair above full is full.
        device.image.put(802, "SoC", 100.4)
        assert (await driver.read()).soc_ratio == 1.0

    tried(check)


@pytest.mark.parametrize(("percent", "ratio", "quality"), HEALTHS)
def test_a_health_that_cannot_be_is_unknown(percent: float, ratio: float, quality: Quality) -> None:
    async def check(device: StorageFront, driver: SunspecStorageDriver) -> None:
        device.image.put(802, "SoH", percent)
        reading = await driver.read()
        assert reading.soh_ratio == pytest.approx(ratio)
        assert reading.quality is quality

    tried(check)
