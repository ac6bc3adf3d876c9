"""``slurm-power check`` against signals that are good, stale, wrong, away, and that hang."""

import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from containers.vtn.background import Background
from containers.vtn.openadr2 import Vtn2
from containers.vtn.openadr3 import Vtn3
from slurm_power.bridge import signal_check
from slurm_power.cli.slurm_power import main
from tests.bridge.authority import make, make_wrong
from tests.bridge.bad_server import Answer, BadServer, bad_server, body
from tests.bridge.test_http_feed import rows
from tests.bridge.test_http_tls import free_port, tls_of

HOUR = timedelta(hours=1)
SITE = """
[site]
name = "small"
[controller]
state_directory = "{folder}/state"
[circuit.grid]
rating_watts = 60_000.0
limit_kind = "economic"
{more}
"""
PRICES = """
[signals.{name}]
kind = "http_prices"
url = "{url}"
rows = "data"
time = "at"
value = "eur"
unit = "per_MWh"
least_value = -500
most_value = 4000
{more}
"""
VTN3 = """
[signals.utility]
kind = "openadr3"
url = "{url}"
ven_name = "lab-1"
client_id = "ven"
client_secret_file = "secret"
"""
VTN2 = """
[signals.older]
kind = "openadr2"
url = "{url}"
ven_name = "lab-1"
"""


def run(folder: Path, more: str, *words: str) -> Result:
    file = folder / "site.toml"
    file.write_text(SITE.format(folder=folder, more=more))
    return CliRunner().invoke(main, ["check", "--no-slurm", "--config", str(file), *words])


def told(folder: Path, more: str) -> dict[str, dict[str, Any]]:
    """Each signal by name, without the table that it stands in."""
    found = json.loads(run(folder, more, "--json").stdout)["signals"]
    return {row["name"].partition(".")[2]: row for row in found}


def prices(url: str, name: str = "day", more: str = "") -> str:
    return PRICES.format(url=url, name=name, more=more)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with bad_server() as found:
        yield found


def csv(folder: Path, *told_rows: tuple[datetime, str]) -> None:
    text = "".join(f"{at.isoformat()},{value}\n" for at, value in told_rows)
    (folder / "p.csv").write_text(f"time,price\n{text}")


