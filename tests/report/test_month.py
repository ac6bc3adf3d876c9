"""A month's report adds up: its bill is reckoned here again, by other means, from what the meter said."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from slurm_power.forecast.supply import HeldValues, Supply
from slurm_power.model.billing_rules import BillingRules
from slurm_power.report.audit.proof import chain_proof
from slurm_power.report.month.month import MonthAccount, month_account, savings, worst_excursions
from slurm_power.report.month.month_bill import Terms
from slurm_power.report.month.month_bound import battery_bound
from slurm_power.report.month.month_columns import read_columns
from slurm_power.report.month.month_document import month_document
from slurm_power.report.month.month_report import month_report
from slurm_power.signals.billing_file import read_billing_rules
from slurm_power.store.places import open_series_reader
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.report.conftest import BERLIN
from tests.report.simulated_month import SimulatedWeeks, Values, write_quarters, write_state

TARIFF = """
name = "Office park"
fixed_price_per_month = 120.0
demand_interval_minutes = {minutes}

[[season]]
name = "all year"
from = "01-01"
to = "12-31"
[[season.period]]
days = "weekdays"
from = "08:00"
to = "20:00"
price_per_kwh = 0.31
[[season.period]]
days = "weekdays"
to = "08:00"
tiers = [{{ up_to_kwh = 10000, price_per_kwh = 0.19 }}, {{ price_per_kwh = 0.17 }}]
[[season.period]]
days = "weekdays"
from = "20:00"
tiers = [{{ up_to_kwh = 10000, price_per_kwh = 0.19 }}, {{ price_per_kwh = 0.17 }}]
[[season.period]]
days = "weekends"
price_per_kwh = 0.16

[[demand]]
name = "all hours"
price_per_kw = 6.0
ratchet_ratio = 0.95
ratchet_months = 2

