"""A year's audit: complete, and nothing of it can be changed without a stranger finding it."""

import csv
import hashlib
import json
import random
import resource
import signal
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.series import Point
from slurm_power.report.audit.audit import measured_excesses
from slurm_power.store.series import SqliteSeries
from slurm_power.store.sqlite import SqliteStore

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
EVIL = '=HYPERLINK("http://x")\x1b[31m\n<script>alert(1)</script>'


def entry(at: datetime, kind: str = "cap", **more: Any) -> LedgerEntry:
    fields: dict[str, Any] = {"actor": "guard", "subject": "job:1", "reason": "r", **more}
    return LedgerEntry(at=at, kind=kind, **fields)


def entries() -> list[LedgerEntry]:
    """A ledger that goes from the end of 2025 into 2027, with one of each thing that is looked for."""

    def on(day: int) -> datetime:
        return NEW_YEAR + timedelta(days=day)

    changes = {
        "policy.cap_floor_ratio": {"old": 0.45, "new": 0.6},
        "policy.pause_flex": {"old": "", "new": "flex3"},
    }
    unsigned = {"changes": changes, "fingerprint": "f1", "signed": False}
    return [
        *(entry(on(-10 + number)) for number in range(5)),
        entry(on(-1), "shortfall", subject="circuit:rack1", reason="before"),
        entry(on(0), "shortfall over", subject="circuit:rack1", reason="the levers reach again"),
        entry(on(1), "policy changed", actor="author:root", subject="policy", details=unsigned),
        entry(
            on(2), "policy signed", actor="operator:carol", subject="policy", details={"fingerprints": ["f1"]}
        ),
        entry(on(3), "control off", actor="operator:alice (web)", subject="site", reason=EVIL),
        entry(on(4), "event", actor="signal:openadr3", subject="circuit:grid"),
        entry(on(5), "shortfall", subject="circuit:grid", reason="all at their floor"),
        entry(on(5) + timedelta(seconds=90), "shortfall over", subject="circuit:grid"),
        entry(on(6), "shortfall", subject="circuit:grid", reason="again"),
        entry(
            on(7),
            "appeal",
            actor="user:bob",
            job_id="7",
            user="bob",
            reason="why me",
            details={"appeal_id": "ap-1"},
        ),
        entry(
            on(8),
            "appeal",
            actor="user:eve",
            job_id="8",
            user="eve",
            reason=EVIL,
            details={"appeal_id": "ap-2"},
        ),
        entry(
            on(9),
            "appeal answered",
            actor="operator:carol",
            job_id="7",
            user="bob",
            reason="by the policy",
            details={"appeal_id": "ap-1", "waited_seconds": 172_800},
        ),
        *(entry(on(20 + number), saved_watts=100.0 * number, details={"n": number}) for number in range(60)),
        entry(on(364)),
        entry(on(365)),
        entry(on(400)),
    ]


IN_2026 = 72


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    store = SqliteStore(folder / "powerctld.sqlite")
    store.fill(entries(), {}, {"policy_book": {"values": {"site.name": "lab <north>"}}})
    store.close()
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", "audit", *map(str, arguments)])


