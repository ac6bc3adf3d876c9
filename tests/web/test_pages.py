"""Files for browsers, odd requests, and hostile text: nothing gets out that should not, nothing breaks."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from slurm_power import clock
from slurm_power.model.role import Role
from slurm_power.web.static_files import StaticFiles
from tests.web.bed import CONFIRM, EVENT, HOSTILE, Bed, month_has_just_begun
from tests.web_page.site_server import recorded


def raw(bed: Bed, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """Ask for a path just as it is written: clients would tidy it up."""
    connection = http.client.HTTPConnection("127.0.0.1", bed.port, timeout=15.0)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/../site.toml",
        "/static/../../app.py",
        "/%2e%2e/%2e%2e/app.py",
        "/..%2fapp.py",
        "/....//app.py",
        "//etc/passwd",
        "/etc/passwd",
        "/app.py",
        "/index.html/../../web.sqlite",
        "/web.sqlite",
        "/%00",
        "/vendor/",
        "/.git/config",
        "/api/v1",
        "/api/v1/events/../../../ctl.sock",
        "/api/v1/events/%2e%2e%2f%2e%2e%2fweb.sqlite/report",
        "/\\..\\..\\windows",
    ],
)
def test_nothing_else_can_be_read(bed: Bed, path: str) -> None:
    token = bed.token("opal", Role.OPERATOR)
    status, body = raw(bed, path, Authorization=f"Bearer {token}")
    assert status in (400, 404)
    for told in (b"root:", b"SQLite", b"import ", b"[site]"):
        assert told not in body


def test_files_are_sent_once_and_packed(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>" + "<p>text</p>" * 200)
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "a.js").write_text("1;" * 500)
    (tmp_path / ".hidden.js").write_text("1")
    (tmp_path / "key.pem").write_text("secret")
    files = StaticFiles(tmp_path)
    assert set(files.paths) == {"/", "/index.html", "/vendor/a.js"}

    def ask(path: str, **headers: str) -> Request:
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return Request({"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": pairs})

    plain, packed = files.answer(ask("/")), files.answer(ask("/", accept_encoding="br, gzip;q=0.5"))
    assert plain is not None and packed is not None
    assert packed.headers["content-encoding"] == "gzip" and len(packed.body) < len(plain.body)
    again = files.answer(ask("/index.html", if_none_match=plain.headers["etag"]))
    assert again is not None and (again.status_code, again.body) == (304, b"")
    assert files.answer(ask("/vendor/../index.html")) is None
    unpacked = files.answer(ask("/", accept_encoding="gzip;q=0"))
    assert unpacked is not None and "content-encoding" not in unpacked.headers


def test_the_page_is_for_everybody_and_runs_nothing_inline(bed: Bed) -> None:
    if not (Path(__file__).parents[2] / "slurm_power/web/static/index.html").is_file():
        pytest.skip("no page in this tree")
    with bed.client() as client:
        page = client.get("/")
    assert page.status_code == 200
    assert "unsafe" not in page.headers["content-security-policy"]
    text = page.text.lower()
    assert "<style" not in text and " style=" not in text and " onclick=" not in text
    assert all('src="' in part.partition(">")[0] for part in text.split("<script")[1:])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "no JSON"),
        (b"[]", "must be an object"),
        (b"\xff\xfe", "no JSON"),
        (b'{"a":' * 5000, "no JSON"),
        (b'{"limit_watts": NaN, "circuit": "grid", "duration_seconds": 1, "reason": "x"}', "NaN"),
        (json.dumps({**EVENT, "limit_watts": 10**400}).encode(), "limit_watts"),
        (json.dumps({**EVENT, "limit_watts": True}).encode(), "limit_watts"),
        (json.dumps({**EVENT, "reason": "\ud800"}).encode(), "reason"),
        (json.dumps({**EVENT, "reason": " \t"}).encode(), "reason"),
        (json.dumps({**EVENT, "reason": None}).encode(), "reason"),
        (json.dumps({**EVENT, "for": {"name": "root", "role": "operator", "via": "web"}}).encode(), "for"),
        (json.dumps({**EVENT, "op": "forget_node"}).encode(), "op"),
    ],
    ids=range(12),
)
def test_odd_bodies_are_refused_and_change_nothing(bed: Bed, body: bytes, words: str) -> None:
    before = set(bed.controller.levers.events)
    with bed.client("opal", Role.OPERATOR) as client:
        headers = {**CONFIRM, "Content-Type": "application/json"}
        answer = client.post("/api/v1/events", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert words in json.dumps(answer.json(), ensure_ascii=False)
    assert set(bed.controller.levers.events) == before


def test_all_problems_are_told_at_once(bed: Bed) -> None:
    wrong = {"circuit": "moon", "cut_ratio": 0.5, "cut_watts": 5, "duration_seconds": 60, "reason": "x"}
    with bed.client("opal", Role.OPERATOR) as client:
        shape = client.post("/api/v1/events", json={"circuit": 5, "durations_seconds": 60})
        sense = client.post("/api/v1/events", json=wrong, headers=CONFIRM)
        query = client.get("/api/v1/history", params=[("seconds", "1"), ("seconds", "2"), ("circut", "grid")])
    problems = " ".join(shape.json()["problems"])
    assert all(word in problems for word in ("circuit: must be", "did you mean duration_seconds", "reason:"))
    assert sense.status_code == 422
    assert [problem.split(":")[0] for problem in sense.json()["problems"]] == [
        "circuit",
        "cut_ratio and cut_watts",
    ]
    assert len(query.json()["problems"]) == 3


def test_a_long_body_is_not_read_to_its_end(bed: Bed) -> None:
    with bed.client("opal", Role.OPERATOR) as client:
        headers = {**CONFIRM, "Content-Type": "application/json"}
        answer = client.post("/api/v1/events", content=b'"' + b"x" * 500_000, headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["ledger", "live", "jobs/1/why", "plan"])
def test_hostile_text_stays_text(bed: Bed, path: str) -> None:
    with bed.client("carol", Role.AUDITOR) as client:
        answer = client.get(f"/api/v1/{path}", params={"most": 1000} if path == "ledger" else {})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert path == "plan" or HOSTILE in set(texts_of(answer.json()))


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts_of(one)


def test_no_header_can_be_made_by_what_is_asked(bed: Bed) -> None:
    for path in ("/login?ticket=%0d%0aSet-Cookie:%20a=b" + "x" * 20, "/api/v1/jobs/%0d%0aX-Evil:%201/why"):
        status, body = raw(bed, path, Authorization=f"Bearer {bed.token('opal', Role.OPERATOR)}")
        assert status in (400, 403, 404)
        assert json.loads(body)["error"]


def test_history_has_columns_of_one_length(bed: Bed) -> None:
    with bed.client("val", Role.VIEWER) as client:
        found = client.get("/api/v1/history", params={"seconds": 900, "circuit": "grid"}).json()
        assert client.get("/api/v1/history", params={"circuit": "moon"}).status_code == 404
    columns = ("watts", "limit_watts", "natural_watts", "discharge_watts", "soc_ratio")
    assert {len(found[name]) for name in columns} == {len(found["at_seconds"])}
    assert 100 < len(found["at_seconds"]) <= 2000
    assert found["at_seconds"] == sorted(found["at_seconds"])
    known = [watts for watts in found["watts"] if watts is not None]
    assert min(known) >= 20_000.0 and max(known) <= 22_700.0
    assert None in found["natural_watts"]


def test_the_ledger_comes_in_pages_both_ways(bed: Bed) -> None:
    with bed.client("opal", Role.OPERATOR) as client:
        newest = client.get("/api/v1/ledger", params={"most": 2}).json()
        first = newest["entries"][0]["sequence"]
        before = client.get("/api/v1/ledger", params={"most": 2, "before": first}).json()
        after = client.get(
            "/api/v1/ledger", params={"most": 1, "after": before["entries"][-1]["sequence"]}
        ).json()
        kinds = client.get("/api/v1/ledger", params={"kind": "cap", "most": 1000}).json()["entries"]
        job = client.get("/api/v1/ledger", params={"job": "1"}).json()["entries"]
    assert newest["more"] and newest["broken_at_sequence"] is None and newest["checked_sequence"] >= 1
    assert [entry["sequence"] for entry in before["entries"]] == [first - 2, first - 1]
    assert [entry["sequence"] for entry in after["entries"]] == [first]
    assert {entry["kind"] for entry in kinds} == {"cap"} and {entry["job_id"] for entry in job} == {"1"}


def test_savings_are_those_of_the_month(bed: Bed) -> None:
    if month_has_just_begun():
        pytest.skip("a month without a whole quarter of an hour has come to nothing yet")
    with bed.client("val", Role.VIEWER) as client:
        found = client.get("/api/v1/savings").json()
        again = client.get("/api/v1/savings").json()
    assert found.keys() == recorded("savings").keys()
    assert found["month"] == clock.now().strftime("%Y-%m")
    assert 20_000.0 < found["peak_watts"] < 22_700.0
    assert again == found
