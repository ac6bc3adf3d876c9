"""What attackers try at powerweb's door: other names, other origins, slow senders, what a fault tells."""

import http.client
import json
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from slurm_power import clock
from slurm_power.config.web import Tls, WebConfig
from slurm_power.model.role import Role
from slurm_power.web.app import make_app
from slurm_power.web.calls import Endpoint
from slurm_power.web.hosts import Hosts
from slurm_power.web.problems import without_folders
from slurm_power.web.static_files import StaticFiles
from slurm_power.web.table import _SEEN, PAGES, ROOT, TABLE
from tests.web.bed import CONFIRM, EVENT, Bed, until
from tests.web.test_roles import WHO
from tests.web.test_stream import events_of

EVIL = "https://evil.example"


def raw(bed: Bed, host: str, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", bed.port, timeout=15.0)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# --- a page of another name or origin -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", f"{ROOT}/live", f"{ROOT}/healthz", "/login?ticket=0123456789"])
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1"]
)
def test_a_name_that_is_made_to_point_here_learns_nothing(bed: Bed, host: str, path: str) -> None:
    token = bed.token("opal", Role.OPERATOR)
    status, body = raw(bed, f"{host}:{bed.port}", path, Authorization=f"Bearer {token}")
    assert status == 421
    assert "web.public_url" in json.loads(body)["error"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST.", socket.gethostname()])
def test_the_names_of_this_machine_are_answered(bed: Bed, host: str) -> None:
    assert raw(bed, f"{host}:{bed.port}", f"{ROOT}/healthz")[0] == 200
    assert raw(bed, host, f"{ROOT}/healthz")[0] == 200


def test_a_name_counts_where_nothing_else_vouches_for_it() -> None:
    plain = WebConfig(listen="127.0.0.1:8443", public_url="https://power.example.org/")
    assert Hosts(plain).may_ask("power.example.org")
    assert not Hosts(plain).may_ask("evil.example")
    certified = replace(plain, tls=Tls.SITE, public_url="")
    behind = WebConfig(listen="0.0.0.0:80", trusted_proxy="10.0.0.1")
    assert Hosts(certified).may_ask("any.example") and Hosts(behind).may_ask("any.example")


@pytest.mark.parametrize("one", (*TABLE, *PAGES), ids=lambda one: one.name)
def test_no_other_origin_is_told_that_it_may(bed: Bed, one: Endpoint) -> None:
    path = one.path.format(event_id="ev-1", job_id="1")
    headers = {"Origin": EVIL, "Access-Control-Request-Method": one.method, **CONFIRM}
    with bed.client("opal", Role.OPERATOR) as client:
        asked = client.options(path, headers=headers)
    assert asked.status_code == 405
    assert not [name for name in asked.headers if name.startswith("access-control-")]


def test_a_cookie_of_an_operator_alone_does_nothing(bed: Bed) -> None:
    """What a form of another site could send at most."""
    web = bed.web.web
    now_seconds = clock.now().timestamp()
    secret = web.keys.begin_session("opal", operator=True, now_seconds=now_seconds, seconds=60.0)
    headers = {"Cookie": f"slurm_power_session={secret}", "Origin": EVIL, "Content-Type": "text/plain"}
    answer = httpx.post(f"{bed.url}{ROOT}/events", headers=headers, content=json.dumps(EVENT))
    assert answer.status_code == 415
    answer = httpx.post(f"{bed.url}{ROOT}/events", headers={"Cookie": headers["Cookie"]}, json=EVENT)
    assert answer.status_code == 400


@pytest.mark.parametrize("reason", ["\x1d", "\x1f \t", "\x85", "  "])
def test_a_reason_has_something_that_is_seen(bed: Bed, reason: str) -> None:
    """Also in the dialect of those who read the OpenAPI document: for them \\x1d is no space."""
    with bed.client("opal", Role.OPERATOR) as client:
        body = {"enabled": False, "reason": reason}
        answer = client.post(f"{ROOT}/control", json=body, headers=CONFIRM)
    assert (answer.status_code, answer.json()["problems"][0].startswith("reason: ")) == (400, True)
    assert not re.search(_SEEN, reason)  # nor with what is a space in ASCII alone
    assert not re.search(_SEEN, reason, re.ASCII)


# --- routes ---------------------------------------------------------------------------------------------


def routes(bed: Bed) -> Iterator[tuple[str, str]]:
    """Every path and method of the application itself, whatever it was made from."""
    app: Any = make_app(bed.web.web)
    for route in app._app.routes:
        for method in route.methods:
            yield route.path, method


def test_every_route_is_in_the_table_with_its_role_or_is_a_file_for_everybody(bed: Bed) -> None:
    known = {(one.path, one.method) for one in (*TABLE, *PAGES)}
    free = {*StaticFiles().paths, f"{ROOT}/openapi.json"}
    heads = {(path, "HEAD") for path, method in known if method == "GET"}
    found = set(routes(bed))
    assert {one for one in found if one[0] not in free} == known | heads
    assert {method for path, method in found if path in free} == {"GET", "HEAD"}
    # A role is always said: None is a choice, for these alone.
    assert {one.name for one in (*TABLE, *PAGES) if one.role is None} == {
        *("login", "logout", "healthz", "login_page")
    }
    assert {one.name for one in TABLE if one.method != "GET" and one.role is not Role.OPERATOR} == {
        *("login", "logout")
    }
    assert all(one.deed for one in TABLE if one.role is Role.OPERATOR)


@pytest.mark.parametrize(("name", "role"), WHO, ids=[str(role) for _, role in WHO])
def test_no_route_has_another_method_for_any_role(bed: Bed, name: str, role: Role | None) -> None:
    known = {(path, method) for path, method in routes(bed)}
    with bed.client(name, role) as client:
        for path in {path for path, _ in known} - {*StaticFiles().paths} | {"/", "/index.html"}:
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
                if (path, method) not in known:
                    filled = path.format(event_id="ev-1", job_id="1")
                    assert client.request(method, filled, headers=CONFIRM).status_code == 405, (path, method)


# --- who no longer may ----------------------------------------------------------------------------------


def test_a_stream_ends_with_what_proved_who_watches(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_power.web.stream._PROVE_SECONDS", 0.5)
    keys, now_seconds = bed.web.web.keys, clock.now().timestamp()
    token, made = keys.make_token("tess", Role.AUDITOR, now_seconds=now_seconds, seconds=600.0)
    session = keys.begin_session("sam", operator=False, now_seconds=now_seconds, seconds=600.0)
    short = keys.begin_session("sid", operator=False, now_seconds=now_seconds, seconds=5.0)
    ends: tuple[tuple[str, str, Callable[[], object]], ...] = (
        ("", f"slurm_power_session={short}", lambda: None),  # its time ends
        (f"Bearer {token}", "", lambda: keys.revoke(made.token_id)),
        ("", f"slurm_power_session={session}", lambda: keys.end_session(session)),
    )
    for bearer, cookie, end in ends:
        headers = {"Authorization": bearer} if bearer else {"Cookie": cookie}
        with httpx.stream("GET", f"{bed.url}{ROOT}/stream", headers=headers, timeout=15.0) as answer:
            found = events_of(answer.iter_lines())
            assert next(found)[0] == "site"
            end()
            last = [name for name, _ in found][-1]
        assert last == "bye"
        assert httpx.get(f"{bed.url}{ROOT}/live", headers=headers, timeout=15.0).status_code == 401


# --- slow and large -------------------------------------------------------------------------------------


def test_who_drips_a_body_after_the_answer_is_hung_up_on(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_power.web.daemon._SILENT_SECONDS", 1.0)
    with socket.create_connection(("127.0.0.1", bed.port)) as slow:
        slow.settimeout(15.0)
        slow.sendall(b"GET /api/v1/healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        assert slow.recv(4096).startswith(b"HTTP/1.1 200")

        def gone() -> bool:
            with suppress(ConnectionError, TimeoutError):
                slow.sendall(b"x")
                slow.settimeout(0.05)
                return slow.recv(4096) == b""
            return not any(
                one.transport.get_extra_info("peername") == slow_name
                for one in list(bed.web._server.server_state.connections)
            )

        slow_name = slow.getsockname()
        until(gone, "the connection is cut", 12.0)


def test_who_asks_again_and_again_is_not(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_power.web.daemon._SILENT_SECONDS", 1.0)
    connection = http.client.HTTPConnection("127.0.0.1", bed.port, timeout=15.0)
    ends = time.monotonic() + 7.0
    connection.connect()
    own = connection.sock.getsockname()
    while time.monotonic() < ends:
        connection.request("GET", f"{ROOT}/healthz")
        assert connection.getresponse().read()
        assert connection.sock is not None and connection.sock.getsockname() == own
        time.sleep(0.3)
    connection.close()


@pytest.mark.parametrize(
    "lines",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(5000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    ],
    ids=["header", "path", "headers", "two hosts", "two lengths", "tls"],
)
def test_requests_that_are_none_are_refused_and_cut(bed: Bed, lines: bytes) -> None:
    with socket.create_connection(("127.0.0.1", bed.port)) as odd:
        odd.settimeout(20.0)
        answer = b""
        with suppress(ConnectionError):  # cut while it was still being sent
            odd.sendall(lines)
            answer = odd.recv(4096)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))
        assert b"Traceback" not in answer
    assert httpx.get(f"{bed.url}{ROOT}/healthz").status_code == 200


# --- what an answer tells -------------------------------------------------------------------------------


def test_nothing_but_files_for_everybody_is_kept_by_browsers_and_proxies(bed: Bed) -> None:
    with bed.client("opal", Role.OPERATOR) as client:
        for one in TABLE:
            if one.method == "GET" and one.name not in ("stream", "savings"):
                path = one.path.format(event_id="ev-999", job_id="1")
                assert client.get(path).headers["cache-control"] == "no-store", one.name
        assert client.get("/nowhere").headers["cache-control"] == "no-store"
    assert httpx.get(f"{bed.url}{ROOT}/live", timeout=15.0).headers["cache-control"] == "no-store"


def test_a_fault_does_not_say_where_files_lie(own_bed: Bed) -> None:
    folder = own_bed.folder
    with own_bed.client("val", Role.VIEWER) as client:
        assert client.get(f"{ROOT}/ledger").status_code == 200
        own_bed.do(own_bed.stop_controller())
        for name in ("powerctld.sqlite", "web.sqlite", "series.sqlite"):
            for file in folder.glob(f"{name}*"):
                file.unlink()
            (folder / name).mkdir()
        time.sleep(2.5)  # who was just proved is remembered for a while
        for path in ("live", "ledger", "history", "sources", "me"):
            answer = client.get(f"{ROOT}/{path}")
            assert answer.status_code in (200, 503), answer.text
            assert str(folder) not in answer.text and "Traceback" not in answer.text
            assert "Error" not in answer.text


def test_what_is_wrong_with_a_source_does_not_say_where_its_file_lies() -> None:
    """The folder is for those who can look there."""
    with tempfile.TemporaryDirectory(prefix="sp-web-", dir="/tmp") as folder:
        missing = Path(folder) / "tariffs" / "prices.csv"
        made = Bed(Path(folder), web=f'[supply]\nprice_file = "{missing}"\nprice_unit = "per_kWh"\n')
        try:
            for name, role, sees in (("val", Role.VIEWER, False), ("carol", Role.AUDITOR, True)):
                with made.client(name, role) as client:
                    live = f"{ROOT}/live"
                    until(lambda: "cannot be read" in client.get(live).text, "the file was looked for")  # noqa: B023  # called at once
                    answers = [client.get(f"{ROOT}/sources"), client.get(f"{ROOT}/live")]
                for answer in answers:
                    assert "prices.csv: cannot be read" in answer.text
                    assert (str(missing.parent) in answer.text) is sees, f"{answer.url} to {role}"
        finally:
            made.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/var/lib/slurm-power/web.sqlite: disk I/O error", "web.sqlite: disk I/O error"),
        ("powerctld: no such file", "powerctld: no such file"),
        ("2 W/m2 and 1/2 of it", "2 W/m2 and 1/2 of it"),
        ("see https://power.example.org/a/b", "see https://power.example.org/a/b"),
    ],
)
def test_names_of_files_without_their_folders(text: str, told: str) -> None:
    assert without_folders(text) == told
