"""``slurm-power report energy``, ``fairness`` and ``event`` at the command line: files, and bad input."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power import clock
from slurm_power.cli.slurm_power import main
from slurm_power.store.sqlite import SqliteStore
from tests.report.plant_days import write_plant
from tests.report.test_energy import DAY, JOBS, START

EVIL = "=cmd|\"'<img src=x onerror=alert(1)>\x1b[31m"

OLD_SITE = """\
[site]
name = "old"
[circuit.grid]
rating_watts = 1e6
limit_kind = "economic"
meter = "m"
[device.m]
driver = "sunspec_meter"
address = "127.0.0.1:502"
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("state")
    write_plant(directory, JOBS, start_seconds=START, end_seconds=START + 4 * DAY)
    store = SqliteStore(directory / "powerctld.sqlite")
    store.put_job("2", store.job("2") | {"user": EVIL, "name": EVIL, "account": EVIL})
    store.close()
    return directory


def report(*words: str) -> Result:
    return CliRunner().invoke(main, ["report", *words])


@pytest.mark.parametrize("name", ["energy", "fairness"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--month", "2026-13"], "'2026-13' is no month; write 2026-11"),
        (["--month", "last"], "'last' is no month; write 2026-11"),
        (["--month", "0000-01"], "'0000-01' is no month; write 2026-11"),
        ([], "give either --month 2026-11, or --since with or without --until"),
        (["--month", "2026-03", "--since", "2026-03-01"], "give either --month 2026-11, or --since"),
        (["--month", "2026-03", "--until", "2026-03-01"], "--until goes with --since"),
        (["--since", "2026-03-02", "--until", "2026-03-01"], "2026-03-02T00:00:00Z is not before --until"),
        (["--since", "2001-01-01", "--until", "2026-03-01"], "a report is of at most 3660 days"),
        (["--since", "soon"], "'soon' is no moment"),
        (["--month", "9998-12"], "--month: it has not begun yet"),
    ],
)
def test_a_span_that_makes_no_sense_is_refused_with_the_fix(
    state: Path, name: str, words: list[str], said: str
) -> None:
    found = report(name, "--state", str(state), *words)
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())


def test_a_bill_needs_prices_and_a_number(state: Path, tmp_path: Path) -> None:
    span = ["--since", "2026-03-01", "--until", "2026-03-02"]
    found = report("energy", "--state", str(state), *span, "--energy-bill", "nan")
    assert found.exit_code == 2 and "must be an amount of money" in found.output
    write_plant(tmp_path, (), start_seconds=START, end_seconds=START)
    found = report("energy", "--state", str(tmp_path), *span, "--energy-bill", "10")
    assert found.exit_code == 2
    assert "prices are known for less than 95 % of this time" in " ".join(found.output.split())


def test_a_state_directory_without_its_site_asks_for_it(tmp_path: Path) -> None:
    write_plant(tmp_path, (), start_seconds=START, end_seconds=START, site={})
    for name in ("energy", "fairness"):
        found = report(name, "--state", str(tmp_path), "--month", "2026-03")
        assert found.exit_code == 2
        assert "give --site /etc/slurm-power/site.toml" in " ".join(found.output.split())
    site = tmp_path / "site.toml"
    site.write_text(OLD_SITE)
    found = report("energy", "--state", str(tmp_path), "--month", "2026-03", "--site", str(site))
    assert found.exit_code == 0, found.output
    assert "Energy statement of old" in found.output
    site.write_text("[site]\nname = 3\n")
    found = report("energy", "--state", str(tmp_path), "--month", "2026-03", "--site", str(site))
    assert found.exit_code == 2 and "site.name" in found.output


