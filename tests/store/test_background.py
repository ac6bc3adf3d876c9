"""Series behind a queue: a store that hangs, refuses or comes late never holds up who records."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from slurm_power.controller.records.recorder import Recorder
from slurm_power.plan.policy import Policy
from slurm_power.ports import StoreError
from slurm_power.store.background import BackgroundSeries
from slurm_power.store.sqlite import SqliteStore
from tests.plan.situations import running, situation
from tests.store.contract_series import after


class Balky:
    """A store that takes ticks while ``open``, and refuses them with ``refusal``."""

    def __init__(self) -> None:
        self.taken: list[float | None] = []
        self.open = threading.Event()
        self.open.set()
        self.refusal: Exception | None = None
        self.closed = False

    def add(self, at: datetime, values: Mapping[str, float | None]) -> None:  # noqa: ARG002  # its port
        self.open.wait(10.0)
        if self.refusal is not None:
            raise self.refusal
        self.taken.append(values["a.watts"])

    def close(self) -> None:
        self.closed = True


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_store_that_hangs_costs_the_oldest_ticks_only() -> None:
    store = Balky()
    series = BackgroundSeries(lambda: store, queue_ticks=10)
    store.open.clear()
    series.add(after(0), {"a.watts": 0.0})
    until(lambda: series.queued_ticks == 0)  # taken out, and stuck in the store
    began = time.monotonic()
    for number in range(1, 31):
        series.add(after(number), {"a.watts": float(number)})
    assert time.monotonic() - began < 1.0
    assert "oldest ticks are dropped" in series.problem
    assert series.lost_ticks == 20
    store.open.set()
    until(lambda: series.queued_ticks == 0)
    series.add(after(31), {"a.watts": 31.0})
    series.close()
    assert store.taken == [0.0, *map(float, range(21, 32))]
    assert store.closed
    assert series.problem == ""


def test_a_store_that_refuses_is_tried_again_and_told_of_in_the_ledger(tmp_path: Path) -> None:
    store = Balky()
    ledger = SqliteStore(tmp_path / "s.sqlite")
    series = BackgroundSeries(lambda: store, queue_ticks=10)
    recorder = Recorder(ledger, Policy(), series)
    snapshot = situation(jobs=(running("1", ("c1",)),))
    for refusal in (StoreError("series.sqlite: disk full"), ValueError("odd"), KeyError("a.watts")):
        store.refusal = refusal
        recorder.series(snapshot)
        until(lambda: series.problem != "")
        recorder.series(snapshot)
    assert [(e.kind, e.subject, e.reason) for e in ledger.entries()] == [
        ("fault", "store:series", "series.sqlite: disk full")
    ]
    store.refusal = None
    series.add(after(0), {"a.watts": 1.0})
    until(lambda: series.problem == "")
    recorder.series(snapshot)
    assert [e.kind for e in ledger.entries()] == ["fault", "fault over"]
    series.close()
    ledger.close()


def test_a_store_that_cannot_be_opened_at_first_is_opened_later() -> None:
    store = Balky()
    ready = threading.Event()

    def opened() -> Balky:
        if not ready.is_set():
            raise StoreError("read-only disk")
        return store

    series = BackgroundSeries(opened, queue_ticks=5)
    series.add(after(0), {"a.watts": 0.0})
    until(lambda: series.problem == "read-only disk")
    ready.set()
    series.add(after(1), {"a.watts": 1.0})
    until(lambda: series.problem == "")
    series.close()
    assert store.taken == [0.0, 1.0]
