"""``slurm-power check`` and ``show-config``: is all set up right, do devices answer, what is in force."""

import asyncio
import math
import os
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from slurm_power.bridge.signal_found import SignalFound
from slurm_power.cli.commands.connection import ask, json_option, print_json, socket_option
from slurm_power.cli.commands.quantities import percent_text, plain_text, watts_text
from slurm_power.cli.commands.setup.check_signals import signal_line, signals_found
from slurm_power.cli.commands.setup.check_slurm import DEFAULT_SLURM_CONF, file_findings, slurm_findings
from slurm_power.cli.commands.setup.init import slurm_conf_option
from slurm_power.config import ConfigError, DeviceConfig, SiteConfig, StorageConfig, load_site
from slurm_power.controller.sensing.trust import unproven
from slurm_power.devices import build_driver
from slurm_power.model.secret_text import HIDDEN, holds_secret, without_secrets
from slurm_power.model.site import Site
from slurm_power.ports import DeviceError, Storage
from slurm_power.slurm.finding import Finding, exit_status

EXIT_PROBLEMS = 2
PROBE_SECONDS = 10.0

config_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path("/etc/slurm-power/site.toml"),
    show_default=True,
    help="The site's configuration.",
)


@click.command()
@config_option
@click.option("--no-devices", is_flag=True, help="Touch no device.")
@click.option("--no-signals", is_flag=True, help="Ask no signal over the network; files of prices are read.")
@click.option("--no-slurm", is_flag=True, help="Do not look at Slurm and the daemons.")
@slurm_conf_option
@socket_option
@json_option
def check(  # noqa: PLR0917  # click hands over one argument for each option
    file: Path,
    no_devices: bool,
    no_signals: bool,
    no_slurm: bool,
    slurm_conf: Path | None,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Check site, devices, signals, Slurm and daemons.

    Each device and signal of site.toml is read once; nothing is changed.

    Slurm is looked at where there is a slurm.conf: --slurm-conf, else SLURM_CONF, else /etc/slurm/slurm.conf.
    A signal is ok, stale (it says nothing of now), unreachable or wrong; none is waited for beyond 10 s.
    Exit status: 0 nothing, or notes only; 1 warnings; 2 problems.
    """
    config, problems = _load(file)
    readings: dict[str, str] = {}
    signals: list[SignalFound] = []
    notes = [] if config is None else _unseen(config.site)
    if config is not None and not no_devices:
        readings, found = asyncio.run(_probe_all(config))
        problems = [without_secrets(problem) for problem in found]
    if config is not None:
        problems += [f"ess.{name}: {reason}" for name, reason in unproven(config).items()]
        signals = signals_found(config, ask=not no_signals)
    conf = None if no_slurm else _slurm_conf(slurm_conf)
    findings: list[Finding] = []
    if conf is not None:
        findings = [] if config is None else file_findings(config, file)
        own_socket = config.controller.socket if config is not None else None
        findings += slurm_findings(conf, config, socket_path or own_socket)
    signal_status = max((found.exit_status for found in signals), default=0)
    status = max(EXIT_PROBLEMS if problems else 0, signal_status, exit_status(findings))
    if as_json:
        print_json(
            {
                "ok": status == 0,
                "problems": problems,
                "notes": notes,
                "devices": readings,
                "signals": [found.as_json() for found in signals],
                "slurm_conf": None if conf is None else str(conf),
                "findings": [finding.as_json() for finding in findings],
            }
        )
    else:
        _print(file, readings, signals, notes, problems, findings=findings)
        if not problems and signal_status == 0:
            click.echo(f"{file}: no problems")
        if conf is not None and exit_status(findings) == 0:
            click.echo(f"{conf}: no problems")
        elif conf is None and not no_slurm:
            click.echo("Slurm was not looked at: no slurm.conf here (--slurm-conf names one)")
    sys.exit(status)


def _print(
    file: Path,
    readings: dict[str, str],
    signals: list[SignalFound],
    notes: list[str],
    problems: list[str],
    *,
    findings: list[Finding],
) -> None:
    """What is good to standard output, what is not to standard error."""
    for name, reading in readings.items():
        click.echo(f"device.{name}: {reading}")
    for found in signals:
        bad = found.exit_status > 0
        click.echo((f"{file}: " if bad else "") + signal_line(found), err=bad)
    for problem in [*(f"note: {note}" for note in notes), *problems]:
        click.echo(f"{file}: {problem}", err=True)
    for finding in findings:
        click.echo(finding.line(), err=True)


def _slurm_conf(named: Path | None) -> Path | None:
    """slurm.conf by option, by environment, or where Slurm has it by default; None where there is none."""
    if named is None and os.environ.get("SLURM_CONF"):
        named = Path(os.environ["SLURM_CONF"])
    if named is not None:
        return named
    return DEFAULT_SLURM_CONF if DEFAULT_SLURM_CONF.exists() else None


def _load(file: Path) -> tuple[SiteConfig | None, list[str]]:
    try:
        return load_site(file), []
    except ConfigError as error:
        return None, error.problems


def _unseen(site: Site) -> list[str]:
    """Circuits that neither have a meter nor are the sum of measured ones: their limits are not held."""
    seen: set[str] = set()
    notes = []
    for circuit in site.leaves_first():
        children = site.children(circuit.name)
        if circuit.meter is not None or (children and seen.issuperset(children)):
            seen.add(circuit.name)
        else:
            notes.append(
                f"circuit.{circuit.name}: nobody measures what it draws, so its limit is not held;"
                " give it a meter" + (", or each circuit that it feeds" if children else "")
            )
    return notes


async def _probe_all(config: SiteConfig) -> tuple[dict[str, str], list[str]]:
    """Read every device once, all at the same time; returns readings and problems, both by path."""
    names = list(config.devices)
    found = await asyncio.gather(*(_probe(config.devices[name]) for name in names))
    readings = {name: reading for name, (reading, problem) in zip(names, found, strict=True) if not problem}
    problems = [
        f"device.{name}: {problem}" for name, (_, problem) in zip(names, found, strict=True) if problem
    ]
    return readings, problems


async def _probe(device: DeviceConfig) -> tuple[str, str]:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            try:
                return await _open_and_read(device)
            except DeviceError:
                # Drivers load their libraries when they are opened, which may have made an answer seem late.
                return await _open_and_read(device)
    except TimeoutError:
        return "", f"no answer in {PROBE_SECONDS:g} s from {device.address}"
    except DeviceError as error:
        return "", str(error)


async def _open_and_read(device: DeviceConfig) -> tuple[str, str]:
    driver = build_driver(device)
    try:
        await driver.open()
        return await _read(device, driver)
    finally:
        await driver.close()


async def _read(device: DeviceConfig, driver: Any) -> tuple[str, str]:
    if isinstance(device, StorageConfig):
        storage: Storage = driver
        reading = await storage.read()
        power = watts_text(reading.discharge_watts)
        return f"answers: discharges {power}, charged to {percent_text(reading.soc_ratio)}", ""
    watts = await driver.read_watts()
    if not math.isfinite(watts):
        return "", f"reads {watts}, which is no power"
    return f"answers: {watts_text(watts)}", ""


@click.command("show-config")
@config_option
@json_option
def show_config(file: Path, as_json: bool) -> None:
    """Print every setting in force, and where it comes from."""
    config, problems = _load(file)
    if config is None:
        for problem in problems:
            click.echo(f"{file}: {problem}", err=True)
        sys.exit(EXIT_PROBLEMS)
    document = tomllib.loads(file.read_text())
    rows = _overridden(_rows(config, document), config)
    if as_json:
        print_json({path: {"value": value, "from": origin} for path, value, origin in rows})
        return
    for path, value, origin in rows:
        click.echo(f"{path} = {value!r}".ljust(64) + f"  # {origin}")


def _rows(config: SiteConfig, document: dict[str, Any]) -> list[tuple[str, Any, str]]:
    tables: list[tuple[str, Any]] = [
        ("controller", config.controller),
        ("store", config.store),
        ("metrics", config.metrics),
        ("forecast", config.forecast),
        ("policy", config.policy),
        ("supply", config.supply),
        ("admission", config.admission),
        ("governance", config.governance),
        ("web", config.web),
        ("alerts", config.alerts.settings),
    ]
    tables += [(f"circuit.{name}", circuit) for name, circuit in config.site.circuits.items()]
    tables += [(f"device.{name}", device) for name, device in config.devices.items()]
    tables += [(f"ess.{name}", ess) for name, ess in config.site.ess.items()]
    for kind, channels in (
        ("alertmanager", config.alerts.alertmanagers),
        ("mail", config.alerts.mails),
        ("hook", config.alerts.hooks),
    ):
        tables += [(f"alerts.{kind}.{channel.name}", channel) for channel in channels]
    tables += [(f"signals.{name}", signal) for name, signal in config.signals.items()]
    rows: list[tuple[str, Any, str]] = [("site.name", config.site.name, config.file.name)]
    zone_origin = config.file.name if "timezone" in document["site"] else "default"
    rows.append(("site.timezone", str(config.zone), zone_origin))
    for path, record in tables:
        given = document
        for key in path.split("."):
            given = given.get(key, {})
        for field in fields(record):
            if field.name == "name":
                continue
            origin = config.file.name if field.name in given else "default"
            rows.append((f"{path}.{field.name}", _shown(field.name, getattr(record, field.name)), origin))
    return rows


def _overridden(rows: list[tuple[str, Any, str]], config: SiteConfig) -> list[tuple[str, Any, str]]:
    """The rows with the weights that an operator has put in place of the file's, where powerctld says so."""
    try:
        override = ask({"op": "weights"}, config.controller.socket).get("overridden")
    except click.ClickException:
        return rows  # the file is all there is
    if not isinstance(override, dict):
        return rows
    weights = {f"policy.{key}": value for key, value in override["weights"].items()}
    whose = f"{override['by']}: {override['reason']}"
    return [
        (path, weights[path], plain_text(f"overridden by {whose} (else {value})"))
        if path in weights
        else (path, value, origin)
        for path, value, origin in rows
    ]


def _shown(key: str, value: Any) -> Any:
    """A value for people and programs, which may be others than those who may read the file: no secrets."""
    if isinstance(value, bool | int | float | type(None)):
        return value
    if holds_secret(key) and not isinstance(value, Path):
        return HIDDEN
    if isinstance(value, tuple):
        return [without_secrets(str(each)) for each in value]
    return without_secrets(str(value))