@pytest.mark.parametrize("name", ["energy", "fairness"])
def test_hostile_names_do_no_harm_in_any_form(state: Path, tmp_path: Path, name: str) -> None:
    words = [name, "--state", str(state), "--month", "2026-03"]
    assert "\x1b" not in report(*words).output
    page = tmp_path / "page.html"
    assert report(*words, "--out", str(page)).exit_code == 0
    assert "<img" not in page.read_text() and "\x1b" not in page.read_text()
    folder = tmp_path / "csv"
    folder.mkdir()
    assert report(*words, "--out", str(folder)).exit_code == 0
    with (folder / "users.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    hostile = [cell for row in rows for cell in row if "cmd" in cell]
    assert hostile and all(cell.startswith("'=cmd") and "\x1b" not in cell for cell in hostile)


def test_the_statement_in_json_adds_up(state: Path) -> None:
    found = report("energy", "--state", str(state), "--month", "2026-03", "--by", "job", "--json")
    document = json.loads(found.output)
    tables = {
        block["table"]: block
        for section in document["sections"]
        for block in section["blocks"]
        if "table" in block
    }
    *lines, meter = tables["lines"]["rows"]
    assert meter[0] == "sum = meter"
    assert round(1000 * sum(line[1] for line in lines)) == round(1000 * meter[1])
    assert sum(line[3] for line in lines) == pytest.approx(meter[3])
    heads = [column["heading"] for column in tables["accounts"]["columns"]]
    part = heads.index("Part of the cost")
    assert sum(row[part] for row in tables["accounts"]["rows"]) == pytest.approx(meter[3])
    assert len(tables["jobs"]["rows"]) == len(JOBS)
    # Four of the 31 days were recorded.
    assert any("An estimate" in check["text"] and not check["good"] for check in document["checks"])
    assert "gaps" in tables


TARIFF = """\
name = "by day and night"
fixed_price_per_month = 100.0
[[season]]
name = "all year"
from = "01-01"
to = "12-31"
[[season.period]]
to = "08:00"
price_per_kwh = 0.11
[[season.period]]
from = "08:00"
to = "20:00"
tiers = [{ up_to_kwh = 2000, price_per_kwh = 0.31 }, { price_per_kwh = 0.27 }]
[[season.period]]
from = "20:00"
price_per_kwh = 0.13
"""
SITE_TOML = """\
[site]
name = "lab"
[supply]
tariff_file = "tariff.toml"
[circuit.grid]
rating_watts = 1e6
limit_kind = "economic"
meter = "m0"
[circuit.rack1]
parent = "grid"
rating_watts = 1e5
limit_kind = "safety"
meter = "m1"
nodes = ["c1", "c2"]
[circuit.rack2]
parent = "grid"
rating_watts = 1e5
limit_kind = "safety"
meter = "m2"
nodes = ["c3"]
""" + "".join(f'[device.m{n}]\ndriver = "sunspec_meter"\naddress = "127.0.0.1:{502 + n}"\n' for n in range(3))


def test_costs_of_a_month_add_up_to_its_bill_by_the_sites_tariff(tmp_path: Path) -> None:
    write_plant(tmp_path, JOBS, start_seconds=START, end_seconds=START + 31 * DAY)
    (tmp_path / "tariff.toml").write_text(TARIFF)
    site = tmp_path / "site.toml"
    site.write_text(SITE_TOML)
    words = ["--state", str(tmp_path), "--site", str(site), "--json"]
    bill = next(
        block["rows"]
        for section in json.loads(report("month", "2026-03", *words).output)["sections"]
        for block in section["blocks"]
        if block.get("table") == "bill"
    )
    energy = sum(row[-1] for row in bill if row[0] == "energy")
    document = json.loads(report("energy", "--month", "2026-03", *words).output)
    blocks = [block for section in document["sections"] for block in section["blocks"]]
    tables = {block["table"]: block for block in blocks if "table" in block}
    *lines, meter = tables["lines"]["rows"]
    assert energy > 500.0, bill
    assert meter[3] == pytest.approx(energy, abs=0.005)
    assert sum(line[3] for line in lines) == pytest.approx(energy, abs=0.005)
    part = [column["heading"] for column in tables["users"]["columns"]].index("Part of the cost")
    assert sum(row[part] for row in tables["users"]["rows"]) == pytest.approx(energy, abs=0.005)
    (tmp_path / "tariff.toml").unlink()
    found = report("energy", "--month", "2026-03", *words)
    assert found.exit_code == 2 and "tariff" in found.output


def test_a_given_bill_is_shared_to_the_cent(state: Path) -> None:
    span = ["--since", "2026-03-01", "--until", "2026-03-05"]
    found = report("energy", "--state", str(state), *span, "--energy-bill", "123.45", "--json")
    document = json.loads(found.output)
    blocks = [block for section in document["sections"] for block in section["blocks"]]
    rows = next(block["rows"] for block in blocks if block.get("table") == "lines")
    assert sum(row[3] for row in rows[:-1]) == pytest.approx(123.45, abs=0.005)
    assert rows[-1][3] == pytest.approx(123.45)


def test_a_month_that_is_not_over_ends_now(state: Path) -> None:
    now = clock.now()
    found = report("energy", "--state", str(state), "--month", f"{now:%Y-%m}", "--json")
    document = json.loads(found.output)
    assert document["subtitle"] == f"{now:%Y-%m}, so far"
    assert f"{now:%Y-%m-%d}" in document["labels"]["Until"]


def test_an_empty_store_is_told_and_no_error(tmp_path: Path) -> None:
    write_plant(tmp_path, (), start_seconds=START, end_seconds=START)
    for name in ("energy", "fairness"):
        found = report(name, "--state", str(tmp_path), "--month", "2026-03")
        assert found.exit_code == 0, found.output
    assert "An estimate: the meter was read for less than 95 % of the span" in report(
        "energy", "--state", str(tmp_path), "--month", "2026-03"
    ).output.replace("\n", " ")
