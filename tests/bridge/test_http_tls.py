"""Feeds by HTTPS: who is not believed, where nobody is led; a real powerbridge beside a real powerctld."""

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slurm_power import clock
from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.cli.slurm_power import main
from slurm_power.controller.sensing.authority import make_authority
from tests.bridge.authority import make, make_wrong
from tests.bridge.bad_server import BadServer, bad_server, body
from tests.bridge.test_http_feed import in_loop, reader_of, rows, signal_of


def tls_of(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(files: dict[str, Path]) -> Iterator[BadServer]:
    with bad_server(tls_of(files["vtn"], files["vtn_key"])) as found:
        yield found


WRONG = {
    "self-signed": "self-signed certificate",
    "expired": "certificate has expired",
    "future": "certificate is not yet valid",
    "wrong host": "not valid for 'localhost'",
}


@pytest.mark.parametrize("how", WRONG)
@in_loop
async def test_a_wrong_certificate_is_named_and_nothing_is_sent(
    how: str, files: dict[str, Path], tmp_path: Path
) -> None:
    secret = tmp_path / "headers"
    secret.write_text("Authorization: Bearer s3cret\n")
    with bad_server(tls_of(*make_wrong(files["ca"].parent, how))) as server:
        server.answer = body(rows(80.0))
        feed = reader_of(signal_of(server, ca_file=files["ca"], headers_file=secret), tmp_path)
        with pytest.raises(AnswerError, match=WRONG[how]):
            await feed.round()
        assert server.asked == []


@in_loop
async def test_an_unknown_authority_is_not_believed(server: BadServer, tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match="certificate verify failed"):
        await reader_of(signal_of(server), tmp_path).round()
    assert server.asked == []


@pytest.mark.parametrize("how", ["another host", "another port", "no TLS", "no address"])
@in_loop
async def test_a_redirect_elsewhere_gets_no_secret(
    how: str, server: BadServer, files: dict[str, Path], tmp_path: Path
) -> None:
    secret = tmp_path / "headers"
    secret.write_text("Authorization: Bearer s3cret\n")
    with bad_server() as other:
        port = server.url.rpartition(":")[2]
        places = {
            "another host": f"https://127.0.0.1:{port}/prices",
            "another port": other.url.replace("http://127.0.0.1", "https://localhost"),
            "no TLS": f"http://localhost:{port}/prices",
            "no address": "https://[::1",
        }
        server.answer = body(b"", 302, Location=places[how])
        feed = reader_of(signal_of(server, ca_file=files["ca"], headers_file=secret), tmp_path)
        with pytest.raises(AnswerError, match=r"it redirects to|Invalid URL in location") as raised:
            await feed.round()
        assert other.asked == []
    assert "s3cret" not in str(raised.value)
    assert len(server.asked) == 1


SITE = """
[site]
name = "small"
[controller]
listen = "127.0.0.1:{port}"
socket = "{folder}/powerctld.sock"
state_directory = "{folder}/state"
tls_directory = "{folder}/tls"
scheduler = "cli"
[circuit.grid]
rating_watts = 60_000
limit_kind = "economic"
nodes = ["c1"]
[metrics]
listen = "127.0.0.1:{metrics_port}"
[signals.day]
kind = "http_prices"
url = "{url}/prices"
rows = "data"
time = "at"
value = "eur"
unit = "per_MWh"
least_value = -500
most_value = 4000
poll_seconds = 1
ca_file = "{ca}"
[signals.aggregator]
kind = "http_limits"
url = "{url}/limits"
time = "at"
value = "kw"
unit = "kW"
step_minutes = 60
poll_seconds = 1
ca_file = "{ca}"
[supply]
price_file = "state/feeds/day.price.csv"
price_unit = "per_kWh"
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(told: Callable[[], Any], process: "subprocess.Popen[str]", seconds: float = 60.0) -> Any:
    """What is told, once it is something."""
    last_seconds = time.monotonic() + seconds
    while time.monotonic() < last_seconds:
        assert process.poll() is None
        if found := told():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come")


def test_a_real_powerbridge_tells_a_real_powerctld(
    server: BadServer, files: dict[str, Path], tmp_path: Path
) -> None:
    site = tmp_path / "site.toml"
    places = {"url": server.url, "ca": files["ca"], "folder": tmp_path}
    site.write_text(SITE.format(port=free_port(), metrics_port=free_port(), **places))
    make_authority(tmp_path / "tls", "small", ["127.0.0.1"], clock.now())
    limits = json.dumps([{"at": json.loads(rows(0.0))["data"][0]["at"], "kw": 20.0}]).encode()

    def answer(request: BaseHTTPRequestHandler) -> None:
        (body(rows(81.0, 82.0, 83.0)) if request.path == "/prices" else body(limits))(request)

    server.answer = answer

    def asked(*words: str) -> Any:
        done = CliRunner().invoke(main, [*words, "--socket", str(tmp_path / "powerctld.sock"), "--json"])
        return json.loads(done.stdout) if done.exit_code == 0 else None

    def row(name: str) -> Any:
        found = asked("sources")
        return found and next((one for one in found["sources"] if one["source"] == f"signal:{name}"), None)

    @contextmanager
    def started(daemon: str) -> Iterator["subprocess.Popen[str]"]:
        words = [sys.executable, "-m", f"slurm_power.cli.{daemon}", "--config", str(site)]
        with (
            (tmp_path / f"{daemon}.log").open("w") as log,
            subprocess.Popen(words, stderr=log, text=True) as process,
        ):
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0

    feeds = tmp_path / "state" / "feeds"
    with started("powerbridge") as powerbridge:
        until((feeds / "day.price.csv").exists, powerbridge)
        with started("powerctld"):
            until(lambda: (told := row("day")) and told["quality"] == "good", powerbridge)
            event = until(lambda: (told := asked("events")) and told["events"], powerbridge)[0]
            assert (event["limit_watts"], event["reason"]) == (20_000.0, "import limit of aggregator")
            assert "signal:aggregator event" in (tmp_path / "powerctld.log").read_text()
            # Of prices it says nothing but when they cannot be read.
            assert "0.081" in (feeds / "day.price.csv").read_text()
            assert "fault supply" not in (tmp_path / "powerctld.log").read_text()
            # Nobody can write there any more: an operator sees it among the sources.
            (feeds / "day.price.csv").unlink()
            feeds.rmdir()
            feeds.write_text("")
            bad = until(lambda: (told := row("day")) and told["quality"] != "good" and told, powerbridge)
            assert "cannot be written" in bad["reason"]
