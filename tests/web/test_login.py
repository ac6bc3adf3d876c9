"""Proving who one is: links, sessions, tokens, a proxy's word, and wrong proofs."""

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from slurm_power.cli.slurm_power import main
from slurm_power.model.role import Role
from slurm_power.web.keys import Keys
from slurm_power.web.people import COOKIE, role_of
from slurm_power.web.throttle import Throttle
from tests.web.bed import Bed, until


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(words))
    return done.exit_code, done.stdout


def login_link(bed: Bed) -> str:
    status, printed = run("web", "login", "--socket", str(bed.config.controller.socket))
    assert status == 0
    return printed.splitlines()[0]


def test_a_link_logs_in_once_and_the_cookie_is_kept_from_scripts(bed: Bed) -> None:
    link = login_link(bed)
    assert link.startswith(f"{bed.url}/login?ticket=")
    with httpx.Client() as browser:
        answer = browser.get(link)
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        cookie = answer.headers["set-cookie"].lower()
        assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/"))
        assert "secure" not in cookie  # plain HTTP on loopback
        me = browser.get(f"{bed.url}/api/v1/me").json()
        # Whoever runs the tests also runs powerctld: by the kernel's word an operator.
        assert me["role"] == "operator" and me["name"]
        assert browser.get(f"{bed.url}/api/v1/live").json()["you"]["role"] == "operator"
        secret = browser.cookies[COOKIE]
        assert browser.post(f"{bed.url}/api/v1/logout").status_code == 200
        again = httpx.get(f"{bed.url}/api/v1/me", headers={"cookie": f"{COOKIE}={secret}"})
        assert again.status_code == 401
    assert httpx.get(link).status_code == 403


def test_a_look_at_the_head_uses_no_link_up(bed: Bed) -> None:
    link = login_link(bed)
    assert httpx.head(link).status_code == 405
    assert httpx.get(link).status_code == 303
    assert httpx.head(f"{bed.url}/api/v1/stream").status_code == 405


def test_no_secret_is_kept_and_nobody_else_reads_the_file(bed: Bed) -> None:
    secret = bed.token("reader", Role.VIEWER)
    ticket = login_link(bed).partition("ticket=")[2]
    files = sorted(bed.folder.glob("web.sqlite*"))
    assert files and all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    for file in (*files, bed.folder / "powerctld.sqlite"):
        data = file.read_bytes()
        assert secret.encode() not in data and ticket.encode() not in data


def test_tokens_are_made_listed_and_revoked(bed: Bed) -> None:
    config = ("--config", str(bed.file))
    status, printed = run("web", "token", "grafana", "--role", "auditor", "--for", "90d", *config)
    assert status == 0
    headers = {"Authorization": f"Bearer {printed.strip()}"}
    me = httpx.get(f"{bed.url}/api/v1/me", headers=headers).json()
    assert (me["name"], me["role"]) == ("grafana", "auditor")
    status, listed = run("web", "tokens", *config)
    assert status == 0 and printed.strip() not in listed
    (line,) = [line for line in listed.splitlines() if line.endswith("grafana")]
    assert run("web", "revoke", line.split()[0], *config)[0] == 0
    assert run("web", "revoke", line.split()[0], *config)[0] == 2
    url = f"{bed.url}/api/v1/me"
    until(lambda: httpx.get(url, headers=headers).status_code == 401, "the token ends")
    wrong = run("web", "token", "two words", "--role", "user", "--for", "900d", *config)
    assert wrong[0] == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer nothing"},
        {"Authorization": "Bearer " + "x" * 5000},
        {"Authorization": "Basic b3BhbDp4"},
        {"Authorization": "Bearer"},
        {"Cookie": f"{COOKIE}=wrong"},
        {"Cookie": f'{COOKIE}="; DROP TABLE session; --'},
        {"X-Remote-User": "opal"},
        {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": "opal"},
    ],
    ids=range(8),
)
def test_wrong_proofs_prove_nothing(bed: Bed, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{bed.url}/api/v1/live", headers=headers, timeout=15.0)
    assert answer.status_code == 401
    assert answer.json()["error"] and answer.headers["www-authenticate"] == "Bearer"


def test_guessing_is_slow_and_does_not_slow_those_who_know(bed: Bed) -> None:
    began = time.monotonic()
    assert httpx.get(f"{bed.url}/api/v1/me", headers={"Authorization": "Bearer x"}).status_code == 401
    assert time.monotonic() - began >= 0.9
    assert isinstance(bed.web.web.throttle, Throttle)


def test_sessions_are_bounded_and_end(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "web.sqlite")
    secrets = [
        keys.begin_session("mia", operator=False, now_seconds=float(n), seconds=100.0) for n in range(30)
    ]
    assert [keys.session(secret, 30.0) is not None for secret in secrets] == [False] * 10 + [True] * 20
    assert keys.session(secrets[-1], 129.5) is None
    assert keys.end_sessions_of("mia") == 20
    assert keys.session(secrets[-1], 30.0) is None


def test_roles_come_from_names_and_groups() -> None:
    import grp
    import pwd

    me = pwd.getpwuid(os.getuid()).pw_name
    group = grp.getgrgid(os.getgid()).gr_name
    roles = {"opal": Role.OPERATOR, f"@{group}": Role.AUDITOR, "@nosuch": Role.OPERATOR}
    assert role_of("opal", roles, known=True) is Role.OPERATOR
    assert role_of(me, roles, known=True) is Role.AUDITOR
    assert role_of("nobody-at-all", roles, known=True) is Role.USER
    assert role_of("nobody-at-all", roles, known=False) is Role.VIEWER


@pytest.fixture(scope="module")
def open_bed() -> Iterator[Bed]:
    """A site behind a proxy on this machine, which shows totals to everybody."""
    with tempfile.TemporaryDirectory(prefix="sp-web-", dir="/tmp") as folder:
        made = Bed(Path(folder), web='anonymous = "totals"\ntrusted_header = "X-Remote-User"\n')
        yield made
        made.close()


def test_a_proxys_word_counts_where_the_site_says_so(open_bed: Bed) -> None:
    url = f"{open_bed.url}/api/v1/me"
    opal = httpx.get(url, headers={"X-Remote-User": "opal"}).json()
    assert (opal["name"], opal["role"]) == ("opal", "operator")
    root = httpx.get(url, headers={"X-Remote-User": "root"}).json()
    assert (root["name"], root["role"]) == ("root", "user")
    stranger = httpx.get(url, headers={"X-Remote-User": "nobody-at-all"}).json()
    assert stranger["role"] == "viewer"
    for odd in ("a b", "x" * 300, "signal:openadr3", "(nobody)"):
        assert httpx.get(url, headers={"X-Remote-User": odd}).status_code in (401, 200)
        assert httpx.get(url, headers={"X-Remote-User": odd}).json().get("name") != odd


def test_who_has_not_said_who_they_are_sees_totals_where_the_site_wants_it(open_bed: Bed) -> None:
    picture = httpx.get(f"{open_bed.url}/api/v1/live").json()
    assert picture["you"] == {"name": "", "role": "viewer"}
    assert picture["jobs"] == [] and picture["others"]["running"] == 2
    assert "alice" not in httpx.get(f"{open_bed.url}/api/v1/ledger?most=1000").text
    assert httpx.get(f"{open_bed.url}/api/v1/jobs/1/why").status_code == 403
    answer = httpx.post(f"{open_bed.url}/api/v1/control", json={"enabled": False, "reason": "x"})
    assert answer.status_code == 403
