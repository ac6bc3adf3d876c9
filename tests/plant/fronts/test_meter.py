"""The grid meter over Modbus: a true one-second mean, and each fault as a client sees it."""

import time
from itertools import pairwise

import pytest
from pymodbus.exceptions import ConnectionException, ModbusIOException

from tests.plant.fronts.lab import PlantLab, SunSpec, eventually


def test_the_chain_names_a_three_phase_meter(meter: SunSpec) -> None:
    assert list(meter.models) == [1, 203]


def test_w_is_the_mean_of_the_last_second(lab: PlantLab, meter: SunSpec) -> None:
    lab.ask("base_load", watts=5000.0)
    eventually(lambda: meter.get(203, "W") > 12000.0, 3.0)
    shown = meter.get(203, "W")
    means = [record["grid_import_watts"] for record in lab.ask("history", seconds=3)["history"]]
    assert min(abs(mean - shown) for mean in means) <= 5.0
    phases = sum(meter.get(203, f"Wph{phase}") for phase in "ABC")
    assert phases == pytest.approx(shown, abs=20.0)
    assert meter.get(203, "Hz") == 50.0
    assert meter.get(203, "PhVphA") == 230.0


def test_imported_energy_grows_with_power(lab: PlantLab, meter: SunSpec) -> None:
    lab.ask("base_load", watts=60000.0)
    before = meter.raw(203, "TotWhImp")
    eventually(lambda: meter.raw(203, "TotWhImp") >= before + 30, 5.0)
    assert meter.raw(203, "TotWhExp") == 0


def test_it_refreshes_once_a_second(lab: PlantLab, meter: SunSpec) -> None:
    changes: list[float] = []
    last, begin = meter.get(203, "W"), time.monotonic()
    watts = 1000.0
    while len(changes) < 4:
        assert time.monotonic() < begin + 10.0
        watts += 10.0
        lab.ask("base_load", watts=watts)
        shown = meter.get(203, "W")
        if shown != last:
            changes.append(time.monotonic())
            last = shown
    for earlier, later in pairwise(changes):
        assert later - earlier == pytest.approx(1.0, abs=0.25)


def test_freeze_keeps_the_registers(lab: PlantLab, meter: SunSpec) -> None:
    eventually(lambda: abs(meter.get(203, "W") - lab.truth()["grid_import_watts"]) < 20.0)
    lab.fault("meter", "freeze")
    frozen = meter.get(203, "W")
    lab.ask("base_load", watts=9000.0)
    records = len(lab.ask("history", seconds=3600)["history"])
    eventually(lambda: len(lab.ask("history", seconds=3600)["history"]) >= records + 2)
    assert meter.get(203, "W") == frozen
    lab.ask("clear_faults", target="meter")
    eventually(lambda: meter.get(203, "W") > frozen + 8000.0, 3.0)


def test_nan_is_the_not_implemented_value(lab: PlantLab, meter: SunSpec) -> None:
    lab.fault("meter", "nan")
    start, model = meter.models[203]
    eventually(lambda: meter.read(start + model.points["W"].offset, 1) == [0x8000], 3.0)
    lab.ask("clear_faults")
    eventually(lambda: meter.get(203, "W") > 0.0, 3.0)


def test_a_hanging_meter_answers_nothing(lab: PlantLab) -> None:
    impatient = SunSpec(lab.meter_port, timeout_seconds=0.4)
    lab.fault("meter", "hang")
    with pytest.raises(ModbusIOException):
        impatient.get(203, "W")
    lab.ask("clear_faults")
    assert impatient.get(203, "W") > 0.0
    impatient.close()


def test_a_late_answer_belongs_to_its_own_request(lab: PlantLab) -> None:
    impatient = SunSpec(lab.meter_port, timeout_seconds=0.4)
    lab.fault("meter", "late", value=0.6)
    with pytest.raises(ModbusIOException):
        impatient.read(40002, 1)
    lab.ask("clear_faults")
    # The stale answer arrives while others are asked for; each of them must get its own.
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert impatient.read(40002, 1) == [1]
        assert impatient.read(40070, 1) == [203]
    impatient.close()


def test_disconnect_closes_connections(lab: PlantLab, meter: SunSpec) -> None:
    lab.fault("meter", "disconnect")
    with pytest.raises((ConnectionException, ModbusIOException, ConnectionError)):
        meter.get(203, "W")
    lab.ask("clear_faults")
    again = SunSpec(lab.meter_port)
    assert again.get(203, "W") > 0.0
    again.close()


def test_a_fault_ends_by_itself(lab: PlantLab) -> None:
    lab.fault("meter", "hang", duration_seconds=0.5)
    begin = time.monotonic()
    patient = SunSpec.__new__(SunSpec)
    with pytest.raises(ModbusIOException):
        patient.__init__(lab.meter_port, 0.2)  # type: ignore[misc]  # the first read must time out
    patient.close()
    eventually(lambda: time.monotonic() > begin + 0.5)
    SunSpec(lab.meter_port).close()


def test_nothing_can_be_written(meter: SunSpec) -> None:
    assert meter.put(203, "Evt", 1) == 2


def test_an_unknown_unit_is_no_device(meter: SunSpec) -> None:
    reply = meter.client.read_holding_registers(40000, count=2, device_id=9)
    assert reply.isError()
    assert reply.exception_code == 11
