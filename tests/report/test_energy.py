"""The statement of energy: its lines add up to the meter, and its residual is the one that was put in."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from slurm_power.model.series import Point, Resolution
from slurm_power.ports import SeriesReader
from slurm_power.report.covered_time import CoveredTime, Interval
from slurm_power.report.energy.energy import CircuitUse, Statement, statement
from slurm_power.report.energy.energy_jobs import job_uses
from slurm_power.report.energy.energy_reading import read_metered
from slurm_power.report.energy.energy_tally import Amount, JobUse
from slurm_power.report.site_facts import SITE_KEY, SiteFacts, site_facts
from slurm_power.store.places import open_series_reader
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.report.plant_days import COUNTER_RATIO, QUARTER, SITE, TrueJob, write_plant, write_quarter

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
START = SINCE.timestamp()
HOUR, DAY = 3600.0, 86_400.0


def job(number: int, user: str, node: str, *, start: float, hours: float, watts: float = 4_000.0) -> TrueJob:
    begin = START + start
    return TrueJob(
        job_id=str(number),
        user=user,
        account=f"{user}-lab",
        node=node,
        start_seconds=begin,
        end_seconds=begin + hours * HOUR,
        watts=watts,
    )


JOBS = (
    job(1, "alice", "c1", start=2 * HOUR + 100.0, hours=5.0),
    job(2, "bob", "c2", start=9 * HOUR, hours=30.0, watts=5_000.0),
    job(3, "alice", "c3", start=20 * HOUR + 7.0, hours=0.4, watts=3_000.0),
    job(4, "carol", "c3", start=40 * HOUR, hours=4.0),
)


@contextmanager
def found(directory: Path, since: datetime, until: datetime) -> Iterator[Statement]:
    store, reader = SqliteStore(directory / "powerctld.sqlite", read_only=True), open_series_reader(directory)
    try:
        site = site_facts(store.state(SITE_KEY))
        assert site is not None
        metered = read_metered(reader, site, since, until)
        jobs = list(job_uses(store, reader, metered.covered, since, until, now=until + timedelta(days=1)))
        yield statement(metered.circuits, jobs)
    finally:
        reader.close()
        store.close()


def hours(joules: float) -> float:
    return joules / 3600.0


def watt_hours(made: Statement, name: str) -> int:
    return next(line.watt_hours for line in made.lines if line.name == name)


def test_every_line_of_a_month_is_the_truth_and_all_add_up_to_the_meter(tmp_path: Path) -> None:
    days = 31
    jobs = [
        replace(
            one,
            job_id=f"{one.job_id}-{day}",
            start_seconds=one.start_seconds + 2 * day * DAY,
            end_seconds=one.end_seconds + 2 * day * DAY,
        )
        for day in range(15)
        for one in JOBS
    ]
    truth = write_plant(tmp_path, jobs, start_seconds=START, end_seconds=START + days * DAY)
    with found(tmp_path, SINCE, SINCE + timedelta(days=days)) as made:
        assert sum(line.watt_hours for line in made.lines) == made.metered.watt_hours
        assert made.metered.watt_hours == pytest.approx(hours(truth.meter), abs=1)
        assert watt_hours(made, "idle GPUs") == pytest.approx(hours(truth.idle_gpus), abs=5)
        assert watt_hours(made, "hosts") == pytest.approx(hours(truth.hosts), abs=1)
        assert watt_hours(made, "batteries") == pytest.approx(hours(truth.battery), abs=1)
        for rack in ("rack1", "rack2"):
            residual = watt_hours(made, f"residual of {rack}")
            assert residual == pytest.approx(hours(truth.rack_residual[rack]), abs=5)
        assert watt_hours(made, "residual of grid") == pytest.approx(hours(truth.site_residual), abs=10)
        job_joules = sum(truth.job_gpus.values())
        assert watt_hours(made, "GPUs of jobs") == pytest.approx(hours(job_joules * COUNTER_RATIO), abs=5)
        off = watt_hours(made, "GPUs of jobs: power readings less receipts")
        assert off == pytest.approx(-hours(job_joules * (COUNTER_RATIO - 1.0)), abs=5)
        assert made.covered_ratio == pytest.approx(1.0) and not made.is_estimate
        by_user = {group.name: group.joules for group in made.groups("user")}
        for user, joules in by_user.items():
            own = sum(truth.job_gpus[one.job_id] for one in jobs if one.user == user)
            assert joules == pytest.approx(own * COUNTER_RATIO, rel=1e-6)
        for row in made.circuits:
            parts = row.below_watt_hours + row.job_gpu_watt_hours + row.idle_gpu_watt_hours
            parts += row.host_watt_hours + row.battery_watt_hours + row.residual_watt_hours
            assert parts == row.metered_watt_hours
        assert [(row.name, row.depth) for row in made.circuits] == [("grid", 0), ("rack1", 1), ("rack2", 1)]


def test_costs_and_emissions_of_all_lines_add_up_to_the_energy_part_of_the_bill(tmp_path: Path) -> None:
    truth = write_plant(tmp_path, JOBS, start_seconds=START, end_seconds=START + 4 * DAY)
    with found(tmp_path, SINCE, SINCE + timedelta(days=4)) as made:
        assert made.metered.cost == pytest.approx(truth.cost, rel=1e-5)
        assert sum(line.cost or 0.0 for line in made.lines) == pytest.approx(made.metered.cost)
        assert sum(group.whole_cost or 0.0 for group in made.groups("account")) == pytest.approx(
            made.metered.cost
        )
        grams = made.metered.carbon_grams
        assert grams == pytest.approx(truth.meter / 3.6e6 * 300.0, rel=1e-5)
        assert sum(line.carbon_grams or 0.0 for line in made.lines) == pytest.approx(grams)
        carol = next(group for group in made.groups("user") if group.name == "carol")
        # From 16:00 on: four hours at the price of the day.
        assert carol.cost == pytest.approx(16.0 * COUNTER_RATIO * 0.3, rel=1e-3)


def test_costs_are_scaled_to_a_bill_that_is_given() -> None:
    used = Amount(3.6e6, 0.5, 10.0)
    grid = CircuitUse(
        name="grid", parent=None, metered=Amount(7.2e6, 1.0, 20.0), coverage_ratio=1.0, gpus=used
    )
    one = JobUse(job_id="1", user="a", account="", name="", used=used, gpu_seconds=1.0, method="counter")
    made = statement([grid], [one], energy_bill=3.0)
    assert made.metered.cost == pytest.approx(3.0)
    assert sum(line.cost or 0.0 for line in made.lines) == pytest.approx(3.0)
    (group,) = made.groups("user")
    assert group.cost == pytest.approx(1.5)
    assert group.whole_cost == pytest.approx(3.0)


def test_few_jobs_are_listed_and_all_are_counted() -> None:
    grid = CircuitUse(name="grid", parent=None, metered=Amount(1e9), coverage_ratio=1.0)
    jobs = (
        JobUse(job_id=str(n), user=f"u{n % 7}", account="", name="", used=Amount(float(n)), gpu_seconds=1.0,
               method="counter", coverage_ratio=1.0)
        for n in range(5000)
    )  # fmt: skip
    made = statement([grid], jobs, most_listed=10)
    assert [one.job_id for one in made.jobs] == [str(n) for n in range(4999, 4989, -1)]
    assert (made.tally.count, made.tally.used.joules) == (5000, sum(range(5000)))
    assert sum(group.joules for group in made.groups("user")) == sum(range(5000))
    assert len(made.tally._kept) < 2000


def test_two_tops_or_none_are_refused() -> None:
    grid = CircuitUse(name="grid", parent=None, metered=Amount(1.0), coverage_ratio=1.0)
    for circuits in ([], [grid, replace(grid, name="other")]):
        with pytest.raises(ValueError, match="top of the tree"):
            statement(circuits, [])


def test_jobs_are_cut_at_the_ends_of_the_span_by_their_recorded_power(tmp_path: Path) -> None:
    truth = write_plant(tmp_path, JOBS, start_seconds=START, end_seconds=START + 4 * DAY)
    until = SINCE + timedelta(days=4)
    with found(tmp_path, SINCE, SINCE + timedelta(days=1)) as first, found(
        tmp_path, SINCE + timedelta(days=1), until
    ) as rest:  # fmt: skip
        halves = [one.jobs for one in (first, rest)]
        cut = [next(one for one in jobs if one.job_id == "2") for jobs in halves]
        assert all("cut by its recorded power" in one.method for one in cut)
        assert cut[0].used.joules == pytest.approx(15 * HOUR * 5_000.0 * COUNTER_RATIO)
        whole = sum(one.used.joules for one in cut)
        assert whole == pytest.approx(truth.job_gpus["2"] * COUNTER_RATIO)
        assert sum(one.metered.watt_hours for one in (first, rest)) == pytest.approx(
            hours(truth.meter), abs=2
        )


def test_a_job_without_recorded_power_is_cut_evenly_in_time(tmp_path: Path) -> None:
    write_plant(tmp_path, (), start_seconds=START, end_seconds=START + DAY)
    store = SqliteStore(tmp_path / "powerctld.sqlite")
    store.put_job("9", {"job_id": "9", "user": "eve", "gpu_count": 8, "state": "ended", "energy_joules": 8e6,
                        "started": (SINCE - timedelta(hours=3)).isoformat(),
                        "ended": (SINCE + timedelta(hours=1)).isoformat()})  # fmt: skip
    store.close()
    with found(tmp_path, SINCE, SINCE + timedelta(days=1)) as made:
        (one,) = made.jobs
        assert one.method == "counter, cut evenly in time"
        assert one.used.joules == pytest.approx(2e6)
        assert one.is_estimate, "nobody said how much of it was read"


def test_a_gap_of_the_meter_is_a_line_of_its_own_and_makes_an_estimate(tmp_path: Path) -> None:
    away = (START + 12 * HOUR, START + 24 * HOUR)
    truth = write_plant(tmp_path, JOBS, start_seconds=START, end_seconds=START + 2 * DAY, gaps=[away])
    with found(tmp_path, SINCE, SINCE + timedelta(days=2)) as made:
        assert made.covered_ratio == pytest.approx(0.75) and made.is_estimate
        assert sum(line.watt_hours for line in made.lines) == made.metered.watt_hours
        assert made.metered.watt_hours == pytest.approx(hours(truth.meter), abs=1)
        unseen = 12 * HOUR * 5_000.0 + 0.4 * HOUR * 3_000.0
        out = watt_hours(made, "less: out of the meter's sight")
        assert out == pytest.approx(-hours(unseen * COUNTER_RATIO), rel=0.001)
        # The receipts know what was used meanwhile; the residuals are those of the time that was seen.
        for rack in ("rack1", "rack2"):
            residual = watt_hours(made, f"residual of {rack}")
            assert residual == pytest.approx(hours(truth.rack_residual[rack]), rel=0.001)


def test_a_gpu_that_is_lost_shows_in_the_residual_and_marks_its_job(tmp_path: Path) -> None:
    truth = write_plant(tmp_path, JOBS, start_seconds=START, end_seconds=START + 2 * DAY)
    store = SqliteStore(tmp_path / "powerctld.sqlite")
    lost = store.job("1") | {"receipt": {"v": 1, "coverage_ratio": 0.8, "method": "mixed"}}
    lost["energy_joules"] = 0.875 * float(str(lost["energy_joules"]))
    store.put_job("1", lost)
    store.close()
    with found(tmp_path, SINCE, SINCE + timedelta(days=2)) as made:
        assert sum(line.watt_hours for line in made.lines) == made.metered.watt_hours
        one = next(one for one in made.jobs if one.job_id == "1")
        assert one.is_estimate and one.method == "mixed"
        missing = 0.125 * truth.job_gpus["1"] * COUNTER_RATIO
        off = watt_hours(made, "GPUs of jobs: power readings less receipts")
        bias = (COUNTER_RATIO - 1.0) * sum(truth.job_gpus.values())
        assert off == pytest.approx(hours(missing - bias), abs=5)


def test_what_an_older_version_recorded_adds_up_too(tmp_path: Path) -> None:
    truth = write_plant(tmp_path, JOBS, start_seconds=START, end_seconds=START + 2 * DAY, sums=False)
    with found(tmp_path, SINCE, SINCE + timedelta(days=2)) as made:
        assert sum(line.watt_hours for line in made.lines) == made.metered.watt_hours
        assert watt_hours(made, "idle GPUs") == 0
        idle = watt_hours(made, "GPUs of jobs: power readings less receipts")
        assert idle > 0, "idle GPUs are not told apart there"
        for rack in ("rack1", "rack2"):
            residual = watt_hours(made, f"residual of {rack}")
            assert residual == pytest.approx(hours(truth.rack_residual[rack]), abs=5)


def test_400_days_over_missing_weeks_are_read_in_pieces(tmp_path: Path) -> None:
    weeks = [(START + (30 + 100 * n) * DAY, START + (51 + 100 * n) * DAY) for n in range(4)]
    site = {**SITE, "circuits": {"grid": {"parent": None, "metered": True, "nodes": []}}, "ess": {}}
    series, count = SqliteSeries(tmp_path / "series.sqlite"), 0
    with series._transaction():
        for at in (START + QUARTER * n for n in range(400 * 96)):
            if not any(first <= at < last for first, last in weeks):
                write_quarter(series, at, {"circuit.grid.watts": (10_000.0, 1.0)})
                count += 1
    series.close()
    facts, reader = site_facts(site), open_series_reader(tmp_path)
    assert facts is not None
    watched = Watched(reader)
    metered = read_metered(watched, facts, SINCE, SINCE + timedelta(days=400))
    reader.close()
    made = statement(metered.circuits, [])
    assert made.covered_ratio == pytest.approx(1.0 - 4 * 21 / 400)
    assert made.metered.watt_hours == count * 2_500
    assert metered.covered.gaps(START, START + 400 * DAY, DAY) == weeks
    assert watched.longest == timedelta(days=15), "memory does not grow with the span"


class Watched:
    """A reader that notes how much was asked for at once."""

    def __init__(self, reader: SeriesReader) -> None:
        self.longest = timedelta(0)
        self._reader = reader

    def close(self) -> None:
        self._reader.close()

    def names(self) -> Sequence[str]:
        return self._reader.names()

    def read(
        self,
        names: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
        resolution: Resolution = Resolution.RAW,
    ) -> Mapping[str, Sequence[Point]]:
        assert since is not None and until is not None
        self.longest = max(self.longest, until - since)
        return self._reader.read(names, since, until, resolution)


@pytest.mark.parametrize(("month", "length"), [(3, 31 * 24 - 1), (10, 31 * 24 + 1)])
def test_a_month_with_a_change_of_the_clock_has_the_hours_it_has(
    tmp_path: Path, month: int, length: int
) -> None:
    zone = ZoneInfo("Europe/Berlin")
    first, last = (datetime(2026, number, 1, tzinfo=zone).astimezone(UTC) for number in (month, month + 1))
    truth = write_plant(tmp_path, (), start_seconds=first.timestamp(), end_seconds=last.timestamp(),
                        site={**SITE, "timezone": "Europe/Berlin"})  # fmt: skip
    with found(tmp_path, first, last) as made:
        assert (last - first) == timedelta(hours=length)
        assert made.covered_ratio == pytest.approx(1.0)
        assert made.metered.watt_hours == pytest.approx(hours(truth.meter), abs=1)
        hosts = 3 * 600 * length
        assert watt_hours(made, "hosts") == hosts


def test_an_empty_store_has_a_statement_of_nothing(tmp_path: Path) -> None:
    write_plant(tmp_path, (), start_seconds=START, end_seconds=START)
    with found(tmp_path, SINCE, SINCE + timedelta(days=1)) as made:
        assert made.metered.watt_hours == 0 and made.covered_ratio == 0.0 and made.is_estimate


def test_covered_time() -> None:
    time = CoveredTime([Interval(0.0, 10.0, 10.0, 1.0, None), Interval(20.0, 10.0, 5.0, 3.0, None)])
    assert time.seconds(-5.0, 100.0) == 15.0
    assert (time.seconds(5.0, 15.0), time.seconds(20.0, 22.0)) == (5.0, 1.0)
    assert time.mean_rates(0.0, 30.0) == (2.0, 0.0)
    assert time.gaps(0.0, 40.0, 5.0) == [(10.0, 20.0), (30.0, 40.0)]
    assert CoveredTime([]).seconds(0.0, 10.0) == 0.0


@pytest.mark.parametrize("stored", [None, 3, {}, {"name": "x", "timezone": "UTC", "circuits": 4}])
def test_what_is_no_site_is_none(stored: object) -> None:
    assert site_facts(stored) is None


def test_the_nearest_meter() -> None:
    site = site_facts(SITE)
    assert isinstance(site, SiteFacts)
    assert (site.meter_of("hall"), site.meter_of("rack1"), site.meter_above("rack1")) == (
        "grid",
        "rack1",
        "grid",
    )
