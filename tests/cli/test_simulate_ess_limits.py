"""``slurm-power simulate ess`` with a battery that has limits of its own."""

import csv
from pathlib import Path

import pytest

from tests.cli.test_simulate_ess import SHORT, SIZE, TARIFF, answer, simulate, weeks, whole_year_tariff

__all__ = ["weeks", "whole_year_tariff"]


def test_cycles_bound_what_is_traded(weeks: Path, tmp_path: Path) -> None:
    tariff = tmp_path / "energy.toml"
    tariff.write_text(TARIFF.partition("[[demand]]")[0])
    cycles = {}
    for budget in ("", "0.5", "0"):
        more = ("--cycles-per-day", budget) if budget else ()
        found = answer(weeks, *SIZE, *SHORT, "--tariff", tariff, *more)
        (month,) = found["months"][:1]
        cycles[budget] = month["cycles"]
        assert found["inputs"]["cycles_per_day"] == (float(budget) if budget else None)
        # Without any cycles it is filled once, and that is all.
        assert budget == "0" or month["bill_with"] < month["bill_without"]
        if budget:
            assert month["cycles"] <= float(budget) * 28 + 1e-6
    assert cycles[""] > cycles["0.5"] > cycles["0"] == 0.0


def test_a_taper_slows_it_near_its_ends(weeks: Path, whole_year_tariff: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps.csv"
    table = ("--charge-power-by-soc", "0.5:1,1:0.1")
    found = answer(weeks, *SIZE, *SHORT, "--tariff", whole_year_tariff, *table, "--out", out)
    most_watts, before = found["summary"]["ess_power_watts"], 0.5
    assert found["inputs"]["charge_power_by_soc"] == [[0.5, 1.0], [1.0, 0.1]]
    with out.open() as file:
        for row in csv.DictReader(file):
            share = 1.0 - 0.9 * max(0.0, before - 0.5) / 0.5
            assert -float(row["ess_discharge_watts"]) <= share * most_watts * (1.0 + 1e-4) + 1.0
            before = float(row["soc_ratio"])


@pytest.mark.parametrize("text", ["0.5", "0.5:2", "1:1,0:1", "a:b", ""])
def test_a_table_that_is_none_is_told(text: str, weeks: Path) -> None:
    result = simulate(weeks, *SIZE, "--charge-power-by-soc", text)
    assert result.exit_code == 2 and "is no table of power by charge" in result.output


def test_the_series_is_never_written_over(tmp_path: Path) -> None:
    series = tmp_path / "load.csv"
    series.write_text("time,kw\n0,1\n900,2\n1800,3\n")
    done = simulate(series, *SIZE, "--out", series)
    assert done.exit_code == 2 and "is read by this command" in done.stderr
    assert series.read_text().endswith("1800,3\n")
