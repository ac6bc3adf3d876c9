"""The embedded store of series: the contract, its disk budget, and what a crash or damage costs."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.series import Resolution
from slurm_power.ports import SeriesReader, SeriesWriter, StoreError
from slurm_power.store.packing import ABSENT, UNKNOWN, pack, unpack
from slurm_power.store.reading import SeriesReading
from slurm_power.store.retention import Keep
from slurm_power.store.series import SqliteSeries
from tests.store.contract_series import START, Engine, SeriesContract, after, known

GRID = "circuit.grid.watts"


class Embedded(Engine):
    def __init__(self, file: Path) -> None:
        self._file = file
        self._open: list[SeriesReading] = []

    def writer(self) -> SeriesWriter:
        return SqliteSeries(self._file)

    def reader(self) -> SeriesReader:
        self._open.append(SeriesReading.open(self._file))
        return self._open[-1]

    def close(self) -> None:
        for reading in self._open:
            reading.close()


class TestEmbedded(SeriesContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[Engine]:
        engine = Embedded(tmp_path / "series.sqlite")
        yield engine
        engine.close()


def size_bytes(file: Path) -> int:
    return sum(part.stat().st_size for part in file.parent.glob(file.name + "*"))


def raw(store: SeriesReading, name: str = GRID) -> dict[float, float]:
    return known(store.read([name])[name])


whole = st.one_of(
    st.integers(-(2**53), 2**53),
    st.integers(-40_000, 40_000),
    st.sampled_from([UNKNOWN, ABSENT, 0x7FFE, 0x7FFF, -0x7FFF, -0x8000]),
)


@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(whole, min_size=width, max_size=width), min_size=1, max_size=9)
    )
)
@settings(deadline=None, max_examples=200)
def test_packing_loses_nothing(rows: list[list[int]]) -> None:
    table = np.array(rows, dtype=np.int64)
    assert (unpack(pack(table), *table.shape) == table).all()


@pytest.mark.parametrize("blob", [b"", b"nonsense", pack(np.zeros((3, 3), dtype=np.int64))[:-4]])
def test_a_damaged_blob_is_told_apart(blob: bytes) -> None:
    with pytest.raises(ValueError, match="packed block"):
        unpack(blob, 3, 3)
    with pytest.raises(ValueError, match="packed block"):
        unpack(pack(np.zeros((2, 2), dtype=np.int64)), 3, 3)


def test_the_disk_budget_is_kept_and_the_oldest_raw_goes_first(tmp_path: Path) -> None:
    file, budget_bytes = tmp_path / "series.sqlite", 1_500_000
    store = SqliteSeries(file, keep=Keep(disk_budget_bytes=budget_bytes))
    chance = np.random.default_rng(7)
    names = [f"gpu.n.{number}.watts" for number in range(400)]
    largest = 0
    for second in range(0, 3600 * 2, 2):
        watts = chance.normal(400.0, 30.0, len(names))
        store.add(after(second), dict(zip(names, watts.tolist(), strict=True)))
        if second % 60 == 0:
            largest = max(largest, size_bytes(file))
    kept = list(known(store.read([names[0]])[names[0]]))
    minutes = store.read([names[0]], None, None, Resolution.MINUTE)[names[0]]
    store.close()
    assert largest <= budget_bytes
    assert kept[-1] == 7198.0
    assert kept[0] > 3600.0, "without dropping the oldest, twice the budget would have been written"
    assert len(minutes) == 120, "the coarse tiers stay while raw data can go"


def test_a_smaller_budget_shrinks_the_file(tmp_path: Path) -> None:
    file = tmp_path / "series.sqlite"
    chance = np.random.default_rng(7)

    def write(store: SqliteSeries, first: int, seconds: int) -> None:
        for second in range(first, first + seconds):
            values = chance.normal(400.0, 30.0, 300).tolist()
            store.add(after(second), {f"gpu.n.{number}.watts": watts for number, watts in enumerate(values)})
        store.close()

    write(SqliteSeries(file), 0, 1200)
    before_bytes = size_bytes(file)
    write(SqliteSeries(file, keep=Keep(disk_budget_bytes=300_000)), 1200, 130)
    assert before_bytes > 450_000
    assert size_bytes(file) <= 300_000


def test_tiers_go_when_their_days_are_over(tmp_path: Path) -> None:
    day = timedelta(days=1).total_seconds()
    store = SqliteSeries(
        tmp_path / "s.sqlite", keep=Keep(raw_days=1.0, minute_days=2.0, quarter_hour_days=3.0)
    )
    for moment in (0.0, 1.5 * day, 2.5 * day, 3.5 * day, 3.5 * day + 60.0):
        store.add(after(moment), {GRID: moment / day})
    found = {
        resolution: [point.mean for point in store.read([GRID], None, None, resolution)[GRID]]
        for resolution in Resolution
    }
    store.close()
    assert found[Resolution.RAW] == pytest.approx([2.5, 3.5, 3.5], abs=1e-3)
    assert found[Resolution.MINUTE] == pytest.approx([1.5, 2.5, 3.5, 3.5], abs=0.1)
    assert found[Resolution.QUARTER_HOUR] == pytest.approx([1.5, 2.5, 3.5], abs=0.1)


def test_a_clock_that_is_set_back_loses_nothing(tmp_path: Path) -> None:
    store = SqliteSeries(tmp_path / "s.sqlite")
    for second in [*range(70), *range(30, 65), *range(70, 130)]:
        store.add(after(second + (0.5 if second == 33 else 0.0)), {GRID: float(second)})
    found = raw(store)
    minutes = store.read([GRID], None, None, Resolution.MINUTE)[GRID]
    store.close()
    assert set(range(130)) - set(found) == {33}
    assert found[33.5] == 33.0
    assert [point.at_seconds - START.timestamp() for point in minutes] == [0.0, 60.0, 120.0]


WRITER = """
import sys
from datetime import timedelta
from pathlib import Path
from slurm_power.store.series import SqliteSeries
from tests.store.contract_series import START
store = SqliteSeries(Path(sys.argv[1]))
for second in range(int(sys.argv[2]), 10**6, 7):
    store.add(START + timedelta(seconds=second), {f"gpu.n.{i}.watts": float(second) for i in range(200)})
    print(second, flush=True)
