"""The forms of psbatch's values: what each means, its normal form, what is refused and why."""

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.cli.option_forms import (
    MOST_HOLD_SECONDS,
    OPTIONS,
    NotMeantError,
    finish_by,
    max_hold,
    power_cap,
    slurm_time_seconds,
)

# 1 March 2026, 09:00:00 in Berlin.
NOW = int(datetime(2026, 3, 1, 8, 0, 0, tzinfo=UTC).timestamp())


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("30", 1800),
        ("1:30", 90),
        ("2:00:00", 7200),
        ("1-12", 129_600),
        ("1-12:30", 131_400),
        ("0-0:0:5", 5),
        ("90s", 90),
        ("15m", 900),
        ("2H", 7200),
        ("1d", 86_400),
        ("30d", MOST_HOLD_SECONDS),
        ("0s", 0),
    ],
)
def test_longest_holds(value: str, seconds: int) -> None:
    assert max_hold(value) == f"{seconds}s"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("31d", "more than 30 days"),
        ("30-0:0:1", "more than 30 days"),
        ("soon", "no time"),
        ("-5", "no time"),
        ("1.5h", "no time"),
        ("1:2:3:4", "no time"),
        ("1::2", "no time"),
        ("s", "no time"),
        ("\u0663", "no time"),
        ("UNLIMITED", "no time"),
        ("9" * 13, "no time"),
    ],
)
def test_what_is_no_longest_hold(value: str, why: str) -> None:
    with pytest.raises(NotMeantError, match=why):
        max_hold(value)


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (f"@{NOW + 5}", "2026-03-01T08:00:05"),
        ("now+90", "2026-03-01T08:01:30"),
        ("now+90seconds", "2026-03-01T08:01:30"),
        ("now+1minute", "2026-03-01T08:01:00"),
        ("now+2hours", "2026-03-01T10:00:00"),
        ("now+3days", "2026-03-04T08:00:00"),
        ("now+1week", "2026-03-08T08:00:00"),
        ("18:00", "2026-03-01T17:00:00"),
        ("8:59", "2026-03-02T07:59:00"),  # has been today: the next such
        ("09:00:00", "2026-03-02T08:00:00"),
        ("2026-03-02", "2026-03-01T23:00:00"),  # the beginning of the day, local time
        ("2026-03-29T01:30", "2026-03-29T00:30:00"),
        ("2026-03-29T03:30:10", "2026-03-29T01:30:10"),  # summer time by now
        ("2027-02-28", "2027-02-27T23:00:00"),
    ],
)
def test_moments(value: str, at: str) -> None:
    expected = int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp())
    assert finish_by(value, NOW) == f"@{expected}"


def test_the_next_such_time_after_the_last_of_a_month() -> None:
    now = int(datetime(2026, 12, 31, 21, 0, tzinfo=UTC).timestamp())
    assert finish_by("7:00", now) == f"@{int(datetime(2027, 1, 1, 6, 0, tzinfo=UTC).timestamp())}"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("2026-02-28", "in the past"),
        (f"@{NOW}", "in the past"),
        ("now+0", "in the past"),
        ("2028-01-01", "366 days"),
        ("now+400days", "366 days"),
        ("2027-02-30", "no moment"),
        ("2026-13-01", "no moment"),
        ("26-12-01", "no moment"),
        ("02026-12-01", "no moment"),
        ("1969-12-31", "no moment"),
        ("2026-12-01T25:00", "no moment"),
        ("2026-12-01T", "no moment"),
        ("T18:00", "no moment"),
        ("24:00", "no moment"),
        ("18", "no moment"),
        ("18:60", "no moment"),
        ("now", "no moment"),
        ("now+", "no moment"),
        ("now+s", "no moment"),
        ("now+5s", "no moment"),
        ("now+1fortnight", "no moment"),
        ("now-5", "no moment"),
        ("@", "no moment"),
        ("@1e9", "no moment"),
        ("tomorrow", "no moment"),
        ("@999999999999", "366 days"),
    ],
)
def test_what_is_no_moment(value: str, why: str) -> None:
    with pytest.raises(NotMeantError, match=why):
        finish_by(value, NOW)


@pytest.mark.parametrize(
    ("value", "watts"),
    [
        ("400", "400"),
        ("400W", "400"),
        ("400w", "400"),
        ("0.4kW", "400"),
        ("1", "1"),
        ("100KW", "100000"),
        ("350.6", "351"),
    ],
)
def test_caps(value: str, watts: str) -> None:
    assert power_cap(value) == watts


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("0", "not between"),
        ("100001", "not between"),
        ("101kW", "not between"),
        ("-3", "no power"),
        ("nan", "no power"),
        ("inf", "no power"),
        ("1e3", "no power"),
        ("4_0", "no power"),
        (".5kW", "no power"),
        ("5.", "no power"),
        ("400 W", "no power"),
        ("70%", "no power"),
        ("W", "no power"),
    ],
)
def test_what_is_no_cap(value: str, why: str) -> None:
    with pytest.raises(NotMeantError, match=why):
        power_cap(value)


@pytest.mark.parametrize("option", list(OPTIONS.values()), ids=list(OPTIONS))
@given(
    value=st.text(max_size=30)
    | st.from_regex(r"(now\+|@)?\d{0,4}([-:T.]?\d{1,4}){0,5}(s|m|h|d|kW|W|days)?", fullmatch=True)
)
def test_a_normal_form_means_itself_and_anything_else_is_refused(option: object, value: str) -> None:
    assert hasattr(option, "normal")
    try:
        word = option.normal(value)
    except NotMeantError as error:
        assert str(error)
        return
    # A normal form stands in variables, licences and AdminComment: only what needs no quoting in any of them.
    assert re.fullmatch(r"[A-Za-z0-9@._,/-]+", word)
    if not word.startswith("@") or int(word[1:]) > time.time() + 60.0:  # it may be in the past by now
        assert option.normal(word) == word


def test_long_values_are_cut_short() -> None:
    with pytest.raises(NotMeantError, match="longer than"):
        OPTIONS["max-hold"].normal("1" * 200)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129_600), ("x", None), ("", None)],
)
def test_time_limits_as_slurm_reads_them(text: str, seconds: int | None) -> None:
    assert slurm_time_seconds(text) == seconds


def test_names_follow_one_scheme() -> None:
    assert [option.variable for option in OPTIONS.values()] == [
        "SLURM_POWER_WORKLOAD",
        "SLURM_POWER_FLEX",
        "SLURM_POWER_MAX_HOLD",
        "SLURM_POWER_FINISH_BY",
        "SLURM_POWER_CAP",
        "SLURM_POWER_TIER",
        "SLURM_POWER_TIERS_OK",
        "SLURM_POWER_MIN_QUALITY",
    ]
    assert OPTIONS["power-cap"].user_variable == "PSBATCH_POWER_CAP"
    assert OPTIONS["max-hold"].site_key == "default_max_hold"
