"""Cycles for trading: so many a day, paced over the year, used up by every discharge."""

import math
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.plan.cycle_budget import CycleBook, CycleRules, TradeBudget

FULL_KWH = 10.0
MONDAY = date(2026, 3, 2)


def left(book: CycleBook, on: date, **rules: float) -> TradeBudget:
    return book.ahead(on, CycleRules(**rules), FULL_KWH, 40)


def test_a_day_has_its_own_bound() -> None:
    book = CycleBook()
    assert left(book, MONDAY, per_day=1.5).today_kwh == 15.0
    book.used(MONDAY, 12.0)
    said = left(book, MONDAY, per_day=1.5)
    assert said.today_kwh == pytest.approx(3.0)
    assert said.tomorrow_kwh == 15.0 and math.isinf(said.both_kwh)
    book.used(MONDAY, 12.0)
    assert left(book, MONDAY, per_day=1.5).today_kwh == 0.0
    assert left(book, MONDAY + timedelta(days=1), per_day=1.5).today_kwh == 15.0


def test_a_year_is_paced_and_what_is_left_over_stays() -> None:
    book = CycleBook()
    assert left(book, MONDAY, per_year=365.0).today_kwh == pytest.approx(10.0), (
        "one cycle a day, not 365 at once"
    )
    book.used(MONDAY, 4.0)
    tuesday = MONDAY + timedelta(days=1)
    assert left(book, tuesday, per_year=365.0).today_kwh == pytest.approx(16.0)
    assert left(book, tuesday, per_year=365.0, per_day=1.0).today_kwh == pytest.approx(10.0)
    assert left(book, tuesday, per_year=365.0).both_kwh == pytest.approx(26.0)


def test_what_peaks_took_has_to_be_made_good_before_trading_goes_on() -> None:
    book = CycleBook()
    book.used(MONDAY, 35.0)
    days = [left(book, MONDAY + timedelta(days=number), per_year=365.0).today_kwh for number in range(5)]
    assert days == pytest.approx([0.0, 0.0, 0.0, 5.0, 15.0])


def test_a_new_year_begins_anew_and_a_site_that_begins_late_has_its_share() -> None:
    book = CycleBook()
    december = date(2026, 12, 30)
    book.used(december, 0.0)
    assert left(book, december, per_year=365.0).today_kwh == pytest.approx(10.0)
    book.used(december, 35.0)
    assert left(book, date(2027, 1, 1), per_year=365.0).today_kwh == pytest.approx(10.0)
    assert book.year_kwh == 0.0


def test_a_clock_that_is_set_back_grants_nothing() -> None:
    book = CycleBook()
    book.used(MONDAY, 15.0)
    assert left(book, MONDAY - timedelta(days=40), per_day=1.5).today_kwh == 0.0
    assert book.day == MONDAY


def test_the_bounds_of_a_plan_leave_out_what_is_endless() -> None:
    budget = TradeBudget(today_kwh=3.0, tomorrow_kwh=math.inf, both_kwh=20.0, steps_today=2)
    bounds = budget.bounds(4)
    assert [(counts.tolist(), kwh) for counts, kwh in bounds] == [
        ([True, True, False, False], 3.0),
        ([True] * 4, 20.0),
    ]
    assert budget.plus(budget).today_kwh == 6.0
    assert np.all([kwh >= 0.0 for _, kwh in bounds])


@pytest.mark.parametrize(
    "kept",
    [
        None,
        [],
        {},
        {"day": "x", "since": "2026-01-01", "day_kwh": 0, "year_kwh": 0},
        {"day": "2026-01-01", "since": "2026-01-01", "day_kwh": "NaN", "year_kwh": 0},
        {"day": "2026-01-01", "since": "2026-01-01", "day_kwh": -1.0, "year_kwh": 0},
        {"day": 3, "since": "2026-01-01", "day_kwh": 0, "year_kwh": 0},
    ],
)
def test_what_is_no_book_is_an_empty_one(kept: object) -> None:
    assert CycleBook.from_json(kept) == CycleBook()


def test_a_book_is_kept() -> None:
    book = CycleBook()
    book.used(MONDAY, 4.0)
    assert CycleBook.from_json(book.to_json()) == book


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 40.0)), max_size=60))
def test_whoever_keeps_to_it_never_uses_more_than_the_year_grants(wishes: list[tuple[int, float]]) -> None:
    """Trading takes what it may at any pace; by each evening at most the days' shares are gone."""
    book, day = CycleBook(), MONDAY
    for days, wish in wishes:
        day += timedelta(days=days)
        book.used(day, min(wish, left(book, day, per_day=2.0, per_year=200.0).today_kwh))
        gone = (day - MONDAY).days + 1
        assert book.year_kwh <= 200.0 * FULL_KWH / 365 * gone + 1e-6
        assert book.day_kwh <= 2.0 * FULL_KWH + 1e-6
