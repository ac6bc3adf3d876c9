"""slurm-power report shadow: from a state directory that a watching controller has filled."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slurm_power import clock
from slurm_power.controller.levers.shadow import ShadowBook
from slurm_power.controller.records.series_values import series_values
from slurm_power.model.action import SetCap, SetDischarge
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.site import LimitKind
from slurm_power.plan.loads import job_loads
from slurm_power.plan.policy import Policy
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore
from tests.cli.test_slurm_power import run
from tests.plan.situations import ess_reading, running, site, situation

CAP = SetCap(
    job_id="1",
    cap_watts=400.0,
    kind=LimitKind.ECONOMIC,
    reason="tight",
    saved_watts=2000.0,
    slowdown_ratio=0.2,
)
DISCHARGE = SetDischarge(ess="battery", discharge_watts=1000.0, reason="above")
HOSTILE = "<script>alert(1)</script>"
TARIFF = """
name = "flat"
[[season]]
[[season.period]]
price_per_kwh = 0.5
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Two minutes of 32 kW under 30 kW, in which a cap of 2 kW is wished for, and one that is controlled."""
    folder = tmp_path / "state"
    folder.mkdir()
    store = SqliteStore(folder / "powerctld.sqlite")
    series = SqliteSeries(folder / "series.sqlite")

    def note(at: Any, actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        store.append(LedgerEntry(at=at, actor=actor, kind=kind, subject=subject, reason=reason, **more))

    book = ShadowBook(store, note)
    began = clock.now() - timedelta(seconds=200)
    job = replace(running("1", ("c1",)), user=HOSTILE)
    for second in range(180):
        snapshot = replace(
            situation(of=site(rack_limit_watts=9_000.0), jobs=(job,), import_watts=32_000.0),
            at=began + timedelta(seconds=second),
            ess={"battery": ess_reading()},
        )
        book.observe(
            [CAP, DISCHARGE] if second < 120 else [],
            snapshot,
            job_loads(snapshot, Policy()),
            1.0,
            shadow=second < 120,
        )
        series.add(snapshot.at, {**series_values(snapshot, Policy()), **book.values})
    store.put_job("1", {"user": HOSTILE, "gpu_count": 8, "seconds": 180.0, "state": "running"})
    series.close()
    store.close()
    yield folder


def test_what_would_have_been_is_told_as_json(state: Path) -> None:
    result = run("report", "shadow", "--state", state, "--since", "1h", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    tables = {
        block["table"]: block
        for section in found["sections"]
        for block in section["blocks"]
        if "table" in block
    }
    was, capped, once, always = tables["courses"]["rows"]
    assert (was[0], was[1], was[3]) == ("as it was", pytest.approx(32.0), pytest.approx(2.0))
    assert was[2] == pytest.approx(120.0, abs=10.0)
    # 8 GPUs from 650 to 400 W; 1 kW of the battery on top.
    assert capped[1] == pytest.approx(30.0, abs=0.05) and once[1] == always[1] == pytest.approx(
        29.0, abs=0.05
    )
    assert [row[:2] for row in tables["levers"]["rows"]] == [["cap", 120.0], ["discharge", 120.0]]
    # The rack is at 10 of 9 kW, and the cap takes 2 kW off it.
    ((rack, above_seconds, worst_kw, would_seconds),) = tables["circuits"]["rows"]
    assert (rack, worst_kw, would_seconds) == ("rack1", pytest.approx(1.0), 0.0)
    assert above_seconds == pytest.approx(120.0, abs=10.0)
    (user,) = tables["users"]["rows"]
    assert user[:3] == [HOSTILE, 1, 1] and user[3] == pytest.approx(24.0, abs=0.5)
    assert [check["good"] for check in found["checks"]][:1] == [False]
    assert any(
        "only 67 % of the span" in check["text"].replace("%", " %") or "%" in check["text"]
        for check in found["checks"][1:]
    )
    assert any("ledger is whole" in line for line in found["proof"])


def test_the_page_is_whole_and_nobody_writes_into_it(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "shadow.html"
    result = run("report", "shadow", "--state", state, "--since", "1h", "--out", out)
    assert result.exit_code == 0, result.output
    text = out.read_text()
    assert "<svg" in text and "battery, never empty" in text
    assert HOSTILE not in text and "&lt;script&gt;" in text
    assert "How sure this is" in text and "no replay" in " ".join(text.split())


def test_a_tariff_tells_the_bill(state: Path, tmp_path: Path) -> None:
    tariff = tmp_path / "tariff.toml"
    tariff.write_text(TARIFF)
    result = run(
        "report",
        "shadow",
        "--state",
        state,
        "--since",
        "1h",
        "--tariff",
        tariff,
        "--out",
        tmp_path / "courses.csv",
        "--table",
        "courses",
    )
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO((tmp_path / "courses.csv").read_text())))
    bills = [float(row["bill (money units of the tariff)"]) for row in rows]
    assert bills[0] > bills[1] > bills[2] > 0.0


def test_bad_input_is_refused_with_a_sentence(state: Path, tmp_path: Path) -> None:
    for words, said, status in (
        (["--zone", "Moon/Crater"], "no time zone", 2),
        (["--circuit", "moon"], "no series of circuit 'moon'", 2),
        (["--since", "soon"], "is no moment", 2),
        (["--month", "2026-13"], "is no month", 2),
        (["--since", "2d", "--until", "3d"], "is not before --until", 2),
        (["--month", "9998-01"], "has not begun yet", 2),
        (["--out", tmp_path / "no" / "x.html"], "", 2),
    ):
        result = run("report", "shadow", "--state", state, *words)
        assert result.exit_code == status and said in result.output, (words, result.output)


def test_a_state_that_never_only_watched_says_so(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "powerctld.sqlite").close()
    SqliteSeries(tmp_path / "series.sqlite").close()
    result = run("report", "shadow", "--state", tmp_path)
    assert result.exit_code == 1 and "never only watched" in result.output


def test_a_span_has_the_same_options_as_with_every_report(state: Path, tmp_path: Path) -> None:
    (tmp_path / "tariff.toml").write_text(TARIFF)
    site_file = tmp_path / "site.toml"
    site_file.write_text(
        '[site]\nname = "lab"\ntimezone = "Europe/Berlin"\n[supply]\ntariff_file = "tariff.toml"\n'
        'currency = "EUR"\n[circuit.grid]\nrating_watts = 40_000\nlimit_kind = "economic"\n'
    )
    words = ("report", "shadow", "--state", state, "--site", site_file, "--since", "1h", "--until", "0s")
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    (bill,) = [tile for tile in json.loads(result.output)["tiles"] if tile["name"] == "Bill"]
    assert bill["value"].endswith(" EUR")
    result = run(*words, "--zone", "UTC")
    assert (result.exit_code, "site.toml says the clock" in result.output) == (2, True)
    # Up to the first minute: what was wished for later is in no figure, and what is open is not yet known.
    result = run("report", "shadow", "--state", state, "--since", "1h", "--until", "140s", "--json")
    found = json.loads(result.output)
    tables = {
        block["table"]: block for part in found["sections"] for block in part["blocks"] if "table" in block
    }
    assert tables["users"]["rows"][0][2] == 0 and tables["jobs"]["rows"] == []
    assert tables["courses"]["rows"][0][2] == pytest.approx(60.0, abs=10.0)
    # Before all that there is.
    result = run("report", "shadow", "--state", state, "--since", "3d", "--until", "2d")
    assert result.exit_code == 1 and "there are no series of grid since" in result.output
