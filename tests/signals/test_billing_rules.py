"""Our own tariff form with its charges, and files of prices: what they say, and each mistake by its name."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from slurm_power.model.billing_rules import DemandTier, EnergyTier
from slurm_power.model.tariff import Rates
from slurm_power.signals.billing_file import read_billing_rules
from slurm_power.signals.held_file import SupplyFileError
from slurm_power.signals.price_file import read_prices
from slurm_power.signals.tariff_file import read_tariff

FULL = """
name = "Large power"
fixed_price_per_month = 450
fixed_price_per_day = 1.5
minimum_price_per_month = 900
demand_interval_minutes = 30
net_metering = true

[[season]]
name = "summer"
from = "06-01"
to = "09-30"
[[season.period]]
days = "weekdays"
from = "12:00"
to = "18:00"
price_per_kwh = 0.20
sell_price_per_kwh = 0.05
[[season.period]]
days = "weekdays"
to = "12:00"
tiers = [{ up_to_kwh = 10000, price_per_kwh = 0.12 }, { price_per_kwh = 0.08 }]
[[season.period]]
days = "weekdays"
from = "18:00"
tiers = [{ up_to_kwh = 10000, price_per_kwh = 0.12 }, { price_per_kwh = 0.08 }]
[[season.period]]
days = "weekends"
price_per_kwh = 0.08
[[season]]
name = "winter"
from = "10-01"
to = "05-31"
[[season.period]]
price_per_kwh = 0.07

[[demand]]
name = "all hours"
price_per_kw = 9.5
ratchet_ratio = 0.8
ratchet_on = ["all hours", "on-peak"]
[[demand]]
name = "on-peak"
months = [6, 7, 8, 9]
days = "weekdays"
from = "12:00"
to = "18:00"
tiers = [{ up_to_kw = 100, price_per_kw = 12 }, { price_per_kw = 10 }]
[[demand]]
name = "shoulders"
price_per_kw = 3
windows = [{ days = "weekdays", from = "06:00", to = "12:00" }, { from_day = "12-20", to_day = "01-06" }]

[[coincident]]
name = "system peak"
price_per_kw = 55
hours = ["2026-07-15T17:00", 2026-08-03T16:00:00]
"""


def written(folder: Path, text: str, name: str = "tariff.toml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def problems(folder: Path, text: str, name: str = "tariff.toml") -> list[str]:
    with pytest.raises(SupplyFileError) as caught:
        read_billing_rules(written(folder, text, name))
    return [problem.removeprefix(f"{folder}/{name}: ") for problem in caught.value.problems]


def test_all_that_our_form_says(tmp_path: Path) -> None:
    rules = read_billing_rules(written(tmp_path, FULL))
    assert (rules.name, rules.fixed_per_month, rules.fixed_per_day) == ("Large power", 450.0, 1.5)
    assert (rules.minimum_per_month, rules.demand_interval_seconds, rules.net_metering) == (
        900.0,
        1800.0,
        True,
    )
    assert [(rate.name, len(rate.windows), rate.sell_price_per_kwh) for rate in rules.energy] == [
        ("summer at 0.2", 1, 0.05),
        ("summer at 0.12", 2, None),
        ("summer at 0.08", 1, None),
        ("winter at 0.07", 1, None),
    ]
    assert rules.energy[1].tiers == (
        EnergyTier(price_per_kwh=0.12, up_to_kwh=10_000.0),
        EnergyTier(price_per_kwh=0.08),
    )
    everywhere, on_peak, shoulders = rules.demand
    assert (everywhere.ratchet_ratio, everywhere.ratchet_months) == ((0.8,) * 12, 11)
    assert everywhere.ratchet_on == ("all hours", "on-peak")
    assert on_peak.tiers == (DemandTier(price_per_kw=12.0, up_to_kw=100.0), DemandTier(price_per_kw=10.0))
    assert on_peak.windows[0].months == {6, 7, 8, 9}
    assert shoulders.windows[1].in_season((1, 6))
    assert not shoulders.windows[1].in_season((1, 7))
    assert [hour.isoformat() for hour in rules.coincident[0].hours] == [
        "2026-07-15T17:00:00",
        "2026-08-03T16:00:00",
    ]


def test_the_hours_that_a_grids_peak_can_be_in(tmp_path: Path) -> None:
    rule = """