"""


def test_sigkill_at_any_moment_costs_no_tick_that_was_taken(tmp_path: Path) -> None:
    file, next_second, taken = tmp_path / "s.sqlite", 0, []
    for lines in (1, 9, 40, 120, 3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file), str(next_second)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        taken += [int(process.stdout.readline()) for _ in range(lines)]
        os.kill(process.pid, signal.SIGKILL)
        taken += [int(line) for line in process.stdout.read().splitlines()]
        process.stdout.close()
        process.wait()
        next_second = taken[-1] + 14  # one more may have been written than was said
    store = SqliteSeries(file)
    found = raw(store, "gpu.n.199.watts")
    store.close()
    assert set(taken) <= set(found)
    assert all(moment == watts for moment, watts in found.items())


def test_torn_ticks_and_chunks_cost_only_themselves(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    store = SqliteSeries(file)
    for second in range(190):
        store.add(after(second), {GRID: float(second)})
    store.close()
    with sqlite3.connect(file) as connection:
        newest = connection.execute("SELECT MAX(at_ms) FROM tick").fetchone()[0]
        connection.execute("UPDATE tick SET data = x'00' WHERE at_ms = ?", (newest,))
        connection.execute(
            "UPDATE chunk SET data = x'00' WHERE tier = 60 AND start_ms = ?",
            (round(after(60).timestamp() * 1000),),
        )
    connection.close()
    again = SqliteSeries(file)
    assert max(raw(again)) == 188.0
    for second in range(190, 1000):
        again.add(after(second), {GRID: float(second)})
    quarter = again.read([GRID], None, None, Resolution.QUARTER_HOUR)[GRID][0]
    again.close()
    assert quarter.coverage_ratio == pytest.approx(14 / 15, abs=0.002)


def test_what_cannot_be_written_says_so_and_is_taken_when_it_can(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    store = SqliteSeries(file, busy_seconds=0.1)
    for second in range(59):
        store.add(after(second), {GRID: 1.0})
    rival = sqlite3.connect(file, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.add(after(60), {GRID: 1.0, "new.watts": 2.0})
    rival.execute("ROLLBACK")
    rival.close()
    store.add(after(61), {GRID: 1.0, "new.watts": 2.0})
    found = raw(store)
    assert (len(found), 61.0 in found, raw(store, "new.watts")) == (60, True, {61.0: 2.0})
    store.close()


def test_no_number_is_unknown(tmp_path: Path) -> None:
    store = SqliteSeries(tmp_path / "s.sqlite")
    store.add(after(0), {"a.watts": float("nan"), "b.watts": float("inf"), "c.watts": 1e300})
    assert [raw(store, f"{letter}.watts") for letter in "abc"] == [{}, {}, {}]
    store.close()


def test_a_store_that_cannot_be_opened_says_which(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_bytes(b"no database at all" * 400)
    with pytest.raises(StoreError, match=r"s\.sqlite"):
        SqliteSeries(tmp_path / "s.sqlite")
    with pytest.raises(StoreError, match=r"none\.sqlite"):
        SeriesReading.open(tmp_path / "none.sqlite")


def test_few_names_and_many_find_the_same(tmp_path: Path) -> None:
    """Few are looked up by the index, many by one walk; names that are not there have no points."""
    values = {f"gpu.c1.GPU-{number}.watts": float(number) for number in range(2500)}
    store = SqliteSeries(tmp_path / "series.sqlite")
    store.add(after(0), values)
    store.add(after(1), values)
    many = store.read([*values, "gpu.c9.watts"])
    assert len(many) == 2501 and many["gpu.c9.watts"] == []
    for name in ("gpu.c1.GPU-0.watts", "gpu.c1.GPU-2499.watts", "gpu.c9.watts"):
        assert store.read([name, name])[name] == many[name]
    assert len(many["gpu.c1.GPU-2499.watts"]) == 2
    store.close()
