"""What every store of series promises; each engine's tests subclass it and say how to open one."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slurm_power.model.series import Point, Resolution
from slurm_power.ports import SeriesReader, SeriesWriter

START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)


class Engine(ABC):
    """One place where series are kept, opened for writing or for reading as often as wanted."""

    @abstractmethod
    def writer(self) -> SeriesWriter: ...

    @abstractmethod
    def reader(self) -> SeriesReader: ...

    def settle(self) -> None:  # noqa: B027  # most engines need not wait
        """Wait until what was written can be read, where that takes a while."""


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def known(points: "list[Point] | tuple[Point, ...]") -> dict[float, float]:
    return {point.at_seconds - START.timestamp(): point.mean for point in points if point.mean is not None}


class SeriesContract:
    """Values come back within half of their step, at their moment; what is not known stays unknown."""

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Engine:
        raise NotImplementedError

    def read(
        self,
        engine: Engine,
        name: str,
        since: float | None = None,
        until: float | None = None,
        resolution: Resolution = Resolution.RAW,
    ) -> list[Point]:
        engine.settle()
        found = engine.reader().read(
            [name],
            None if since is None else after(since),
            None if until is None else after(until),
            resolution,
        )
        assert list(found) == [name]
        return list(found[name])

    def fill(self, engine: Engine, seconds: int, value: Callable[[int], float | None]) -> None:
        writer = engine.writer()
        for second in range(seconds):
            writer.add(after(second), {"circuit.grid.watts": value(second)})
        writer.close()

    def test_values_come_back_at_their_moment(self, engine: Engine) -> None:
        chance = random.Random(5)
        truth = [round(chance.uniform(0.0, 900.0), 1) for _ in range(150)]
        self.fill(engine, 150, truth.__getitem__)
        found = known(self.read(engine, "circuit.grid.watts"))
        assert list(found) == list(range(150))
        assert [found[second] for second in range(150)] == pytest.approx(truth, abs=1e-6)

    def test_a_feeder_may_step_by_megawatts_and_back(self, engine: Engine) -> None:
        truth = [0.0, 5_000_000.1, 12.3, -4_000_000.0, 3276.8, 0.0, 3_000_000_000.0, -0.1]
        self.fill(engine, len(truth), truth.__getitem__)
        found = known(self.read(engine, "circuit.grid.watts"))
        assert list(found.values()) == pytest.approx(truth, abs=1e-6)

    def test_what_is_not_known_is_not_zero(self, engine: Engine) -> None:
        self.fill(engine, 6, lambda second: None if second in (0, 3) else 0.0 if second == 4 else 7.5)
        found = self.read(engine, "circuit.grid.watts")
        assert known(found) == {1.0: 7.5, 2.0: 7.5, 4.0: 0.0, 5.0: 7.5}
        assert all(point.mean is not None or point.coverage_ratio == 0.0 for point in found)

    def test_series_come_and_go(self, engine: Engine) -> None:
        writer = engine.writer()
        for second in range(130):
            values: dict[str, float | None] = {"circuit.grid.watts": 100.0 + second}
            if 50 <= second < 70:
                values |= {f"gpu.node{number}.GPU-{number}.watts": float(number) for number in range(2000)}
            writer.add(after(second), values)
        writer.close()
        found = known(self.read(engine, "gpu.node1999.GPU-1999.watts"))
        assert (min(found), max(found), set(found.values())) == (50.0, 69.0, {1999.0})
        assert len(known(self.read(engine, "circuit.grid.watts"))) == 130
        assert len(engine.reader().names()) == 2001

    def test_a_span_is_half_open(self, engine: Engine) -> None:
        self.fill(engine, 200, float)
        assert list(known(self.read(engine, "circuit.grid.watts", 58, 63))) == [58, 59, 60, 61, 62]
        assert known(self.read(engine, "circuit.grid.watts", 500, 600)) == {}

    def test_an_unknown_name_has_no_points(self, engine: Engine) -> None:
        self.fill(engine, 2, float)
        assert self.read(engine, "circuit.moon.watts") == []

    def test_minutes_hold_mean_extremes_and_coverage(self, engine: Engine) -> None:
        def value(second: int) -> float | None:
            if second < 60:
                return 100.0 if second % 2 else 300.0
            return None if second < 90 else 50.0

        self.fill(engine, 180, value)
        one, two, three = self.read(engine, "circuit.grid.watts", 0, 180, Resolution.MINUTE)
        assert (one.mean, one.least, one.most) == pytest.approx((200.0, 100.0, 300.0))
        assert (two.mean, two.least, two.most) == pytest.approx((50.0, 50.0, 50.0))
        assert [one.coverage_ratio, two.coverage_ratio, three.coverage_ratio] == pytest.approx([1, 0.5, 1])
        assert [point.at_seconds - START.timestamp() for point in (one, two, three)] == [0, 60, 120]

    def test_quarters_keep_the_energy_of_their_minutes(self, engine: Engine) -> None:
        chance = random.Random(6)
        truth = [round(500.0 + 400.0 * chance.random(), 1) for _ in range(2000)]
        self.fill(engine, 2000, truth.__getitem__)
        first, second = self.read(engine, "circuit.grid.watts", 0, 1800, Resolution.QUARTER_HOUR)
        for point, part in ((first, truth[:900]), (second, truth[900:1800])):
            assert point.mean == pytest.approx(sum(part) / 900, abs=0.1)
            assert (point.least, point.most) == pytest.approx((min(part), max(part)))
            assert point.coverage_ratio == pytest.approx(1.0)

    def test_it_goes_on_where_it_stopped(self, engine: Engine) -> None:
        for first in range(0, 100, 25):
            writer = engine.writer()
            for second in range(first, first + 25):
                writer.add(after(second), {"circuit.grid.watts": float(second), "ess.b.soc_ratio": 0.5})
            writer.close()
        found = known(self.read(engine, "circuit.grid.watts"))
        assert found == {float(second): float(second) for second in range(100)}
        assert known(self.read(engine, "ess.b.soc_ratio", 99)) == {99.0: 0.5}