[[demand]]
name = "evening"
days = "weekdays"
from = "16:00"
to = "20:00"
price_per_kw = 9.5
"""


def rules(folder: Path, minutes: int = 15) -> BillingRules:
    file = folder / "tariff.toml"
    file.write_text(TARIFF.format(minutes=minutes))
    return read_billing_rules(file)


def own_bill(
    samples: Values,
    start_seconds: float,
    zone: ZoneInfo,
    *,
    earlier_kw: float = 0.0,
    sample_seconds: int = 60,
) -> tuple[float, float]:
    """(kWh, money): a few lines of arithmetic on what the meter said, one sample each ``sample_seconds``."""
    per_quarter = 900 // sample_seconds
    by_rate = {"day": 0.0, "night": 0.0, "weekend": 0.0}
    peak = evening = 0.0
    for first in range(0, len(samples), per_quarter):
        local = datetime.fromtimestamp(start_seconds + first * sample_seconds, zone)
        kw = sum(samples[first : first + per_quarter].tolist()) / per_quarter / 1000.0
        weekend = local.weekday() >= 5
        rate = "weekend" if weekend else "day" if 8 <= local.hour < 20 else "night"
        by_rate[rate] += kw / 4.0
        peak = max(peak, kw)
        if not weekend and 16 <= local.hour < 20:
            evening = max(evening, kw)
    kwh = sum(by_rate.values())
    # The tiers are those of the whole month's energy, each hour pays them in the same shares.
    night = 0.19 * min(1.0, 10_000.0 / kwh) + 0.17 * max(0.0, 1.0 - 10_000.0 / kwh)
    money = 0.31 * by_rate["day"] + night * by_rate["night"] + 0.16 * by_rate["weekend"]
    return kwh, money + 6.0 * max(peak, 0.95 * earlier_kw) + 9.5 * evening + 120.0


@contextmanager
def stores(state: Path) -> Iterator[tuple[SqliteStore, Any]]:
    store = SqliteStore(state / "powerctld.sqlite", read_only=True)
    recorded = open_series_reader(state)
    try:
        yield store, recorded
    finally:
        recorded.close()
        store.close()


def account_of(state: Path, label: str, terms: Terms, until: datetime | None = None) -> MonthAccount:
    with stores(state) as (store, recorded):
        return month_account(store, recorded, label, terms, until=until)


@pytest.fixture
def terms(tmp_path: Path, weeks: SimulatedWeeks) -> Terms:
    return Terms(rules=rules(tmp_path), supply=Supply(zone=BERLIN), site=weeks.site, wear_per_kwh=0.02)


def month_of(weeks: SimulatedWeeks, label: str) -> tuple[float, float, slice]:
    year, month = (int(part) for part in label.split("-"))
    start = datetime(year, month, 1, tzinfo=BERLIN).timestamp()
    end = datetime(year, month + 1, 1, tzinfo=BERLIN).timestamp()
    return start, end, weeks.between(start, end)


def highest_kw(samples: Values) -> float:
    return float(samples.reshape(-1, 15).mean(axis=1).max()) / 1000.0


@pytest.mark.parametrize("label", ["2025-10", "2025-11"])
def test_the_bill_to_the_cent_and_the_energy(
    weeks: SimulatedWeeks, whole_state: Path, terms: Terms, label: str
) -> None:
    """October has an hour more; November's ratchet is 95 % of what October's meter said."""
    start, end, span = month_of(weeks, label)
    assert end - start == (31 * 24 + 1 if label == "2025-10" else 30 * 24) * 3600.0
    samples = weeks.import_watts[span]
    earlier = highest_kw(weeks.import_watts[month_of(weeks, "2025-10")[2]]) if label == "2025-11" else 0.0
    kwh, money = own_bill(samples, start, BERLIN, earlier_kw=earlier)
    account = account_of(whole_state, label, terms)
    assert account.bill is not None
    assert account.bill.total == pytest.approx(money, abs=0.005)
    assert sum(line.amount for line in account.bill.lines) == pytest.approx(money, abs=0.005)
    assert account.metered_kwh == pytest.approx(kwh, rel=1e-5)
    assert account.metered_kwh == pytest.approx(float(samples.sum()) / 60.0 / 1000.0, rel=0.01)
    watts, at = account.peak(account.import_watts)
    assert watts / 1000.0 == pytest.approx(highest_kw(samples), abs=1e-3)
    first = int((at.timestamp() - start) // 60)
    assert samples[first : first + 15].mean() == pytest.approx(watts, abs=0.2)
    assert account.columns.coverage == pytest.approx(1.0)
    assert account.unknown_months == (("2025-08", "2025-09") if label == "2025-10" else ("2025-09",))
    assert account.estimate  # since the ratchet may be higher
    assert account.is_whole


@pytest.mark.parametrize(("billed_kw", "ratchet_kw"), [(80.0, 76.0), (20.0, None)])
def test_a_ratchet_of_what_was_billed_before(
    weeks: SimulatedWeeks, whole_state: Path, terms: Terms, billed_kw: float, ratchet_kw: float | None
) -> None:
    start, _, span = month_of(weeks, "2025-11")
    october = highest_kw(weeks.import_watts[month_of(weeks, "2025-10")[2]])
    terms = replace(terms, billed_peaks_kw={"all hours": {"2025-09": billed_kw}})
    account = account_of(whole_state, "2025-11", terms)
    money = own_bill(weeks.import_watts[span], start, BERLIN, earlier_kw=max(billed_kw, october))[1]
    assert account.bill is not None
    assert account.bill.total == pytest.approx(money, abs=0.005)
    assert account.unknown_months == ()
    assert not account.estimate
    lines = {line.name: line.quantity for line in account.bill.lines}
    assert lines.get("all hours (ratchet)") == (None if ratchet_kw is None else pytest.approx(ratchet_kw))
    # Nothing done would have been billed by the same ratchet: only what is above it was saved.
    assert account.bill_without is not None
    if ratchet_kw is not None:
        assert {line.name: line.quantity for line in account.bill_without.lines}[
            "all hours (ratchet)"
        ] == pytest.approx(76.0)


@pytest.mark.parametrize("label", ["2025-10", "2025-11"])
def test_without_us_is_what_the_same_jobs_draw_without_levers(
    weeks: SimulatedWeeks, whole_state: Path, terms: Terms, label: str
) -> None:
    """The replay knows only meter, ledger and records; the virtual machine ran the month without levers."""
    start, _, span = month_of(weeks, label)
    without = np.repeat(weeks.without.circuit_watts[:, 0], 5)[span]
    account = account_of(whole_state, label, terms)
    peak, kwh = highest_kw(without), float(without.sum()) / 60.0 / 1000.0
    assert account.peak(account.natural_watts)[0] / 1000.0 == pytest.approx(peak, rel=0.01)
    assert peak > 1.1 * account.peak(account.import_watts)[0] / 1000.0
    assert float(account.natural_watts.sum()) / 4.0 / 1000.0 == pytest.approx(kwh, rel=0.01)
    money = own_bill(without, start, BERLIN)[1]
    assert account.bill is not None and account.bill_without is not None and account.saved is not None
    assert account.bill_without.total == pytest.approx(money, rel=0.002)
    assert account.saved == pytest.approx(money - account.bill.total, rel=0.1)
    assert account.saved > 50.0


def test_gaps_are_said_and_nothing_is_saved_in_them(
    weeks: SimulatedWeeks, tmp_path: Path, terms: Terms
) -> None:
    start, _, span = month_of(weeks, "2025-11")
    noon = datetime(2025, 11, 10, 12, tzinfo=BERLIN).timestamp()
    week = (noon, noon + 7 * 86_400.0)
    short = (start + 86_400.0, start + 86_400.0 + 10 * 60.0)  # most of a quarter
    little = (start + 2 * 86_400.0, start + 2 * 86_400.0 + 5 * 60.0)  # a third of one
    state = tmp_path / "state"
    write_state(weeks, state, without=(week, short, little))
    account = account_of(state, "2025-11", replace(terms, billed_peaks_kw={"all hours": {"2025-09": 1.0}}))
    assert account.columns.coverage == pytest.approx(1.0 - (7 * 1440 + 15) / (30 * 1440), abs=1e-6)
    assert account.estimate
    gaps = account.columns.gaps()
    assert gaps == [(short[0], short[0] + 900.0), week]
    samples, times = weeks.import_watts[span].copy(), weeks.times_seconds[span]
    known = np.ones(len(samples), dtype=bool)
    for since, until in gaps:
        known &= ~((times >= since) & (times < until))
    third = (times >= little[0]) & (times < little[1])
    samples[third] = samples[(times >= little[1]) & (times < little[0] + 900.0)].mean()
    assert account.metered_kwh == pytest.approx(float(samples[known].sum()) / 60.0 / 1000.0, rel=1e-6)
    # Filled in here once more: by the mean of the same quarter of all other days.
    quarters = samples.reshape(-1, 15).mean(axis=1)
    whole = known.reshape(-1, 15).all(axis=1)
    of_day = [(datetime.fromtimestamp(at, BERLIN).hour, int(at // 900) % 4) for at in times[::15]]
    same: dict[tuple[int, int], list[float]] = {}
    for number in np.flatnonzero(whole):
        same.setdefault(of_day[number], []).append(float(quarters[number]))
    for number in np.flatnonzero(~whole):
        quarters[number] = sum(same[of_day[number]]) / len(same[of_day[number]])
    october = highest_kw(weeks.import_watts[month_of(weeks, "2025-10")[2]])
    money = own_bill(np.repeat(quarters, 15), start, BERLIN, earlier_kw=october)[1]
    assert account.bill is not None
    assert account.bill.total == pytest.approx(money, abs=0.005)
    assert (account.natural_watts == account.import_watts)[~account.columns.known].all()
    with stores(state) as (store, recorded):
        document = month_report(store, recorded, "2025-11", terms, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert not document.checks[1].good
    assert document.checks[1].no == "An estimate: too little was metered"
    assert [row[2] for row in document.tables["gaps"].rows] == [0.25, 168.0]
    assert "are filled in" in document.tables["bill"].note


def test_battery_and_levers(weeks: SimulatedWeeks, whole_state: Path, terms: Terms) -> None:
    _, _, span = month_of(weeks, "2025-10")
    account = account_of(whole_state, "2025-10", terms)
    watts = np.repeat(weeks.controlled.discharge_watts, 5)[span]
    quarters = watts.reshape(-1, 15).mean(axis=1)
    battery = account.batteries["battery"]
    assert battery.discharged_kwh == pytest.approx(quarters[quarters > 0.0].sum() / 4000.0, rel=1e-3)
    assert battery.charged_kwh == pytest.approx(-quarters[quarters < 0.0].sum() / 4000.0, rel=1e-3)
    # The virtual battery loses 12 % of what goes round.
    assert battery.lost_kwh == pytest.approx(0.12 * battery.charged_kwh, rel=0.15)
    assert battery.soh_ratio == 0.97
    assert battery.full_cycles is not None and battery.full_cycles > 1.0
    best = battery_bound(account)
    assert best is not None and account.bill_without is not None and account.bill_battery_alone is not None
    assert best.total < min(account.bill_battery_alone.total, account.bill_without.total)
    with stores(whole_state) as (store, recorded):
        document = month_report(store, recorded, "2025-10", terms, now=datetime(2026, 1, 1, tzinfo=UTC))
        proof = chain_proof(store.rows())
    row = document.tables["batteries"].rows[0]
    assert row[-1] == pytest.approx(0.02 * battery.discharged_kwh)
    start, end, _ = month_of(weeks, "2025-10")
    caps = [entry for entry in weeks.entries if entry.kind == "cap" and start <= entry.at.timestamp() < end]
    levers = {row[0]: row for row in document.tables["levers"].rows}
    assert levers["power cap on a job"][1:4] == (
        len(caps),
        len({entry.job_id for entry in caps}),
        len({entry.user for entry in caps}),
    )
    document = month_document(account, before=None, levers=(), proof=proof, bound=best, figures=False)
    saved = account.bill_without.total - best.total
    assert f"had known the whole month beforehand could have saved {saved:,.2f}" in str(document.sections)


def held(weeks: SimulatedWeeks, value: Callable[[float], float | None]) -> HeldValues:
    times = weeks.times_seconds[::60]
    return HeldValues(
        seconds=tuple(times.tolist()),
        values=tuple(value(at) for at in times),
        end_seconds=float(weeks.times_seconds[-1]) + 60.0,
    )


def test_carbon_and_prices_from_files(weeks: SimulatedWeeks, whole_state: Path) -> None:
    start, _, span = month_of(weeks, "2025-11")
    hours = weeks.import_watts[span].reshape(-1, 60).mean(axis=1) / 1000.0
    at = start + 3600.0 * np.arange(len(hours))
    grams = np.where(at // 21_600 % 2 > 0, 500.0, 200.0)
    price = 0.1 + 0.01 * (at // 3600 % 24)
    hole = 5  # the first hours have no price
    carbon = held(weeks, lambda t: 500.0 if t // 21_600 % 2 else 200.0)
    prices = held(weeks, lambda t: None if t < start + 3600 * hole else 0.1 + 0.01 * (t // 3600 % 24))
    terms = Terms(
        supply=Supply(zone=BERLIN, carbon_g_per_kwh=carbon, price_per_kwh=prices),
        site=weeks.site,
        currency="EUR",
    )
    account = account_of(whole_state, "2025-11", terms)
    assert account.co2_kg == pytest.approx(float(hours @ grams) / 1000.0, rel=1e-5)
    assert account.unpriced_hours == hole
    price[:hole] = price[hole:].mean()
    assert account.bill is not None
    assert account.bill.total == pytest.approx(float(hours @ price), abs=0.01)
    told = savings(account)
    assert told["currency"] == "EUR"
    assert told["bill"] == round(account.bill.total, 2)
    assert told["estimate"] is True
    assert (told["unpriced_hours"], told["metered_ratio"]) == (hole, round(account.columns.coverage, 4))
    assert account.bill_without_most is not None
    assert told["saved_most"] == round(account.bill_without_most.total - account.bill.total, 2)
    assert account.co2_without_kg is not None and account.co2_kg is not None
    assert told["co2_kg_saved"] == round(account.co2_without_kg - account.co2_kg, 3)


def test_a_running_month_is_cut_at_now(weeks: SimulatedWeeks, whole_state: Path, terms: Terms) -> None:
    start, _, _ = month_of(weeks, "2025-11")
    now = datetime(2025, 11, 12, 7, 20, tzinfo=BERLIN)
    account = account_of(whole_state, "2025-11", terms, until=now)
    assert not account.is_whole
    assert account.end == datetime(2025, 11, 12, 7, 15, tzinfo=BERLIN)
    samples = weeks.import_watts[weeks.between(start, account.columns.end_seconds)]
    assert account.import_kwh == pytest.approx(float(samples.sum()) / 60_000.0, rel=1e-6)
    assert account.columns.coverage == pytest.approx(1.0)


@pytest.mark.parametrize("label", ["2025-09", "2026-02"])
def test_a_month_of_which_nothing_is_known(whole_state: Path, terms: Terms, label: str) -> None:
    with pytest.raises(ValueError, match="nothing was metered at grid from"):
        account_of(whole_state, label, terms)


def test_every_second_through_the_store_itself(tmp_path: Path) -> None:
    """Demand by 5 minutes is read from the 1-min tier; the last ticks are not rolled up yet."""
    start = datetime(2025, 11, 1, tzinfo=UTC)
    seconds = np.arange(3600)
    watts = (
        30_000.0
        + 4000.0 * np.sin(seconds / 400.0)
        + np.random.default_rng(2).normal(0.0, 300.0, len(seconds))
    )
    series = SqliteSeries(tmp_path / "series.sqlite")
    for second, value in enumerate(watts.tolist()):
        at = start + timedelta(seconds=second)
        series.add(at, {"circuit.grid.watts": value, "circuit.grid.limit_watts": 33_000.0})
    series.close()
    SqliteStore(tmp_path / "powerctld.sqlite").close()
    terms = Terms(rules=rules(tmp_path, minutes=5))
    account = account_of(tmp_path, "2025-11", terms, until=start + timedelta(hours=1))
    assert account.columns.circuit == "grid"  # found without a site.toml
    kwh = float(watts.sum()) / 3.6e6
    peak = float(watts.reshape(-1, 300).mean(axis=1).max()) / 1000.0
    assert account.import_kwh == pytest.approx(kwh, rel=1e-6)
    assert account.bill is not None
    assert account.bill.total == pytest.approx(0.16 * kwh + 6.0 * peak + 120.0, abs=0.005)  # a Saturday
    worst = worst_excursions(account)
    assert worst[0][1] == pytest.approx(watts.max(), abs=0.1)
    assert len(worst) == 10


@pytest.mark.slow
def test_400_days_with_missing_weeks_in_little_memory(tmp_path: Path) -> None:
    start = datetime(2024, 10, 1, tzinfo=UTC).timestamp()
    minutes = 400 * 1440
    watts = np.full(minutes, 1000.0)
    silent = np.arange(minutes) // (7 * 1440) % 5 == 3
    write_quarters(tmp_path / "series.sqlite", start, {"circuit.grid.watts": watts}, silent)
    SqliteStore(tmp_path / "powerctld.sqlite").close()
    with stores(tmp_path) as (_, recorded):
        tracemalloc.start()
        columns = read_columns(recorded, "grid", start, start + 400 * 86_400.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert columns.steps == 400 * 96
    assert columns.coverage == pytest.approx(1.0 - silent.mean(), abs=1e-9)
    assert len(columns.gaps()) == 11
    assert peak < 20e6
