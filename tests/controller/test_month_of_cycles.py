"""What the controller writes each cycle is what a month's report reads."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from slurm_power.controller.records.series_values import series_values
from slurm_power.plan.policy import Policy
from slurm_power.report.month.month import month_account
from slurm_power.report.month.month_bill import Terms
from slurm_power.store.places import open_series_reader
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.controller.test_load_feed import capped
from tests.plan.situations import site


def test_a_quarter_of_cycles(tmp_path: Path) -> None:
    """Each second 14 kW are imported, 2 kW come from the battery, and a cap withholds 1.6 kW."""
    start = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
    values = series_values(capped(), Policy())
    series = SqliteSeries(tmp_path / "series.sqlite")
    for second in range(901):
        series.add(start + timedelta(seconds=second), values)
    series.close()
    store = SqliteStore(tmp_path / "powerctld.sqlite")
    recorded = open_series_reader(tmp_path)
    until = start + timedelta(minutes=15)
    account = month_account(store, recorded, "2026-01", Terms(site=site()), until=until)
    recorded.close()
    store.close()
    last = account.columns.steps - 1
    assert account.columns.known.tolist() == [False] * last + [True]
    assert account.import_watts[last] == pytest.approx(14_000.0)
    assert account.natural_watts[last] == pytest.approx(17_600.0)
    assert account.columns.limit_watts[last] == 30_000.0
    battery = account.columns.batteries["battery"]
    assert battery.discharge_watts[last] == 2000.0
    assert battery.soc_ratio[last] == pytest.approx(0.6)
    assert battery.soh_ratio[last] == 1.0
    # Before anything was metered the one known value stands for all, and nothing was saved.
    assert np.all(account.natural_watts[:last] == account.import_watts[:last])
    assert account.estimate
