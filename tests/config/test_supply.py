"""The [supply] table and the site's time zone."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from slurm_power.cli.slurm_power import main
from slurm_power.config import ConfigError, load_site

SITE = '[site]\nname = "x"\n{zone}[circuit.grid]\nrating_watts = 40_000\nlimit_kind = "economic"\n[supply]\n'


def write(folder: Path, supply: str, zone: str = "") -> Path:
    file = folder / "site.toml"
    file.write_text(SITE.replace("{zone}", zone) + supply)
    return file


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    text = 'price_file = "p.csv"\nprice_unit = "per_MWh"\ntariff_file = "/etc/t.toml"\n'
    config = load_site(write(tmp_path, text, 'timezone = "Europe/Berlin"\n'))
    assert config.supply.price_file == tmp_path / "p.csv"
    assert config.supply.tariff_file == Path("/etc/t.toml")
    assert str(config.zone) == "Europe/Berlin"


def test_without_a_table_nothing_is_known_and_the_zone_is_utc(tmp_path: Path) -> None:
    config = load_site(write(tmp_path, ""))
    assert config.supply.price_file is None
    assert str(config.zone) == "UTC"


@pytest.mark.parametrize(
    ("text", "zone", "problem"),
    [
        ('price_file = "p.csv"\n', "", "supply.price_unit: missing; say what price_file counts"),
        ('price_file = "p.csv"\nprice_unit = "ct"\n', "", "supply.price_unit: 'ct' is not one of per_kWh"),
        ('limit_unit = "kW"\n', "", "supply.limit_unit: there is no limit_file"),
        ('carbon_column = "g"\n', "", "supply.carbon_column: there is no carbon_file"),
        ('tariff_file = "t.yaml"\n', "", "supply.tariff_file: t.yaml is neither .toml nor .json"),
        ('prices = "p.csv"\n', "", "supply.prices: unknown key"),
        ("", 'timezone = "Berlin"\n', "site.timezone: 'Berlin' is no time zone"),
        ("", "timezone = 1\n", "site.timezone: 1 is no time zone"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, text: str, zone: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_site(write(tmp_path, text, zone))
    assert any(found.startswith(problem) for found in caught.value.problems), caught.value.problems


def test_check_names_the_bad_rows_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("t,v\n0,1\nlater,2\n")
    file = write(tmp_path, 'price_file = "p.csv"\nprice_unit = "per_kWh"\n')
    done = CliRunner().invoke(main, ["check", "--no-devices", "--config", str(file)])
    assert done.exit_code == 2
    assert f"supply.price_file: wrong: {tmp_path}/p.csv: row 3, column 'v': time 'later'" in done.output


def test_show_config_has_supply_and_zone(tmp_path: Path) -> None:
    file = write(tmp_path, 'carbon_file = "c.csv"\ncarbon_unit = "g_per_kWh"\n', 'timezone = "Asia/Tokyo"\n')
    shown = CliRunner().invoke(main, ["show-config", "--config", str(file)]).output
    assert "site.timezone = 'Asia/Tokyo'" in shown
    assert "supply.carbon_unit = 'g_per_kWh'" in shown
    assert "supply.price_file = None" in shown
