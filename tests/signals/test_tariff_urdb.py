"""Rates of the OpenEI database: what is read, what is refused by name, and which of several is meant."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.billing_rules import BillingRules, DemandTier, EnergyTier
from slurm_power.model.tariff import Rates
from slurm_power.signals.billing_file import read_billing_rules
from slurm_power.signals.held_file import SupplyFileError
from slurm_power.signals.tariff_file import read_tariff
from slurm_power.signals.tariff_urdb import read_urdb

FIELDS = {
    *(f"{kind}ratestructure" for kind in ("energy", "demand", "coincident")),
    *(f"{kind}{day}schedule" for kind in ("energy", "demand") for day in ("weekday", "weekend")),
    "flatdemandstructure",
    "flatdemandmonths",
    "flatdemandunit",
    "coincidentrateschedule",
    "demandratchetpercentage",
    "demandwindow",
    "demandunits",
    "fixedchargefirstmeter",
    "fixedchargeunits",
    "fixedmonthlycharge",
    "mincharge",
    "minmonthlycharge",
    "fueladjustmentsmonthly",
    "dgrules",
    "usenetmetering",
    "energyattrs",
    "annualmincharge",
    "name",
    "unheard of",
}
SUMMER = range(5, 9)  # June to September, January is 0
WEEKDAY = [[1 if month in SUMMER and 12 <= hour < 18 else 0 for hour in range(24)] for month in range(12)]
ALWAYS = [[0] * 24 for _ in range(12)]


def rate(**changes: object) -> dict[str, Any]:
    """A rate as the database answers, with all the fields that say nothing here."""
    return {
        "label": "5d2360465457a3f77ddc131e",
        "name": "Large general service",
        "utility": "Somewhere Electric",
        "eiaid": 5109,
        "startdate": 1390636800,
        "revisions": [1399475688],
        "approved": True,
        "sector": "Industrial",
        "energyratestructure": [[{"rate": 0.05, "adj": 0.01, "unit": "kWh"}], [{"rate": 0.2}]],
        "energyweekdayschedule": WEEKDAY,
        "energyweekendschedule": ALWAYS,
        "demandratestructure": None,
        "demandweekdayschedule": [],
        "energycomments": "riders of $0.01 are in the adjustment",
        "demandunits": "kW",
        "peakkwcapacitymin": 500,
        "fixedchargefirstmeter": 0,
    } | changes


def written(folder: Path, document: object) -> Path:
    file = folder / "rate.json"
    file.write_text(json.dumps(document))
    return file


def read(folder: Path, **changes: object) -> BillingRules:
    return read_billing_rules(written(folder, {"items": [rate(**changes)]}))


def problems(folder: Path, **changes: object) -> list[str]:
    with pytest.raises(SupplyFileError) as caught:
        read(folder, **changes)
    return [problem.removeprefix(f"{folder}/rate.json: ") for problem in caught.value.problems]


def test_energy_by_its_schedules(tmp_path: Path) -> None:
    rules = read(tmp_path)
    low, high = rules.energy
    assert [tier.price_per_kwh for tier in low.tiers] == pytest.approx([0.06])
    assert high.tiers == (EnergyTier(price_per_kwh=0.2),)
    (window,) = high.windows
    assert window.months == {6, 7, 8, 9}
    assert window.days == {0, 1, 2, 3, 4}
    assert (window.from_minute, window.to_minute) == (720, 1080)
    # Weekdays outside summer, the two ends of summer's weekdays, and weekends.
    assert sorted((w.from_minute, w.to_minute, len(w.months), len(w.days)) for w in low.windows) == [
        (0, 720, 4, 5),
        (0, 1440, 8, 5),
        (0, 1440, 12, 2),
        (1080, 1440, 4, 5),
    ]
    assert (rules.demand, rules.fixed_per_month, rules.demand_interval_seconds) == ((), 0.0, 900.0)
    assert rules.name == "Large general service"


def test_each_rate_of_a_schedule_counts_at_its_hour(tmp_path: Path) -> None:
    tariff = read_tariff(written(tmp_path, rate(flatdemandstructure=[[{"rate": 8}]])))
    july = datetime(2026, 7, 1, 12, tzinfo=UTC)  # a Wednesday
    assert tariff.rates(july) == Rates(price_per_kwh=0.2, demand_price_per_kw=8.0)
    for other in (july.replace(hour=18), july.replace(day=4), july.replace(month=1)):
        found = tariff.rates(other)
        assert found is not None
        assert (found.price_per_kwh, found.demand_price_per_kw) == pytest.approx((0.06, 8.0))


def test_tiers_adders_and_exports(tmp_path: Path) -> None:
    tiers = [{"max": 300, "rate": 0.1, "sell": 0.04}, {"rate": 0.2, "sell": 0.04, "max": 1e38}]
    rules = read(
        tmp_path,
        energyratestructure=[[{**tier, "unit": "kWh daily"} for tier in tiers], []],
        energyweekdayschedule=ALWAYS,
        fueladjustmentsmonthly=[0.01] * 11 + [0.02],
        dgrules="Net Metering",
    )
    assert rules.energy[0].tiers == (
        EnergyTier(price_per_kwh=0.1, up_to_kwh=300.0, daily=True),
        EnergyTier(price_per_kwh=0.2, daily=True),
    )
    assert rules.energy[0].sell_price_per_kwh == 0.04
    assert rules.energy_adder_per_kwh[11] == 0.02
    assert rules.net_metering


def test_demand_charges(tmp_path: Path) -> None:
    rules = read(
        tmp_path,
        flatdemandstructure=[[{"max": 100, "rate": 5}, {"rate": 4, "adj": 0.5}], [{"rate": 9}]],
        flatdemandmonths=[1 if month in SUMMER else 0 for month in range(12)],
        demandratestructure=[[{"rate": 0}], [{"rate": 12}]],
        demandweekdayschedule=WEEKDAY,
        demandweekendschedule=ALWAYS,
        coincidentratestructure=[[{"rate": 0}], [{"rate": 30}]],
        coincidentrateschedule=WEEKDAY,
        demandratchetpercentage=[0.5] * 11 + [0.6],
        demandwindow=30,
    )
    assert [charge.name for charge in rules.demand] == [
        "flat demand period 0",
        "flat demand period 1",
        "demand period 1",
        "coincident period 1",
    ]
    winter, summer, on_peak, system = rules.demand
    assert winter.tiers == (DemandTier(price_per_kw=5.0, up_to_kw=100.0), DemandTier(price_per_kw=4.5))
    assert summer.windows[0].months == {6, 7, 8, 9}
    assert (winter.ratchet_ratio[11], winter.ratchet_months) == (0.6, 11)
    assert winter.ratchet_on == ("flat demand period 0", "flat demand period 1")
    assert (on_peak.windows[0].from_minute, on_peak.ratchet_ratio) == (720, ())
    assert system.windows[0].days == frozenset(range(7))
    assert rules.demand_interval_seconds == 1800.0


def test_a_ratchet_without_flat_demand_is_of_each_hourly_charge(tmp_path: Path) -> None:
    rules = read(tmp_path, demandratestructure=[[{"rate": 3}]], demandweekdayschedule=None,
                 demandratchetpercentage=[80] * 12)  # fmt: skip
    assert [(charge.ratchet_ratio[0], charge.ratchet_on) for charge in rules.demand] == [(0.8, ())]


@pytest.mark.parametrize(
    ("changes", "fixed", "least"),
    [
        ({"fixedchargefirstmeter": 250, "fixedchargeunits": "$/month"}, (250.0, 0.0), (0.0, 0.0)),
        ({"fixedchargefirstmeter": 2, "fixedchargeunits": "$/day"}, (0.0, 2.0), (0.0, 0.0)),
        ({"fixedchargefirstmeter": 120, "fixedchargeunits": "$/year"}, (10.0, 0.0), (0.0, 0.0)),
        ({"fixedmonthlycharge": 31, "minmonthlycharge": 40}, (31.0, 0.0), (40.0, 0.0)),
        ({"fixedmonthlycharge": 31, "fixedchargefirstmeter": 31}, (31.0, 0.0), (0.0, 0.0)),
        ({"mincharge": 3, "minchargeunits": "$/day"}, (0.0, 0.0), (0.0, 3.0)),
    ],
)
def test_fixed_and_least_charges(
    tmp_path: Path, changes: dict[str, object], fixed: tuple[float, float], least: tuple[float, float]
) -> None:
    rules = read(tmp_path, **changes)
    assert (rules.fixed_per_month, rules.fixed_per_day) == fixed
    assert (rules.minimum_per_month, rules.minimum_per_day) == least


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"demandreactivepowercharge": 0.25}, "demandreactivepowercharge: is not billed"),
        ({"annualmincharge": 5}, "annualmincharge: is not billed"),
        ({"lookbackPercent": 0.6}, "lookbackPercent: is not billed"),
        ({"energyattrs": [{"Rider": "0.002"}]}, "energyattrs: "),
        ({"fixedattrs": [{"Meter": "$5"}]}, "fixedattrs: "),
        ({"somecharge": [{"rate": 3}]}, "somecharge: unknown, and it may be money"),
        ({"energyratestructure": [[{"rate": 1, "rider": 2}], [{"rate": 1}]]}, "[0][0].rider: unknown"),
        (
            {"energyratestructure": [[{"rate": "1"}], [{}]]},
            "energyratestructure[0][0].rate: '1' is no number",
        ),
        (
            {"energyratestructure": [[{"max": 5, "unit": "kWh/kW"}, {"unit": "kWh/kW"}], [{}]]},
            "energyratestructure[0]: tiers by kWh/kW are not billed, only by kWh",
        ),
        ({"energyratestructure": [[{"sell": 1, "max": 1}, {}], [{}]]}, "sell differs between tiers"),
        ({"energyratestructure": [[{"max": 9}, {"max": 8}, {}], [{}]]}, "[0][1].max: 8 is not above 9"),
        ({"energyratestructure": [[], [{"rate": 1}]]}, "energyratestructure[0]: has no tiers"),
        ({"energyratestructure": {"a": 1}}, "energyratestructure: has to be a list of periods"),
        ({"energyratestructure": None}, "energyratestructure: missing"),
        ({"energyweekendschedule": [[5] * 24] * 12}, "energyweekendschedule: there is no period 5"),
        (
            {"energyweekendschedule": [[0] * 23] * 12},
            "energyweekendschedule: has to be 12 months of 24 hours",
        ),
        ({"energyweekendschedule": None}, "energyweekendschedule: missing"),
        (
            {"flatdemandstructure": [[{"rate": 1}], []], "flatdemandmonths": [0]},
            "flatdemandmonths: has to be 12",
        ),
        (
            {"flatdemandstructure": [[{"rate": 1}]], "flatdemandunit": "kVA"},
            "flatdemandunit: 'kVA' is not billed",
        ),
        ({"flatdemandstructure": [[{"rate": -1}]]}, "a negative demand charge is not billed"),
        ({"demandratestructure": [[{"rate": 1}]], "demandunits": "hp"}, "demandunits: 'hp' is not billed"),
        ({"demandratchetpercentage": [120] * 12}, "demandratchetpercentage: has to be 12 shares"),
        ({"demandwindow": 7}, "demandwindow: 7 minutes do not divide a day"),
        ({"fueladjustmentsmonthly": [1]}, "fueladjustmentsmonthly: has to be 12 prices"),
        ({"fixedchargefirstmeter": 1, "fixedchargeunits": "$/kW"}, "fixedchargeunits: '$/kW' is not"),
        ({"fixedchargefirstmeter": -1}, "fixedchargefirstmeter: -1 is negative"),
        (
            {"fixedchargefirstmeter": 1, "fixedmonthlycharge": 2},
            "fixedmonthlycharge: fixedchargefirstmeter says",
        ),
    ],
)
def test_what_is_not_billed_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    found = problems(tmp_path, **changes)
    assert len(found) == 1
    assert words in found[0]


def test_all_problems_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, annualmincharge=5, demandwindow="x", energyattrs=[{"a": "1"}])
    assert [problem.split(":")[0] for problem in found] == ["annualmincharge", "energyattrs", "demandwindow"]


def test_what_says_nothing_is_nothing(tmp_path: Path) -> None:
    rules = read(
        tmp_path,
        demandreactivepowercharge=None,
        annualmincharge=0,
        energyattrs=[],
        demandattrs=[{"Metering": "primary"}],
        coincidentratestructure=[],
        note="a word",
        voltageminimum=2400,
    )
    assert len(rules.energy) == 2


def test_one_of_several_rates(tmp_path: Path) -> None:
    file = written(tmp_path, [rate(), rate(label="b", name="Small service"), rate(label="c", name="small")])
    for choice, name in (("b", "Small service"), ("LARGE", "Large general service"), ("Small", "small")):
        assert read_billing_rules(file, choice).name == name
        assert read_billing_rules(Path(f"{file}#{choice}")).name == name
    for choice_or_none, words in (
        (None, r"several rates; .* \(Large general service\), b \(Small service\), c \(small\)$"),
        (
            "service",
            r"has 2 rates of the name 'service'; .*e \(Large general service\), b \(Small service\)$",
        ),
        ("rural", r"has no rates of the name 'rural'; .* c \(small\)$"),
    ):
        with pytest.raises(SupplyFileError, match=words):
            read_billing_rules(file, choice_or_none)


@pytest.mark.parametrize("document", [[], [3], {"items": {}}, {"items": []}])
def test_no_rates_at_all(tmp_path: Path, document: object) -> None:
    with pytest.raises(SupplyFileError, match="items: has to be a list of rates"):
        read_billing_rules(written(tmp_path, document))


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just(10**400)
    | st.sampled_from(["", "kW", "$/day"]),
    lambda inner: (
        st.lists(inner, max_size=12) | st.dictionaries(st.sampled_from(["rate", "max", "a"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(key=st.sampled_from(sorted(FIELDS)), value=anything)
def test_whatever_stands_in_a_field_is_read_or_refused(key: str, value: object) -> None:
    found: list[str] = []
    rules = read_urdb(rate(**{key: value}), None, found)
    assert found or (rules.energy and rules.fixed_per_month >= 0.0)
