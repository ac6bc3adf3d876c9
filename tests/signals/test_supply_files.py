"""Files of prices, carbon, limits and tariffs: what they say, each mistake with its row, and their loss."""

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.config.supply import CarbonUnit, LimitUnit, PriceUnit, SupplyConfig
from slurm_power.forecast.supply import HeldValues
from slurm_power.signals.held_file import SupplyFileError, read_held_values
from slurm_power.signals.supply_files import SupplyFiles
from slurm_power.signals.tariff_file import read_tariff

BERLIN = ZoneInfo("Europe/Berlin")
TOML = """
name = "Industrial"
[[season]]
name = "summer"
from = "06-01"
to = "09-30"
demand_price_per_kw = 15.5
[[season.period]]
days = "weekdays"
from = "12:00"
to = "18:30"
price_per_kwh = 0.27
demand_price_per_kw = 20
[[season.period]]
days = "weekdays"
to = "12:00"
price_per_kwh = 0.09
[[season.period]]
days = "weekdays"
from = "18:30"
price_per_kwh = 0.09
[[season.period]]
days = ["saturday", "sunday"]
price_per_kwh = -0.01
[[season]]
name = "winter"
from = "10-01"
to = "05-31"
[[season.period]]
price_per_kwh = 0.07
"""
SCHEDULE = {
    "name": "TOU",
    "schedule": [
        {
            "id": "Summer-Weekday",
            "effective_start": "06-01",
            "effective_end": "9-30",
            "dow_mask": "WEEKDAYS",
            "times": [0, 8, 18],
            "tariffs": [0.05, 0.25, 0.05],
            "demand_charge": 15.51,
        },
        {
            "id": "Summer-Weekend",
            "effective_start": "06-01",
            "effective_end": "9-30",
            "dow_mask": "WEEKENDS",
            "times": [0],
            "tariffs": [0.04],
            "demand_charge": 0,
        },
        {
            "id": "Winter",
            "effective_start": "10-01",
            "effective_end": "5-31",
            "dow_mask": "ALL",
            "times": [0],
            "tariffs": [0.06],
        },
    ],
}


def held(folder: Path, text: str, **changes: object) -> HeldValues:
    file = folder / "values.csv"
    file.write_text(text)
    options = {"column": None, "factor": 1.0, "zone": UTC, "negative": False, "lasting": False, **changes}
    return read_held_values(file, **options)  # type: ignore[arg-type]  # options given by name


def problems(folder: Path, text: str, **changes: object) -> list[str]:
    with pytest.raises(SupplyFileError) as caught:
        held(folder, text, **changes)
    return [problem.removeprefix(f"{folder}/values.csv: ") for problem in caught.value.problems]


def test_rows_in_any_order_and_form_become_values(tmp_path: Path) -> None:
    text = (
        "time,note,usd\n"
        "2026-01-01T02:00:00+01:00,a,30\n"
        "1767222000,b,-10\n"
        '"2026-01-01 00:00:00",c,20\n\n'
        "2026-01-01T02:00Z,d,\n"
    )
    found = held(tmp_path, text, column="usd", factor=1e-3, negative=True)
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    # The second row is 2025-12-31T23:00Z.
    assert found.seconds == (start - 3600.0, start, start + 3600.0, start + 7200.0)
    assert found.values == (-0.01, 0.02, 0.03, None)
    assert found.end_seconds == start + 7200.0 + 2 * 3600.0


def test_the_last_limit_has_no_end(tmp_path: Path) -> None:
    found = held(tmp_path, "t,limit\n0,5\n", factor=1e3, lasting=True)
    assert list(found.pieces(1e9, 1e9 + 1.0)) == [(1e9, 1e9 + 1.0, 5_000.0)]
    lone = held(tmp_path, "t,price\n0,5\n")
    assert list(lone.pieces(0.0, 7200.0)) == [(0.0, 3600.0, 5.0), (3600.0, 7200.0, None)]