[[coincident]]
name = "system peak"
price_per_kw = 55
months = [6, 7, 8, 9]
days = "weekdays"
from = "14:00"
to = "19:00"
[[coincident]]
name = "somebody else's"
price_per_kw = 5
"""
    ruled, unruled = read_billing_rules(written(tmp_path, FULL + rule)).coincident[1:]
    assert (ruled.hours, set(ruled.windows[0].months)) == ((), {6, 7, 8, 9})
    assert (unruled.hours, unruled.windows) == ((), ())
    assert ruled.is_open(2026, 6)
    assert not ruled.is_open(2026, 5)
    assert problems(tmp_path, FULL + rule.replace("14:00", "late"))


def test_the_example_of_the_documentation_is_a_tariff(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "tariffs.md").read_text()
    lines = [line.removeprefix("    ") for line in text.splitlines() if line.startswith("    ") or not line]
    rules = read_billing_rules(written(tmp_path, "\n".join(lines)))
    assert [rate.name for rate in rules.demand] == ["all hours", "on-peak"]
    assert (len(rules.energy), len(rules.coincident), rules.fixed_per_month) == (4, 1, 450.0)


def test_the_same_file_says_what_holds_at_a_moment(tmp_path: Path) -> None:
    tariff = read_tariff(written(tmp_path, FULL))
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)  # a Wednesday
    assert tariff.rates(noon) == Rates(price_per_kwh=0.2, demand_price_per_kw=19.5, sell_price_per_kwh=0.05)
    morning = tariff.rates(noon.replace(hour=7))
    assert morning is not None
    assert (morning.price_per_kwh, morning.demand_price_per_kw) == (0.08, 12.5)
    assert tariff.seconds_to_next_edge(noon.replace(hour=5)) == 3600.0
    assert tariff.seconds_to_next_edge(datetime(2026, 1, 10, 5, tzinfo=UTC)) == 19 * 3600.0  # a Saturday


def test_charges_alone_are_a_tariff_without_energy(tmp_path: Path) -> None:
    file = written(tmp_path, "[[demand]]\nprice_per_kw = 15\n")
    assert read_billing_rules(file).energy == ()
    assert read_tariff(file).rates(datetime(2026, 1, 1, tzinfo=UTC)) == Rates(
        price_per_kwh=None, demand_price_per_kw=15.0
    )


def test_hours_of_one_demand_price_are_one_charge(tmp_path: Path) -> None:
    text = """
    [[season]]
    demand_price_per_kw = 15
    [[season.period]]
    days = "weekdays"
    price_per_kwh = 0.1
    [[season.period]]
    days = "saturday"
    price_per_kwh = 0.1
    demand_price_per_kw = 4
    [[season.period]]
    days = "sunday"
    price_per_kwh = 0.1
    """
    rules = read_billing_rules(written(tmp_path, text))
    found = [(rate.name, rate.tiers[0].price_per_kw, len(rate.windows)) for rate in rules.demand]
    assert found == [("demand at 15", 15.0, 2), ("demand at 4", 4.0, 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("demand_interval_minutes = 7", ["demand_interval_minutes: 7 minutes do not divide a day"]),
        ('net_metering = "yes"', ["net_metering: must be true or false"]),
        ("fixed_price_per_month = -1", ["tariff.fixed_price_per_month: -1 is no price of 0 or more"]),
        ("fixed_price = 1", ["fixed_price: unknown key; did you mean fixed_price_per_day?"]),
        ("[[demand]]", ["demand 1.price_per_kw: missing"]),
        (
            '[[demand]]\nname = 3\nprice_per_kw = "x"\nmonths = [13]\nfrom = "9"\nratchet_ratio = 80',
            ["is no price", "is no share", "must be a string", "no list of months", "no time of day"],
        ),
        ("[[demand]]\nprice_per_kw = 1\nratchet_months = 3", ["ratchet_months alone does nothing"]),
        (
            "[[demand]]\nprice_per_kw = 1\nratchet_ratio = 1\nratchet_months = 0",
            ["no number of earlier months"],
        ),
        ('[[demand]]\nprice_per_kw = 1\nratchet_ratio = 1\nratchet_on = "a"', ["is no list of names"]),
        ('[[demand]]\nprice_per_kw = 1\nratchet_ratio = 1\nratchet_on = ["a"]', ["no charge is called a"]),
        (
            "[[demand]]\nprice_per_kw = 1\nwindows = [{}]\ndays = 'all'",
            ["demand 1.days: stands beside windows"],
        ),
        (
            "[[demand]]\nname = 'a'\nprice_per_kw = 1\n[[demand]]\nname = 'a'\nprice_per_kw = 2",
            ["demand: two charges are called a"],
        ),
        (
            "[[demand]]\ntiers = [{ up_to_kw = 5, price_per_kw = 1 }, { up_to_kw = 4 }, { up_to_kw = 9 }]",
            ["not above 5", "price_per_kw: missing", "the last tier has no end", "price_per_kw: missing"],
        ),
        ("[[coincident]]\nhours = ['noon', 2026-01-01T00:00:00Z]", ["missing", "'noon'", "is no local hour"]),
        (
            "[[season]]\n[[season.period]]\nprice_per_kwh = 1\ntiers = [{ price_per_kwh = 2 }]",
            ["season 1.period 1.price_per_kwh: tiers are given too"],
        ),
        ("", ["season: missing; at least one table is needed"]),
    ],
)
def test_each_mistake_is_told_at_once(tmp_path: Path, text: str, words: list[str]) -> None:
    if text and "[[" not in text:
        text += "\n[[demand]]\nprice_per_kw = 1\n"
    if text.startswith("[[coincident]]"):
        text += "\n[[demand]]\nprice_per_kw = 1\n"
    found = problems(tmp_path, text)
    assert len(found) == len(words)
    for word in words:
        assert any(word in problem for problem in found), (word, found)


def test_what_is_no_tariff(tmp_path: Path) -> None:
    assert problems(tmp_path, "{}", "a.json") == ["is neither a rate of URDB nor a schedule of ACN-Sim"]
    assert problems(tmp_path, "3", "a.json") == ["holds no table"]
    with pytest.raises(SupplyFileError, match="only URDB files hold several"):
        read_billing_rules(written(tmp_path, FULL).with_name("tariff.toml#x"))
    with pytest.raises(SupplyFileError, match="cannot be read"):
        read_billing_rules(tmp_path / "none.toml")


# --- prices

START = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
HOURLY = "time,Real price,Ensemble\n2024-01-01 00:00,40,1\n2024-01-01 01:00,-20,1\n2024-01-01 02:00,60,1\n"


def prices(folder: Path, text: str, steps: int, step_seconds: float, choice: str = "") -> list[float]:
    file = written(folder, text, "prices.csv")
    times = START + step_seconds * np.arange(steps, dtype=np.float64)
    found = read_prices(file.with_name(file.name + choice), times, step_seconds)
    return [round(price, 9) for price in found.tolist()]


def test_prices_are_held_over_shorter_steps_and_meant_over_longer_ones(tmp_path: Path) -> None:
    assert prices(tmp_path, HOURLY, 6, 1800.0) == [0.04, 0.04, -0.02, -0.02, 0.06, 0.06]
    assert prices(tmp_path, HOURLY, 1, 10_800.0) == [round(0.08 / 3, 9)]
    # 2700 s: 40; then 900 s at 40 and 1800 s at -20; then 1800 s at -20 and 900 s at 60; then 60.
    assert prices(tmp_path, HOURLY, 4, 2700.0) == [0.04, 0.0, round(0.02 / 3, 9), 0.06]


@pytest.mark.parametrize(
    ("heading", "price"),
    [("usd_per_mwh", 0.04), ("price_per_kwh", 40.0), ("EUR/MWh", 0.04), ("Price [$/kWh]", 40.0)],
)
def test_the_heading_says_the_unit(tmp_path: Path, heading: str, price: float) -> None:
    assert prices(tmp_path, HOURLY.replace("Real price", heading), 1, 3600.0) == [price]


def test_one_of_several_columns_is_chosen(tmp_path: Path) -> None:
    text = "t,a_per_mwh,b_per_mwh\n2024-01-01,1000,2000\n"
    assert prices(tmp_path, text, 1, 3600.0, "#b_per_mwh") == [2.0]
    for choice, words in (
        ("", "several columns are prices; write FILE#COLUMN: a_per_mwh, b_per_mwh"),
        ("#c", "there is no column 'c'; it has a_per_mwh, b_per_mwh"),
    ):
        with pytest.raises(SupplyFileError, match=words):
            prices(tmp_path, text, 1, 3600.0, choice)
    with pytest.raises(SupplyFileError, match="no heading says MWh or kWh: a, b"):
        prices(tmp_path, "t,a,b\n2024-01-01,1,2\n", 1, 3600.0)
    with pytest.raises(SupplyFileError, match="the heading 'a' has to say MWh or kWh"):
        prices(tmp_path, "t,a,b\n2024-01-01,1,2\n", 1, 3600.0, "#a")


def test_missing_hours_are_named(tmp_path: Path) -> None:
    gap = "\n".join(["t,per_kwh", *(f"2024-01-01 {hour:02}:00,1" for hour in range(12) if hour != 5)])
    with pytest.raises(SupplyFileError, match=r"no price in the hours \(UTC\) 2024-01-01 05:00$"):
        prices(tmp_path, gap, 48, 900.0)
    unknown = gap.replace("03:00,1", "03:00,")
    with pytest.raises(SupplyFileError, match=r"2024-01-01 03:00, 2024-01-01 05:00$"):
        prices(tmp_path, unknown, 48, 900.0)
    with pytest.raises(SupplyFileError, match=r"12:00, .* 14:00, 2024-01-01 15:00 and 8 more$"):
        prices(tmp_path, gap, 96, 900.0)


def test_prices_of_another_year_are_refused(tmp_path: Path) -> None:
    text = HOURLY.replace("2024", "2016")
    words = "prices from 2016-01-01 to 2016-01-01, the series is of 2024-01-01 to 2024-01-01: other times"
    with pytest.raises(SupplyFileError, match=words):
        prices(tmp_path, text, 4, 900.0)


def test_local_prices_over_a_clock_change(tmp_path: Path) -> None:
    rows = [f"2026-10-25 {hour:02}:00,{hour}" for hour in (0, 1, 2, 2, 3, 4)]
    file = written(tmp_path, "\n".join(["t,per_kwh", *rows]), "prices.csv")
    start = datetime(2026, 10, 24, 22, tzinfo=UTC).timestamp()
    found = read_prices(
        file, start + 3600.0 * np.arange(6, dtype=np.float64), 3600.0, zone=ZoneInfo("Europe/Berlin")
    )
    assert found.tolist() == [0.0, 1.0, 2.0, 2.0, 3.0, 4.0]
