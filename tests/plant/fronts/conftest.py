"""One plant for the tests of a module; faults do not outlive a test."""

from collections.abc import Iterator

import pytest

from tests.plant.fronts.lab import PlantLab, SunSpec

HEARTBEAT_TIMEOUT_SECONDS = 2.0


@pytest.fixture(scope="module")
def running_lab() -> Iterator[PlantLab]:
    lab = PlantLab(pcs__heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS)
    try:
        lab.start()
        yield lab
        status, errors = lab.stop()
        assert (status, errors) == (0, "")
    finally:
        lab.close()


@pytest.fixture
def lab(running_lab: PlantLab) -> Iterator[PlantLab]:
    yield running_lab
    running_lab.ask("clear_faults")
    running_lab.ask("base_load", watts=0.0)


@pytest.fixture
def meter(lab: PlantLab) -> Iterator[SunSpec]:
    client = SunSpec(lab.meter_port)
    yield client
    client.close()


@pytest.fixture
def pcs(lab: PlantLab) -> Iterator[SunSpec]:
    client = SunSpec(lab.pcs_port)
    yield client
    client.put(715, "AlarmReset", 1)
    client.put(715, "OpCtl", 1)
    client.put(704, "WSetMod", 1)
    client.put(704, "WSetEna", 0)
    client.close()