def export(state: Path, out: Path) -> dict[str, Any]:
    result = run(2026, "--state", state, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def table(out: Path, name: str) -> list[dict[str, str]]:
    with (out / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_year_is_written_whole_and_verified(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    told = export(state, out)
    assert (told["whole"], told["rows"]["ledger.jsonl"], told["open_appeals"]) == (True, IN_2026, 1)
    assert sorted(told["files"]) == sorted(path.name for path in out.iterdir())
    assert told["seal"] == hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()
    good = run("--verify", out, "--seal", told["seal"])
    assert (good.exit_code, "complete and unchanged" in good.output) == (0, True)
    # By hand, with nothing of ours: what README.txt says.
    chain = json.loads((out / "chain.json").read_text())
    last = chain["hash_before"]
    for line in (out / "ledger.jsonl").read_text().splitlines():
        row = json.loads(line)
        last = hashlib.sha256(f"{last}\n{row['canonical']}".encode()).hexdigest()
        assert last == row["hash"]
    assert last == chain["within"]["last_hash"]
    assert (chain["before"]["entries"], chain["within"]["entries"], chain["after"]["entries"]) == (
        6,
        IN_2026,
        2,
    )
    assert (chain["within"]["first_sequence"], chain["broken_at_sequence"]) == (7, None)


def test_what_an_auditor_looks_for_is_there(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    export(state, out)
    policy = table(out, "policy-changes")
    assert [(row["key"], row["old"], row["new"], row["signed"]) for row in policy] == [
        ("policy.cap_floor_ratio", "0.45", "0.6", "no"),
        ("policy.pause_flex", "", "flex3", "no"),
        ("", "", "", ""),
    ]
    assert [row["actor"] for row in table(out, "deeds")] == [
        "operator:carol",
        "operator:alice (web)",
        "signal:openadr3",
        "operator:carol",
    ]
    limits = [
        (row["circuit"], row["since"] != "", row["length (s)"]) for row in table(out, "limits-exceeded")
    ]
    assert limits == [("rack1", False, ""), ("grid", True, "90.0"), ("grid", True, "")]
    appeals = {row["appeal"]: row for row in table(out, "appeals")}
    assert (appeals["ap-1"]["answer"], appeals["ap-1"]["waited (s)"]) == ("by the policy", "172800.0")
    assert (appeals["ap-2"]["answered"], appeals["ap-2"]["user"]) == ("", "eve")
    assert len(table(out, "ledger")) == IN_2026
    assert all(len(row["hash"]) == 64 for row in table(out, "ledger"))


def test_hostile_words_do_nothing(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    export(state, out)
    page = (out / "audit.html").read_text()
    assert "<script>alert(1)" not in page and "lab &lt;north&gt;" in page
    (row,) = [row for row in table(out, "deeds") if row["kind"] == "control off"]
    assert row["reason"].startswith("'=") and "\x1b" not in row["reason"]


Spoil = Callable[[Path], object]


def flipped(name: str) -> Spoil:
    def spoil(out: Path) -> None:
        path = out / name
        data = bytearray(path.read_bytes())
        place = random.Random(7).randrange(len(data))  # any byte will do, the same each time
        data[place] ^= 1
        path.write_bytes(data)

    return spoil


def without_a_row(out: Path) -> None:
    lines = (out / "ledger.jsonl").read_text().splitlines(keepends=True)
    (out / "ledger.jsonl").write_text("".join(lines[:20] + lines[21:]))


def resealed(spoil: Spoil) -> Spoil:
    """Spoil, and write a manifest that fits: all that is left is the chain, and the seal."""

    def both(out: Path) -> None:
        spoil(out)
        manifest = json.loads((out / "manifest.json").read_text())
        for name in manifest["files"]:
            path = out / name
            if path.exists():
                manifest["files"][name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (out / "manifest.json").write_text(json.dumps(manifest))

    return both


def altered(out: Path) -> None:
    text = (out / "ledger.jsonl").read_text()
    (out / "ledger.jsonl").write_text(text.replace("why me", "all fine"))


def cut_off(out: Path) -> None:
    lines = (out / "ledger.jsonl").read_text().splitlines(keepends=True)
    (out / "ledger.jsonl").write_text("".join(lines[:-1]))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        *(
            (flipped(name), f"{name}: was changed")
            for name in ("ledger.csv", "audit.html", "appeals.csv", "README.txt")
        ),
        (flipped("ledger.jsonl"), "ledger.jsonl: was changed"),
        (without_a_row, "ledger.jsonl: entry 27 is missing"),
        (lambda out: (out / "deeds.csv").unlink(), "deeds.csv: missing"),
        (lambda out: (out / "more.csv").write_text("x"), "more.csv: is not in manifest.json"),
        (lambda out: (out / "manifest.json").write_text("{"), "manifest.json: cannot be read"),
        (lambda out: (out / "manifest.json").write_text('{"files": [1], "rows": 2}'), "cannot be read"),
        (lambda out: (out / "ledger.jsonl").write_text("[]\n"), "cannot be checked"),
        (lambda out: (out / "chain.json").write_text("[]"), "cannot be checked"),
        (resealed(without_a_row), "ledger.jsonl: entry 27 is missing"),
        (resealed(altered), "does not follow from the one before"),
        (resealed(cut_off), "does not end where chain.json says"),
        (
            resealed(lambda out: (out / "deeds.csv").write_text("no deeds\r\n")),
            "deeds.csv: is not what ledger.jsonl says",
        ),
        (resealed(flipped("ledger.csv")), "ledger.csv: is not what ledger.jsonl says"),
    ],
    ids=range(17),
)
def test_a_changed_byte_and_a_missing_row_are_found(
    state: Path, tmp_path: Path, spoil: Spoil, words: str
) -> None:
    out = tmp_path / "audit"
    export(state, out)
    spoil(out)
    result = run("--verify", out)
    assert result.exit_code == 1
    assert words in result.stderr
    told = json.loads(run("--verify", out, "--json").stdout)
    assert not told["good"] and any(words in problem for problem in told["problems"])


def test_a_folder_written_anew_does_not_have_the_seal(state: Path, tmp_path: Path) -> None:
    seal = export(state, tmp_path / "first")["seal"]
    with sqlite3.connect(state / "powerctld.sqlite") as connection:
        connection.execute("DELETE FROM ledger")
    store = SqliteStore(state / "powerctld.sqlite")
    store.fill([one for one in entries() if one.kind != "appeal"], {}, {})
    store.close()
    export(state, tmp_path / "second")
    assert run("--verify", tmp_path / "second").exit_code == 0
    result = run("--verify", tmp_path / "second", "--seal", seal)
    assert (result.exit_code, "does not have the seal" in result.stderr) == (1, True)


def test_a_ledger_that_is_not_whole_is_written_and_said_so(state: Path, tmp_path: Path) -> None:
    with sqlite3.connect(state / "powerctld.sqlite") as connection:
        connection.execute("UPDATE ledger SET reason = 'another' WHERE seq = 30")
    out = tmp_path / "audit"
    result = run(2026, "--state", state, "--out", out)
    assert (result.exit_code, "NOT whole: entry 30" in result.stderr) == (1, True)
    assert "NOT whole" in (out / "audit.html").read_text()
    verified = run("--verify", out)
    assert "entry 30 does not follow" in verified.stderr
    assert "was not whole when this was made: entry 30" in verified.stderr


def test_bad_input_is_all_said_at_once_and_writes_nothing(state: Path, tmp_path: Path) -> None:
    result = run(26, "--seal", "x")
    assert result.exit_code == 2
    assert all(word in result.stderr for word in ("YEAR: ", "--state: ", "--out: ", "--seal: "))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    result = run(2026, "--state", state, "--out", full)
    assert (result.exit_code, "is not empty" in result.stderr) == (2, True)
    assert [path.name for path in full.iterdir()] == ["mine"]
    result = run(2020, "--state", state, "--out", tmp_path / "new")
    assert "goes from 2025-12-22 to 2027-02-05" in result.stderr
    assert run("--verify", full, "--seal", "abc").exit_code == 2
    assert run(2026, "--verify", full).exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "state"]


def test_a_full_disk_leaves_nothing_behind(state: Path, tmp_path: Path) -> None:
    store = SqliteStore(state / "powerctld.sqlite")
    store.fill([entry(NEW_YEAR, reason="x" * 1000)] * 60, {}, {})
    store.close()
    # SQLite's own files beside the ledger are smaller, what is written is larger.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        result = run(2026, "--state", state, "--out", tmp_path / "audit")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert result.exit_code == 1
    assert "nothing was written" in result.stderr and str(tmp_path / "audit") in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_the_meters_say_which_quarter_hours_were_above(state: Path, tmp_path: Path) -> None:
    assert "limits-measured.csv" not in export(state, tmp_path / "without")["files"]
    series = SqliteSeries(state / "series.sqlite")
    for minute in range(45):
        above = 15 <= minute < 30
        values = {"circuit.grid.watts": 1200.0 if above else 900.0, "circuit.grid.limit_watts": 1000.0}
        series.add(NEW_YEAR + timedelta(days=3, minutes=minute), values)
    series.close()
    export(state, tmp_path / "audit")
    (row,) = table(tmp_path / "audit", "limits-measured")
    assert (row["circuit"], row["from"]) == ("grid", "2026-01-04T00:15:00+00:00")
    assert (float(row["mean (W)"]), float(row["limit (W)"])) == (1200.0, 1000.0)
    assert run("--verify", tmp_path / "audit").exit_code == 0


def test_what_nobody_measured_is_no_excess() -> None:
    draws = [Point(0.0, None, None, None, 0.0), Point(900.0, 5.0, 5.0, 5.0, 1.0)]
    limits = [Point(0.0, 1.0, 1.0, 1.0, 1.0), Point(900.0, None, None, None, 0.0)]
    assert measured_excesses({"grid": (draws, limits), "rack": ([], [])}).rows == ()