def test_local_times_over_clock_changes(tmp_path: Path) -> None:
    autumn = held(tmp_path, "t,v\n2026-10-25 01:00,1\n2026-10-25 02:00,2\n2026-10-25 02:00,3\n", zone=BERLIN)
    first = datetime(2026, 10, 24, 23, tzinfo=UTC).timestamp()
    assert autumn.seconds == (first, first + 3600.0, first + 7200.0)
    assert autumn.values == (1.0, 2.0, 3.0)
    assert problems(tmp_path, "t,v\n2026-03-29 02:30,1\n", zone=BERLIN) == [
        "row 2, column 'v': time '2026-03-29 02:30' does not exist in Europe/Berlin: clocks go forward there"
    ]


def test_each_bad_row_is_named_at_once(tmp_path: Path) -> None:
    text = "t,v\nsoon,1\n0,much\n0,-1\n900,1e300\n1767222000000,3\n1800\n1800,1\n1800,2\n"
    found = problems(tmp_path, text)
    assert [problem.split(",")[0] for problem in found] == [f"row {row}" for row in (2, 3, 4, 5, 6, 7, 9)]
    for words, problem in zip(
        (
            "neither ISO 8601 nor epoch seconds",
            "'much' is no number",
            "'-1' is negative",
            "too large",
            "milliseconds?",
            "has 1 columns, not 2",
            "the time of row 8 again",
        ),
        found,
        strict=True,
    ):
        assert words in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "row 1 has to name"),
        ("t\n1\n", "row 1 has to name"),
        ("t,v\n", "it has no rows"),
        ("t,v\n" + "x,1\n" * 500, "and perhaps more"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, text: str, words: str) -> None:
    assert words in problems(tmp_path, text)[-1]


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path, "t,v\n0,1\n", column="w") == ["there is no column 'w'; it has v"]
    (tmp_path / "values.csv").write_bytes(b"t,v\n0,\xff\n")
    with pytest.raises(SupplyFileError, match="no text in UTF-8"):
        read_held_values(
            tmp_path / "values.csv", column=None, factor=1.0, zone=UTC, negative=False, lasting=False
        )


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text("0123456789,.-:TZ+\n\"'t[]={}eainf ", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused_by_name(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("t.csv", "t.toml", "t.json"):
            file = Path(folder) / name
            file.write_bytes(content)
            try:
                if name == "t.csv":
                    read_held_values(file, column=None, factor=1.0, zone=BERLIN, negative=True, lasting=False)
                else:
                    read_tariff(file)
            except SupplyFileError as error:
                assert all(problem.startswith(f"{file}: ") for problem in error.problems)


def test_numbers_and_fields_without_measure(tmp_path: Path) -> None:
    assert "no CSV" in problems(tmp_path, "t,v\n0," + "1" * 200_000)[0]
    file = tmp_path / "t.json"
    huge = 10**400
    file.write_text(json.dumps({"schedule": [{"times": [huge], "tariffs": [1], "demand_charge": huge}]}))
    with pytest.raises(SupplyFileError) as caught:
        read_tariff(file)
    assert len(caught.value.problems) == 4


def test_a_tariff_of_our_own_form(tmp_path: Path) -> None:
    file = tmp_path / "tariff.toml"
    file.write_text(TOML)
    tariff = read_tariff(file)
    at = {
        # A Wednesday and a Sunday of summer, and one of winter.
        datetime(2026, 7, 1, 12, tzinfo=BERLIN): (0.27, 20.0),
        datetime(2026, 7, 1, 18, 29, tzinfo=BERLIN): (0.27, 20.0),
        datetime(2026, 7, 1, 18, 30, tzinfo=BERLIN): (0.09, 15.5),
        datetime(2026, 7, 5, 23, 59, tzinfo=BERLIN): (-0.01, 15.5),
        datetime(2026, 2, 28, tzinfo=BERLIN): (0.07, None),
    }
    for local, expected in at.items():
        rates = tariff.rates(local)
        assert rates is not None
        assert (rates.price_per_kwh, rates.demand_price_per_kw) == expected, local


def test_a_schedule_in_json(tmp_path: Path) -> None:
    file = tmp_path / "tariff.json"
    file.write_text(json.dumps(SCHEDULE))
    tariff = read_tariff(file)
    for local, price, demand in (
        (datetime(2026, 7, 1, 8, tzinfo=BERLIN), 0.25, 15.51),
        (datetime(2026, 7, 1, 7, 59, tzinfo=BERLIN), 0.05, 15.51),
        (datetime(2026, 7, 4, 8, tzinfo=BERLIN), 0.04, None),
        (datetime(2026, 1, 1, tzinfo=BERLIN), 0.06, None),
    ):
        rates = tariff.rates(local)
        assert rates is not None
        assert (rates.price_per_kwh, rates.demand_price_per_kw) == (price, demand)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('to = "12:00"', 'to = "11:00"', "summer, monday: nothing holds from 11:00 to 12:00"),
        ('to = "12:00"', 'to = "13:00"', "summer, friday: two periods hold from 12:00 on"),
        ('to = "05-31"', 'to = "05-30"', "05-31, in no season, sunday: nothing holds from 00:00 to 24:00"),
        ('from = "10-01"', 'from = "09-30"', "summer and winter, monday: two periods hold"),
        ('from = "10-01"', 'from = "13-01"', "season 2.from: '13-01' is no day of a year"),
        ('"saturday"', '"caturday"', "is not all, weekdays, weekends or a list of days"),
        ("price_per_kwh = 0.07", "price_per_kWh = 0.07", "did you mean price_per_kwh?"),
        ("price_per_kwh = 0.07", "", "season 2.period 1.price_per_kwh: missing"),
        ("= 15.5", "= -15.5", "season 1.demand_price_per_kw: -15.5 is no price of 0 or more"),
        ('to = "18:30"', 'to = "11:30"', "a period over midnight is two periods"),
        ('name = "Industrial"', "name = ", "is not TOML"),
    ],
)
def test_mistakes_in_a_tariff(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in TOML
    file = tmp_path / "tariff.toml"
    file.write_text(TOML.replace(old, new, 1))
    with pytest.raises(SupplyFileError) as caught:
        read_tariff(file)
    assert any(words in problem for problem in caught.value.problems), caught.value.problems
    assert all(problem.startswith(f"{file}: ") for problem in caught.value.problems)


def test_mistakes_in_a_schedule_come_at_once(tmp_path: Path) -> None:
    file = tmp_path / "tariff.json"
    first = {**SCHEDULE["schedule"][0], "times": [0, 8]}  # type: ignore[dict-item]
    second = {**SCHEDULE["schedule"][1], "dow_mask": "SOME"}  # type: ignore[dict-item]
    file.write_text(json.dumps({"schedule": [first, second, {"times": [0], "tariffs": ["x"]}]}))
    with pytest.raises(SupplyFileError) as caught:
        read_tariff(file)
    text = "\n".join(caught.value.problems)
    for words in ("schedule 1: times and tariffs", "schedule 2.dow_mask", "schedule 3.effective_start"):
        assert words in text


def config(folder: Path) -> SupplyConfig:
    (folder / "price.csv").write_text("t,v\n0,40\n")
    (folder / "carbon.csv").write_text("t,v\n0,0.3\n")
    (folder / "limit.csv").write_text("t,v\n0,12\n")
    (folder / "tariff.toml").write_text(TOML)
    return SupplyConfig(
        price_file=Path("price.csv"),
        price_unit=PriceUnit.PER_MWH,
        carbon_file=Path("carbon.csv"),
        carbon_unit=CarbonUnit.KG_PER_KWH,
        limit_file=Path("limit.csv"),
        limit_unit=LimitUnit.KILOWATTS,
        tariff_file=Path("tariff.toml"),
    ).below(folder)


def test_all_files_in_our_own_units(tmp_path: Path) -> None:
    files = SupplyFiles(config(tmp_path), BERLIN)
    supply = files.read()
    assert files.problems == []
    assert supply.price_per_kwh is not None
    assert supply.price_per_kwh.values == (0.04,)
    assert supply.carbon_g_per_kwh is not None
    assert supply.carbon_g_per_kwh.values == (300.0,)
    assert supply.limit_watts is not None
    assert supply.limit_watts.values == (12_000.0,)
    assert supply.tariff is not None
    assert supply.tariff.name == "Industrial"


def test_a_changed_file_is_read_again_and_a_lost_one_keeps_its_word(tmp_path: Path) -> None:
    files = SupplyFiles(config(tmp_path), BERLIN)
    price = tmp_path / "price.csv"

    def prices() -> tuple[float | None, ...]:
        found = files.read().price_per_kwh
        assert found is not None
        return found.values

    assert prices() == (0.04,)
    price.write_text("t,v\n0,50\n")
    os.utime(price, ns=(1, 1))
    assert prices() == (0.05,)
    price.write_text("t,v\n0,fifty\n")
    os.utime(price, ns=(2, 2))
    assert prices() == (0.05,)
    assert files.problems == [f"{price}: row 2, column 'v': value 'fifty' is no number"]
    assert prices() == (0.05,)
    assert len(files.problems) == 1
    price.unlink()
    assert prices() == (0.05,)
    assert files.problems == [f"{price}: cannot be read: No such file or directory"]
    price.write_text("t,v\n0,60\n")
    assert prices() == (0.06,)
    assert files.problems == []


def test_what_no_price_and_no_carbon_can_be_is_a_mistake(tmp_path: Path) -> None:
    files = SupplyFiles(config(tmp_path), BERLIN)
    for name, bad, words in (
        ("price", "2e9", "too large to be true"),
        ("price", "-1e10", "too large to be true"),
        ("carbon", "300", "too large to be true"),
        ("carbon", "-0.1", "is negative"),
    ):
        (tmp_path / f"{name}.csv").write_text(f"t,v\n0,{bad}\n")
        files.read()
        assert any(words in problem for problem in files.problems), (name, bad)
        config(tmp_path)


def test_a_file_that_goes_backwards_is_told_and_counts(tmp_path: Path) -> None:
    files = SupplyFiles(config(tmp_path), BERLIN)
    file, now = tmp_path / "price.csv", datetime.now(UTC).timestamp()
    file.write_text(f"t,v\n{now - 3600},40\n{now + 3600},50\n{now + 7200},\n")
    files.read()
    file.write_text(f"t,v\n{now - 3600},30\n{now + 3600},\n")
    os.utime(file, ns=(1, 1))
    found = files.read().price_per_kwh
    assert found is not None and found.value_at(now) == pytest.approx(0.03)
    assert "it went backwards: it ends at" in files.problems[0]
    file.write_text(f"t,v\n{now - 3600},30\n{now + 10800},40\n")
    os.utime(file, ns=(2, 2))
    files.read()
    assert files.problems == []


def test_two_columns_of_one_file_are_day_ahead_and_real_time(tmp_path: Path) -> None:
    file = tmp_path / "price.csv"
    file.write_text("t,day_ahead,real_time\n0,40,45\n300,40,-5\n600,40,\n3600,60,\n")
    both = SupplyConfig(
        price_file=file,
        price_unit=PriceUnit.PER_MWH,
        price_column="day_ahead",
        realtime_price_file=file,
        realtime_price_unit=PriceUnit.PER_MWH,
        realtime_price_column="real_time",
    )
    assert both.problems() == []
    files = SupplyFiles(both, UTC)
    found = files.read().price_per_kwh
    assert found is not None
    assert [found.value_at(at) for at in (0.0, 300.0, 600.0, 3600.0)] == pytest.approx(
        [0.045, -0.005, 0.04, 0.06]
    )
    assert files.read().price_per_kwh is found
    # Real time lost for good: what it said runs out, and the day ahead counts.
    file.write_text("t,day_ahead,real_time\n0,40,\n3600,60,\n")
    os.utime(file, ns=(1, 1))
    again = files.read().price_per_kwh
    assert again is not None
    assert again.value_at(0.0) == pytest.approx(0.04)


def test_a_file_that_never_was_is_only_a_problem(tmp_path: Path) -> None:
    lost = SupplyConfig(price_file=tmp_path / "none.csv", price_unit=PriceUnit.PER_KWH)
    files = SupplyFiles(lost, UTC)
    assert files.read().price_per_kwh is None
    assert len(files.problems) == 1
    assert SupplyFiles(SupplyConfig(), UTC).read().tariff is None
