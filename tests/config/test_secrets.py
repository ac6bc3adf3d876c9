"""No secret that stands in a configuration is shown: by show-config, check, in errors, in logs."""

import json
import logging
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest
from click.testing import CliRunner

from slurm_power.cli.slurm_power import main
from slurm_power.config import ConfigError, load_site
from slurm_power.config.store import StoreConfig
from slurm_power.model.secret_text import HIDDEN, holds_secret, without_secrets
from slurm_power.systemd import LogLine
from tests.docs.reference import TABLES

SECRET = "hunter2"
SITE = '[site]\nname = "x"\n[circuit.grid]\nrating_watts = 40_000\nlimit_kind = "economic"\nmeter = "pdu"\n'
PDU = '[device.pdu]\ndriver = "snmp_pdu"\naddress = "127.0.0.1:9"\ntimeout_seconds = 0.2\n'
# Each key that is text or a list of texts may have an address as its value, in each of these forms.
ADDRESSES = (
    f"postgresql://me:{SECRET}@db.example/power",
    f"http://{SECRET}@db.example/",
    f"postgresql:///power?host=/run&password={SECRET}",
    f"postgresql:///power?host=/run&p%61ssword={SECRET}",
    f"postgresql:///power?sslpassword={SECRET}",
    f"https://prices.example/v1?zone=DE&api_key={SECRET}",
    f"https://prices.example/v1?securityToken={SECRET}&zone=DE",
    f"mysql://me:{SECRET}@x/y",
)
_KEYS = [
    (heading, key)
    for heading, record, _ in TABLES
    for key, kind in get_type_hints(record).items()
    if key in {field.name for field in fields(record)} and "str" in str(kind)
]


def write(folder: Path, text: str) -> Path:
    file = folder / "site.toml"
    file.write_text(SITE + text)
    return file


def outputs(file: Path) -> str:
    """What the commands that read site.toml say, on both outputs."""
    said = ""
    for command in (
        ["show-config"],
        ["show-config", "--json"],
        ["check", "--no-slurm"],
        ["check", "--no-slurm", "--json"],
    ):
        said += CliRunner().invoke(main, [*command, "--config", str(file)]).output
    return said


def _toml_of(heading: str, key: str, value: str) -> str:
    """A table with one key, as it would stand in the file; it may miss others, which is an error as well."""
    table = heading.partition(",")[0].strip("[]").replace("NAME", "pdu")
    driver = heading.partition('"')[2].strip('"')
    word = "kind" if table.startswith("signals") else "driver"
    head = f'[{table}]\n{word} = "{driver}"\n' if driver else f"[{table}]\n"
    return f'{head}{key} = "{value}"\n'


@pytest.mark.parametrize(("heading", "key"), [pair for pair in _KEYS if pair[0] != "node.toml"])
def test_no_key_shows_the_secret_of_an_address(tmp_path: Path, heading: str, key: str) -> None:
    for number, address in enumerate(ADDRESSES[:: len(ADDRESSES) - 1] if key != "ledger_url" else ADDRESSES):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = folder / "site.toml"
        head = SITE.replace('meter = "pdu"\n', "")
        if heading == "[circuit.NAME]":
            head = '[site]\nname = "x"\n'
        file.write_text(head + _toml_of(heading, key, address))
        result = CliRunner().invoke(main, ["show-config", "--config", str(file)])
        assert SECRET not in result.output, result.output


def test_a_community_is_a_secret(tmp_path: Path) -> None:
    said = outputs(write(tmp_path, f'{PDU}community = "{SECRET}"\n'))
    assert SECRET not in said
    assert f"device.pdu.community = '{HIDDEN}'" in said
    with pytest.raises(ConfigError) as caught:
        load_site(write(tmp_path, f'{PDU}community = ["{SECRET}"]\n'))
    assert "device.pdu.community: must be a string" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_which_keys_have_a_secret_as_their_value() -> None:
    found = {
        key
        for _, record, _ in TABLES
        for key, kind in get_type_hints(record).items()
        if holds_secret(key) and "Path" not in str(kind)
    }
    assert found == {"community"}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_keeps_what_is_no_secret(address: str) -> None:
    shown = without_secrets(f"{address}: connection refused")
    assert SECRET not in shown
    assert HIDDEN in shown
    assert shown.endswith(": connection refused")


def test_what_has_no_secret_stays_as_it_is() -> None:
    for text in (
        "http://127.0.0.1:8428",
        "postgresql:///power?host=/run/postgresql&passfile=/etc/slurm-power/pgpass",
        "mail to board@site.example failed",
        "https://prices.example/v1?zone=DE&from={from}",
        "policy.margin_ratio = 0.03",
    ):
        assert without_secrets(text) == text


@pytest.mark.parametrize("address", [one for one in ADDRESSES if one.startswith("postgresql") or "@" in one])
def test_a_password_in_site_toml_is_refused_without_being_said(tmp_path: Path, address: str) -> None:
    key = "ledger_url" if address.startswith("postgresql") else "series_url"
    found = replace(StoreConfig(), ledger_url=address).problems()
    found += replace(StoreConfig(), series_url=address).problems()
    assert found
    file = write(tmp_path, f'{PDU}community = "c"\n[store]\n{key} = "{address}"\n')
    said = outputs(file)
    assert f"store.{key}" in said
    assert SECRET not in said


def test_a_log_line_has_no_secret() -> None:
    line = LogLine("powerctld").format(
        logging.LogRecord("x", logging.ERROR, "f", 1, "%s: no answer", (ADDRESSES[0],), None)
    )
    assert SECRET not in line
    assert line.endswith(f"ERROR postgresql://{HIDDEN}@db.example/power: no answer")


@pytest.mark.parametrize(
    "text",
    [
        *("a." * 32_000 + "=", "a+" * 32_000 + "@", "://" * 32_000 + "@", "?a" * 32_000 + "="),
        *("?%41" * 32_000 + "@", "?" + "auth" * 32_000 + "@", "?key=:" * 16_000, "password=" * 8000),
    ],
    ids=lambda text: text[:6],
)
def test_a_long_line_does_not_hold_up_who_logs_it(text: str) -> None:
    """Jobs and devices are called what others like, and powerctld's log is written in its loop."""
    began = time.process_time()
    without_secrets(text)
    assert time.process_time() - began < 0.5


def test_show_config_has_all_tables(tmp_path: Path) -> None:
    text = f'{PDU}community = "c"\n[alerts.alertmanager.am]\nurl = "http://127.0.0.1:9093"\n'
    file = write(tmp_path, text)
    told = json.loads(CliRunner().invoke(main, ["show-config", "--json", "--config", str(file)]).output)
    assert told["web.listen"] == {"value": None, "from": "default"}
    assert told["alerts.on"]["value"] is True
    assert told["alerts.alertmanager.am.url"] == {"value": "http://127.0.0.1:9093", "from": "site.toml"}