def test_files_that_say_something_of_now_and_that_do_not(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    supply = '[supply]\nprice_file = "p.csv"\nprice_unit = "per_kWh"\n'
    csv(tmp_path, (now - 2 * HOUR, "0.1"), (now - HOUR / 2, "0.2"), (now + 4 * HOUR, ""))
    row = told(tmp_path, supply)["price_file"]
    assert (row["state"], row["fix"]) == ("ok", "")
    assert row["newest_age_seconds"] == pytest.approx(1800.0, abs=20.0)
    assert row["what"] == f"known until {now + 4 * HOUR:%Y-%m-%d %H:%MZ}"
    assert run(tmp_path, supply).exit_code == 0
    csv(tmp_path, (now - 9 * HOUR, "0.1"), (now - 8 * HOUR, "0.2"))
    row = told(tmp_path, supply)["price_file"]
    assert (row["state"], row["what"]) == (
        "stale",
        f"nothing is known since {now - 6 * HOUR:%Y-%m-%d %H:%MZ}",
    )
    assert run(tmp_path, supply).exit_code == 1
    csv(tmp_path, (now + HOUR, "0.1"))
    assert told(tmp_path, supply)["price_file"]["what"].startswith("it begins at")
    csv(tmp_path, (now, "dear"))
    assert told(tmp_path, supply)["price_file"]["state"] == "wrong"
    (tmp_path / "p.csv").unlink()
    assert told(tmp_path, supply)["price_file"]["state"] == "unreachable"
    assert run(tmp_path, supply).exit_code == 2


def test_a_feed_that_is_not_there_yet_names_who_writes_it(tmp_path: Path) -> None:
    supply = '[supply]\nprice_file = "state/feeds/day.price.csv"\nprice_unit = "per_kWh"\n'
    assert "powerbridge writes it" in told(tmp_path, supply)["price_file"]["fix"]


def test_limits_and_tariffs_have_no_end(tmp_path: Path) -> None:
    (tmp_path / "limit.csv").write_text("time,kW\n2026-01-01T00:00Z,300\n")
    (tmp_path / "tariff.toml").write_text(
        'name = "flat"\n[[season]]\n[[season.period]]\nprice_per_kwh = 0.1\n'
    )
    supply = '[supply]\nlimit_file = "limit.csv"\nlimit_unit = "kW"\ntariff_file = "tariff.toml"\n'
    found = told(tmp_path, supply)
    assert {row["state"] for row in found.values()} == {"ok"}
    assert found["limit_file"]["what"] == "known until it says otherwise"
    (tmp_path / "tariff.toml").write_text("[[season]]\n")
    assert told(tmp_path, supply)["tariff_file"]["state"] == "wrong"


PAGES = {
    "good": (body(rows(80.0, 90.0)), "ok", "2 values until", ""),
    "yesterday": (
        body(rows(80.0, first=datetime.now(UTC) - 24 * HOUR)),
        "stale",
        "nothing is known since",
        "stopped",
    ),
    "absurd": (body(rows(1e9)), "wrong", "not plausible", "compare"),
    "one absurd row": (body(rows(80.0, 1e9)), "ok", "1e+09 is not plausible", "ask its owner"),
    "no JSON": (body(b"<html>"), "wrong", "no JSON", "compare"),
    "too long": (body(b" " * 3_000_000), "wrong", "more than 2000000 bytes", "url"),
    "login": (body(b"", 401), "wrong", "401", "headers_file"),
    "gone": (body(b"", 404), "wrong", "404", "url"),
    "busy": (body(b"", 503), "unreachable", "503", "host up"),
    "elsewhere": (body(b"", 302, Location="https://example.org/"), "wrong", "another host", "url"),
}


@pytest.mark.parametrize("how", PAGES)
def test_pages(how: str, server: BadServer, tmp_path: Path) -> None:
    server.answer, state, what, fix = PAGES[how]
    row = told(tmp_path, prices(server.url))["day"]
    assert row["state"] == state
    assert what in row["what"]
    assert fix in row["fix"]
    assert bool(row["fix"]) == bool(fix)


def test_a_page_of_limits_may_have_none(server: BadServer, tmp_path: Path) -> None:
    table = f'[signals.cap]\nkind = "http_limits"\nurl = "{server.url}"\ntime = "at"\nend = "to"\n'
    table += 'value = "kw"\nunit = "kW"\n'
    row = told(tmp_path, table)["cap"]
    assert (row["state"], row["what"]) == ("ok", "0 limits now or ahead")


@pytest.mark.parametrize("how", ["self-signed", "expired", "wrong host"])
def test_a_certificate_that_is_not_believed(how: str, tmp_path: Path) -> None:
    files = make(tmp_path)
    with bad_server(tls_of(*make_wrong(tmp_path, how))) as server:
        row = told(tmp_path, prices(server.url, more=f'ca_file = "{files["ca"]}"'))["day"]
    assert row["state"] == "wrong"
    assert "certificate verify failed" in row["what"]
    assert "ca_file" in row["fix"]


def test_secrets_that_others_may_read_are_not_sent(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("X-Key: 1\n")
    (tmp_path / "headers").chmod(0o644)
    row = told(tmp_path, prices(server.url, more='headers_file = "headers"'))["day"]
    assert row["state"] == "wrong"
    assert "chmod 600" in row["what"]
    assert server.asked == []


def hang(server: BadServer) -> Answer:
    """Take the call, and say nothing before the test is over."""

    def answer(_: BaseHTTPRequestHandler) -> None:
        server.over.wait(20.0)

    return answer


def test_nothing_hangs_and_all_are_tried_at_once(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal_check, "PATIENCE_SECONDS", 3.0)
    monkeypatch.setattr(signal_check, "_ANSWER_SECONDS", 1.0)
    server.answer = hang(server)
    with socket.socket() as deaf:
        # It takes the call and never says a word.
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        silent = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        more = "".join(prices(f"{server.url}/{number}", f"slow{number}") for number in range(5))
        more += prices(silent, "deaf") + prices("http://127.0.0.1:1", "closed")
        more += prices("https://no-such-host.invalid/x", "nowhere") + VTN2.format(url=silent)
        began_seconds = time.monotonic()
        found = told(tmp_path, more)
        took_seconds = time.monotonic() - began_seconds
    assert {row["state"] for row in found.values()} == {"unreachable"}
    assert len(found) == 9
    assert "no whole answer in 1 s" in found["slow4"]["what"]
    assert "no-such-host.invalid" in found["nowhere"]["what"]
    assert took_seconds < 8.0


def test_what_cannot_be_ended_is_not_waited_for(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal_check, "PATIENCE_SECONDS", 0.5)
    server.answer = hang(server)
    row = told(tmp_path, prices(server.url))["day"]
    assert (row["state"], row["what"]) == ("unreachable", "no answer in 0.5 s")


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.csv")
    row = told(tmp_path, '[supply]\nprice_file = "p.csv"\nprice_unit = "per_kWh"\n')["price_file"]
    assert row["state"] == "wrong"
    assert "is no plain file" in row["what"]


def test_no_signals_asks_nobody(server: BadServer, tmp_path: Path) -> None:
    done = run(tmp_path, prices(server.url), "--no-signals")
    assert (done.exit_code, server.asked) == (0, [])


def test_lines_for_people(server: BadServer, tmp_path: Path) -> None:
    server.answer = body(rows(80.0))
    done = run(tmp_path, prices(server.url))
    assert done.exit_code == 0
    assert "signals.day: ok: 1 values until" in done.stdout
    server.answer = body(b"", 401)
    done = run(tmp_path, prices(server.url))
    assert done.exit_code == 2
    assert "signals.day: wrong: 401 Unauthorized; fix: is headers_file right?" in done.stderr
    assert "no problems" not in done.stdout


@pytest.fixture
def background() -> Iterator[Background]:
    found = Background()
    yield found
    found.close()


def test_a_vtn_of_openadr_3(background: Background, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    vtn = Vtn3(client_secret="s3cret")
    url = background.run(vtn.start())
    try:
        row = told(tmp_path, VTN3.format(url=url))["utility"]
        assert (row["state"], row["what"]) == ("ok", "answers, 0 programs")
        assert vtn.posted == []
        row = told(tmp_path, VTN3.format(url=url) + 'programs = ["Curtailment"]\n')["utility"]
        assert (row["state"], row["what"]) == ("wrong", "it has no program Curtailment")
        secret.write_text("another")
        row = told(tmp_path, VTN3.format(url=url))["utility"]
        assert row["state"] == "wrong"
        assert "no token" in row["what"] and "client_secret_file" in row["fix"]
    finally:
        background.run(vtn.stop())
    assert told(tmp_path, VTN3.format(url=url))["utility"]["state"] == "unreachable"


def test_a_vtn_of_openadr_2(background: Background, tmp_path: Path) -> None:
    port = free_port()
    vtn = Vtn2(port)
    background.run(vtn.start())
    url = f"http://127.0.0.1:{port}/OpenADR2/Simple/2.0b"
    try:
        row = told(tmp_path, VTN2.format(url=url))["older"]
        assert (row["state"], row["what"]) == ("ok", "answers")
        assert vtn.registrations == 0
        row = told(tmp_path, VTN2.format(url=f"http://127.0.0.1:{port}/elsewhere"))["older"]
        assert (row["state"], row["fix"]) == ("wrong", "is url right?")
    finally:
        background.run(vtn.stop())
    assert told(tmp_path, VTN2.format(url=url))["older"]["state"] == "unreachable"
