"""Bills by a tariff with everything in it, when clocks change, and 400 days with weeks missing.

The bill is reckoned here from the meter's samples, in whole tenths of a watt and exact fractions: none of the
functions that the report uses has a part in it.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from slurm_power.forecast.supply import Supply
from slurm_power.report.month.month import MonthAccount, month_account
from slurm_power.report.month.month_bill import Terms
from slurm_power.report.month.month_columns import Values
from slurm_power.signals.billing_file import read_billing_rules
from slurm_power.store.places import open_series_reader
from slurm_power.store.sqlite import SqliteStore
from tests.report.simulated_month import write_quarters

BERLIN = ZoneInfo("Europe/Berlin")
# The hour of the coincident peak in October comes twice: both count, as the local hour says.
TARIFF = """
name = "everything"
fixed_price_per_month = 50.0
fixed_price_per_day = 1.5
[[season]]
[[season.period]]
to = "06:00"
price_per_kwh = 0.11
[[season.period]]
from = "06:00"
tiers = [{ up_to_kwh = 5000, price_per_kwh = 0.31 }, { price_per_kwh = 0.23 }]
[[demand]]
name = "any time"
tiers = [{ up_to_kw = 40, price_per_kw = 4.0 }, { price_per_kw = 7.0 }]
ratchet_ratio = 0.9
ratchet_months = 2
[[coincident]]
name = "system peak"
price_per_kw = 55.0
hours = ["2025-10-26T02:00", "2025-11-12T18:00", "2026-03-29T03:00", "2026-03-30T18:00"]
"""
COINCIDENT = {
    "2025-10": ((10, 26, 2),),
    "2026-03": ((3, 29, 3), (3, 30, 18)),
}


def start_of(label: str) -> int:
    year, month = map(int, label.split("-"))
    return round(datetime(year, month, 1, tzinfo=BERLIN).timestamp())


def samples_of(count: int, seed: int) -> Values:
    """Watts of each minute, in tenths, 10 to 60 kW."""
    draw = np.random.default_rng(seed)
    day = 35_000.0 + 15_000.0 * np.sin(np.arange(count) / 229.0)
    return np.round(day + draw.normal(0.0, 2_000.0, count), 1)


def exact_bill(samples: Values, start: int, label: str, earlier_kw: Fraction) -> tuple[Fraction, Fraction]:
    """(kWh, money) of a month by the tariff above, a line of arithmetic for each of its lines."""
    cheap = dear = peak = Fraction(0)
    coincident: list[Fraction] = []
    days = set()
    for first in range(0, len(samples), 15):
        local = datetime.fromtimestamp(start + 60 * first, BERLIN)
        days.add(local.date())
        tenths = sum(round(10.0 * watts) for watts in samples[first : first + 15])
        kw = Fraction(tenths, 15 * 10_000)
        peak = max(peak, kw)
        if local.hour < 6:
            cheap += kw / 4
        else:
            dear += kw / 4
        if (local.month, local.day, local.hour) in COINCIDENT[label]:
            coincident.append(kw)
    kwh = cheap + dear
    first_tier = min(Fraction(1), 5000 / kwh)
    money = cheap * Fraction("0.11")
    money += dear * (first_tier * Fraction("0.31") + (1 - first_tier) * Fraction("0.23"))
    billed = max(peak, Fraction("0.9") * earlier_kw)
    money += 4 * min(billed, Fraction(40)) + 7 * max(billed - 40, Fraction(0))
    money += 55 * sum(coincident, Fraction(0)) / len(coincident)
    return kwh, money + 50 + Fraction("1.5") * len(days)


@contextmanager
def stores(state: Path) -> Iterator[tuple[SqliteStore, object]]:
    store = SqliteStore(state / "powerctld.sqlite", read_only=True)
    recorded = open_series_reader(state)
    try:
        yield store, recorded
    finally:
        recorded.close()
        store.close()


def account_of(state: Path, label: str, terms: Terms) -> MonthAccount:
    with stores(state) as (store, recorded):
        return month_account(store, recorded, label, terms)  # type: ignore[arg-type]  # a SeriesReader


def write(
    state: Path, start: int, samples: Values, silent: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> None:
    SqliteStore(state / "powerctld.sqlite").close()
    columns = {"circuit.grid.watts": samples, "circuit.grid.limit_watts": np.full(len(samples), 90_000.0)}
    write_quarters(state / "series.sqlite", float(start), columns, silent)


@pytest.mark.parametrize(
    ("label", "following", "hours"), [("2025-10", "2025-11", 745), ("2026-03", "2026-04", 743)]
)
@pytest.mark.parametrize("billed_kw", [0, 97])
def test_tiers_ratchet_coincident_peak_and_both_changes_of_the_clock(
    tmp_path: Path, label: str, following: str, hours: int, billed_kw: int
) -> None:
    start, end = start_of(label), start_of(following)
    assert end - start == hours * 3600
    samples = samples_of((end - start) // 60, seed=hours)
    write(tmp_path, start, samples, np.zeros(len(samples), dtype=np.bool_))
    (tmp_path / "tariff.toml").write_text(TARIFF)
    before = {"2025-10": ("2025-08", "2025-09"), "2026-03": ("2026-01", "2026-02")}[label]
    terms = Terms(
        rules=read_billing_rules(tmp_path / "tariff.toml"),
        supply=Supply(zone=BERLIN),
        billed_peaks_kw={"any time": dict.fromkeys(before, float(billed_kw))},
    )
    kwh, money = exact_bill(samples, start, label, Fraction(billed_kw))
    account = account_of(tmp_path, label, terms)
    assert account.bill is not None
    assert account.metered_kwh == pytest.approx(float(kwh), rel=1e-6)
    assert account.bill.total == pytest.approx(float(money), abs=0.005)
    assert sum(line.amount for line in account.bill.lines) == pytest.approx(float(money), abs=0.005)


def test_400_days_with_weeks_missing_take_seconds_and_little_memory(tmp_path: Path) -> None:
    """In a process of its own, whose memory at its highest is asked of the system."""
    start, days = start_of("2024-10"), 400
    samples = samples_of(days * 1440, seed=1)
    silent = np.zeros(len(samples), dtype=np.bool_)
    for week in (5, 6, 20, 33, 50):
        silent[week * 10_080 : (week + 1) * 10_080] = True
    write(tmp_path, start, samples, silent)
    site = tmp_path / "site.toml"
    site.write_text(
        '[site]\nname = "lab"\ntimezone = "Europe/Berlin"\n'
        '[circuit.grid]\nrating_watts = 1e6\nlimit_kind = "economic"\nmeter = "m"\n'
        '[device.m]\ndriver = "sunspec_meter"\naddress = "127.0.0.1:502"\n'
    )
    span = ["--since", datetime.fromtimestamp(start, UTC).isoformat()]
    span += ["--until", datetime.fromtimestamp(start + days * 86_400, UTC).isoformat()]
    program = (
        "import sys\nfrom pathlib import Path\nfrom slurm_power.cli.slurm_power import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    status = Path('/proc/self/status').read_text()\n"
        "    print(status.split('VmHWM:')[1].split()[0], file=sys.stderr)\n"
    )
    out = ["--json", "--out", str(tmp_path / "year.json")]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, "report", "energy", "--state", tmp_path, "--site", site, *span, *out],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    seconds, megabytes = time.monotonic() - began, int(done.stderr.split()[-1]) / 1000.0
    assert done.returncode == 0, done.stderr
    assert '"An estimate: the meter was read for less than 95 % of the span"' in done.stdout
    kwh = float(samples[~silent].sum()) / 60_000.0
    assert f'"{kwh:.1f} kWh"' in done.stdout
    assert done.stdout.count("168.0\n") == 3 and "336.0\n" in done.stdout  # four gaps, one of two weeks
    print(f"400 days: {seconds:.1f} s, {megabytes:.0f} MB at the highest")
    assert seconds < 30.0
    assert megabytes < 150.0
