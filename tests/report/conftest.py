"""Two simulated months, run once for all tests of reports."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.report.simulated_month import SimulatedWeeks, simulated_weeks, write_state

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="session")
def weeks() -> SimulatedWeeks:
    """October and November 2025 in Berlin; clocks are put back in the first."""
    start = datetime(2025, 10, 1, tzinfo=BERLIN)
    return simulated_weeks(start.timestamp(), datetime(2025, 12, 1, tzinfo=BERLIN).timestamp())


@pytest.fixture(scope="session")
def whole_state(weeks: SimulatedWeeks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with all of it; not to be changed."""
    state = tmp_path_factory.mktemp("whole")
    write_state(weeks, state)
    return state
