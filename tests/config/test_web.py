"""The [web] table: off by default, all problems at once, and no password on an open network."""

from pathlib import Path

import pytest

from slurm_power.config import ConfigError, load_site
from slurm_power.model.role import Role

SITE = """[site]
name = "x"
[circuit.grid]
rating_watts = 40_000
limit_kind = "economic"
nodes = ["c1"]
"""


def load(folder: Path, table: str) -> list[str]:
    """The problems of a site with this table."""
    file = folder / "site.toml"
    file.write_text(f"{SITE}[web]\n{table}")
    try:
        load_site(file)
    except ConfigError as error:
        return error.problems
    return []


def test_off_by_default(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(SITE)
    web = load_site(file).web
    assert (web.listen, web.anonymous.value, dict(web.roles)) == (None, "none", {})


def test_roles_and_links_are_read(tmp_path: Path) -> None:
    roles = '[web.roles]\nalice = "operator"\n"@mlops" = "auditor"\n'
    assert load(tmp_path, f'listen = "[::1]:8470"\n{roles}') == []
    web = load_site(tmp_path / "site.toml").web
    assert web.roles == {"alice": Role.OPERATOR, "@mlops": Role.AUDITOR}
    assert (web.address, web.url, web.secure) == (("::1", 8470), "http://[::1]:8470", False)
    load(tmp_path, 'listen = "0.0.0.0:443"\ntls = "site"\npublic_url = "https://power.example.org/"\n')
    web = load_site(tmp_path / "site.toml").web
    assert (web.url, web.secure) == ("https://power.example.org", True)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('listen = "127.0.0.1:8470"\n', ""),
        ('listen = "localhost:8470"\ntrusted_header = "X-Remote-User"\n', ""),
        ('listen = "10.0.0.1:8470"\ntrusted_proxy = "10.0.0.2"\ntrusted_header = "X-User"\n', ""),
        ('listen = "10.0.0.1:8470"\ntls = "own"\ncertificate = "/a"\ncertificate_key = "/b"\n', ""),
        ('listen = "8470"\n', "web.listen: '8470' is not HOST:PORT"),
        ('listen = "0.0.0.0:8470"\n', "web.listen: 0.0.0.0:8470 without TLS would show passwords"),
        ('tls = "own"\ncertificate = "/a"\n', "web.certificate_key: missing"),
        ('certificate = "/a"\n', "web.certificate: counts only with"),
        ('tls = "on"\n', "web.tls: 'on' is not one of off, site, own"),
        ('public_url = "power.example.org"\n', "web.public_url: 'power.example.org' is no address"),
        ('trusted_proxy = "proxy"\n', "web.trusted_proxy: 'proxy' is no IP address"),
        ('trusted_header = "Host"\nlisten = "127.0.0.1:1"\n', "web.trusted_header: 'Host' is no header"),
        (
            'listen = "10.0.0.1:1"\ntls = "site"\ntrusted_header = "X-User"\n',
            "web.trusted_header: anybody could send it",
        ),
        ('anonymous = "all"\n', "web.anonymous: 'all' is not one of none, totals"),
        ("session_hours = 0\n", "web.session_hours: 0 is not between"),
        ("most_clients = 0\n", "web.most_clients: 0 is not between"),
        ('[web.roles]\nalice = "root"\n', "web.roles.alice: 'root' is not one of viewer, user"),
        ('[web.roles]\n"a b" = "user"\n', "web.roles.a b: no name of a user"),
        ("roles = 5\n", "web.roles: must be a table"),
        ('lisen = "127.0.0.1:1"\n', "web.lisen: unknown key; did you mean listen?"),
    ],
)
def test_each_problem_is_told_with_its_key(tmp_path: Path, table: str, problem: str) -> None:
    found = load(tmp_path, table)
    if problem:
        assert any(one.startswith(problem) for one in found), found
    else:
        assert found == []


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    table = 'listen = "0.0.0.0:1"\nsession_hours = -1\ntrusted_proxy = ""\n[web.roles]\nx = "y"\n'
    found = load(tmp_path, table)
    assert {problem.split(":")[0] for problem in found} == {"web.listen", "web.session_hours", "web.roles.x"}
