"""The limits in the [ess.*] tables, and what was billed already: read, and all mistakes told at once."""

from pathlib import Path

import pytest

from slurm_power.config import load_site
from slurm_power.controller.sensing.probe import fingerprints
from slurm_power.model.power_table import PowerTable
from tests.config.test_site import GOOD, SUNSPEC_PCS, problems, write

LIMITS = """
max_charge_c_rate = 0.5
charge_power_by_soc = [[0.8, 1], [1.0, 0.2]]
discharge_power_by_soc = [[0.1, 0.3], [0.2, 1.0]]
charge_power_by_celsius = [[0, 0.0], [10, 1.0], [40, 1.0], [50, 0.0]]
temperature_margin_celsius = 4
unknown_temperature_ratio = 0.25
full_cycles_per_day = 1.5
full_cycles_per_year = 300
"""


def test_limits_become_the_batterys_own(tmp_path: Path) -> None:
    ess = load_site(write(tmp_path, GOOD + LIMITS)).site.ess["battery"]
    assert ess.charge_power_by_soc == PowerTable(((0.8, 1.0), (1.0, 0.2)))
    assert ess.charge_power_by_celsius is not None and ess.charge_power_by_celsius.ratio(45.0) == 0.5
    assert ess.discharge_power_by_celsius is None and ess.max_discharge_c_rate is None
    assert (ess.max_charge_c_rate, ess.temperature_margin_celsius, ess.unknown_temperature_ratio) == (
        0.5,
        4.0,
        0.25,
    )
    assert (ess.full_cycles_per_day, ess.full_cycles_per_year) == (1.5, 300.0)


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("charge_power_by_soc = [[80, 1], [100, 0.2]]", "charge_power_by_soc", "is it in percent?"),
        ("charge_power_by_soc = [[0.8, 100]]", "charge_power_by_soc", "is it in percent or watts?"),
        ("charge_power_by_soc = [[0.9, 1], [0.8, 1]]", "charge_power_by_soc", "the points have to rise"),
        ("charge_power_by_soc = [[0.9, 1], [0.9, 0]]", "charge_power_by_soc", "the points have to rise"),
        ("charge_power_by_soc = []", "charge_power_by_soc", "a list of pairs, write [[0.8, 1.0]"),
        ("charge_power_by_soc = 0.5", "charge_power_by_soc", "a list of pairs"),
        ("charge_power_by_soc = [[0.5]]", "charge_power_by_soc", "[0.5] is no pair of numbers"),
        ("charge_power_by_soc = [[0.5, true]]", "charge_power_by_soc", "is no pair of numbers"),
        ("charge_power_by_soc = [[0.5, nan]]", "charge_power_by_soc", "is no pair of numbers"),
        ("discharge_power_by_soc = [[0, 0], [1, 0]]", "discharge_power_by_soc", "never be discharged"),
        ("charge_power_by_celsius = [[300, 1.0]]", "charge_power_by_celsius", "not between -60 and 150"),
        ("charge_power_by_celsius = [[20]]", "charge_power_by_celsius", "[[40.0, 1.0], [55.0, 0.0]]"),
        ("max_charge_c_rate = 0", "max_charge_c_rate", "not between 0.01 and 20"),
        ("max_discharge_c_rate = nan", "max_discharge_c_rate", "not between"),
        ("temperature_margin_celsius = -1", "temperature_margin_celsius", "not between 0 and 30"),
        ("unknown_temperature_ratio = 50", "unknown_temperature_ratio", "not between 0 and 1"),
        ("full_cycles_per_day = -1", "full_cycles_per_day", "not between 0 and 24"),
        ("full_cycles_per_year = 1e9", "full_cycles_per_year", "not between 0 and 8784"),
        ("charge_power_by_sco = [[0.5, 1]]", "charge_power_by_sco", "did you mean charge_power_by_soc?"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, line: str, key: str, words: str) -> None:
    found = problems(tmp_path, f"{GOOD}\n{line}\n")
    assert any(problem.startswith(f"ess.battery.{key}:") and words in problem for problem in found), found


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    wrong = """
charge_power_by_soc = [[80, 2], [70, 1]]
max_charge_c_rate = -1
reserve_soc_ratio = 20
[supply]
tariff_file = "t.toml"
price_column = "x"
[supply.billed_peaks_kw]
flat = 3
[supply.billed_peaks_kw."all hours"]
january = 80
2026-13 = 80
2026-01 = "80 kW"
2026-02 = -1
"""
    found = problems(tmp_path, GOOD + wrong)
    paths = [problem.split(": ")[0] for problem in found]
    # 80 is no charge, nor is 70; 2 is no share; 70 comes after 80.
    assert paths.count("ess.battery.charge_power_by_soc") == 4
    assert {"ess.battery.max_charge_c_rate", "ess.battery.reserve_soc_ratio", "supply.price_column"} <= set(
        paths
    )
    months = "supply.billed_peaks_kw.all hours"
    assert {f"{months}.{month}" for month in ("january", "2026-13", "2026-01", "2026-02")} <= set(paths)
    assert "supply.billed_peaks_kw.flat" in paths


def test_what_was_billed_is_kept_by_charge_and_month(tmp_path: Path) -> None:
    months = '[supply.billed_peaks_kw."all hours"]\n2025-12 = 84.5\n2026-01 = 61\n'
    text = f'\n[supply]\ntariff_file = "t.toml"\n{months}'
    supply = load_site(write(tmp_path, GOOD + text)).supply
    assert supply.billed_peaks_kw == {"all hours": {"2025-12": 84.5, "2026-01": 61.0}}
    orphan = text.replace('tariff_file = "t.toml"\n', "")
    assert any("there is no tariff_file" in problem for problem in problems(tmp_path, GOOD + orphan))


def test_a_temperature_point_is_one_of_model_701_and_no_news_for_a_proven_battery(tmp_path: Path) -> None:
    before = fingerprints(load_site(write(tmp_path, GOOD)))
    chosen = GOOD.replace(SUNSPEC_PCS, f'{SUNSPEC_PCS}\ntemperature_point = "TmpCab"')
    assert fingerprints(load_site(write(tmp_path, chosen))) == before
    (problem,) = problems(tmp_path, chosen.replace("TmpCab", "TmpBat"))
    assert problem.startswith("device.pcs.temperature_point: 'TmpBat' is not one of TmpAmb, TmpCab")
