"""``slurm-power commission``: prove a device before it is trusted."""

import asyncio
import getpass
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from slurm_power import clock
from slurm_power.cli.commands.connection import json_option, print_json
from slurm_power.cli.commands.quantities import percent_text, watts_text
from slurm_power.config import ConfigError, SiteConfig, load_site
from slurm_power.ports import DeviceError
from slurm_power.wire import decode, encode

DEFAULT_CONFIG = Path("/etc/slurm-power/site.toml")


@click.group()
def commission() -> None:
    """Prove a device before it is trusted."""


@commission.command()
@click.argument("name")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="site.toml",
)
@click.option("--yes", is_flag=True, help="Do not ask; what will be done is printed all the same.")
@json_option
def pcs(name: str, file: Path, yes: bool, as_json: bool) -> None:
    """Prove the battery NAME of site.toml with real power.

    A small charge has to read as a charge, response and ramp are measured, and the setpoint has to end when
    we fall silent. At most 5 % of the rating and 60 s a step; only with a charge of 30 to 70 %, in REMOTE,
    without alarms and without export. Exit status: 0 proven, 1 not proven, 2 not begun.
    """
    try:
        config = load_site(file)
    except ConfigError as error:
        click.echo(error, err=True)
        sys.exit(2)
    problem = _refusal(config, name)
    if problem:
        click.echo(problem, err=True)
        sys.exit(2)
    sys.exit(asyncio.run(_commission(config, name, yes=yes, as_json=as_json)))


def _refusal(config: SiteConfig, name: str) -> str:
    """Why it cannot be begun, as far as the configuration and powerctld can tell."""
    if name not in config.site.ess:
        known = ", ".join(config.site.ess) or "none"
        return f"{name}: there is no [ess.{name}] in {config.file}; known: {known}"
    if config.site.root.meter is None:
        return f"circuit.{config.site.root.name}.meter: missing; without it nobody sees an export"
    if _controls(config.controller.socket):
        return f"powerctld controls {name}; let it only watch meanwhile: slurm-power control off"
    return ""


def _controls(path: Path) -> bool:
    """Whether a powerctld answers that moves levers."""
    import socket  # noqa: PLC0415  # next to its only use

    with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2.0)
        connection.connect(str(path))
        connection.sendall(encode({"op": "status"}))
        with connection.makefile("rb") as lines:
            return decode(lines.readline().rstrip(b"\n")).get("mode") == "control"
    return False


async def _commission(config: SiteConfig, name: str, *, yes: bool, as_json: bool) -> int:
    from slurm_power.controller.commission import (  # noqa: PLC0415  # drivers are heavy
        STEP_SECONDS,
        CommissionError,
        Commissioning,
    )
    from slurm_power.controller.trust import write_record  # noqa: PLC0415  # as above
    from slurm_power.devices import build_driver  # noqa: PLC0415  # as above

    storage: Any = build_driver(config.devices[config.ess_devices[name]])
    meter: Any = build_driver(config.devices[str(config.site.root.meter)])
    run = Commissioning(storage, meter, lambda text: click.echo(text, err=True))
    try:
        await storage.open()
        await meter.open()
        reading, watts = await run.look()
        click.echo(
            f"{name}: charge {percent_text(reading.soc_ratio)}. It will be charged and discharged with"
            f" {watts_text(watts)}, each for {STEP_SECONDS:.0f} s at most, and then left to itself.",
            err=True,
        )
        if not yes and not click.confirm("Go on?", err=True):
            return 2
    except (DeviceError, CommissionError) as error:
        click.echo(f"not begun: {error}", err=True)
        return 2
    try:
        findings = await _interruptible(run.run())
    except (DeviceError, CommissionError, asyncio.CancelledError) as error:
        click.echo(f"given up: {str(error) or 'interrupted'}", err=True)
        return 1
    finally:
        await storage.close()
        await meter.close()
    problems = findings.problems()
    if as_json:
        print_json({"ess": name, "proven": not problems, "problems": problems, **asdict(findings)})
    else:
        click.echo(_table(asdict(findings), problems))
    if problems:
        return 1
    write_record(config, name, findings, clock.now(), getpass.getuser())
    return 0


async def _interruptible(work: Any) -> Any:
    """Let SIGTERM and Ctrl-C cancel the work, which then brings the battery to rest."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    return await task


def _table(findings: dict[str, Any], problems: list[str]) -> str:
    reverts = findings["revert_seconds"]
    rows = [
        ("step", watts_text(findings["step_watts"])),
        ("a charge reads as negative", "yes" if findings["charge_reads_negative"] else "NO"),
        ("response", f"{findings['response_seconds']:.1f} s"),
        ("ramp", f"{findings['ramp_watts_per_second']:.0f} W/s"),
        ("ends when we are silent", "NO" if reverts is None else f"after {reverts:.1f} s"),
    ]
    lines = [f"  {what:<28} {value}" for what, value in rows]
    return "\n".join([*lines, *(f"NOT PROVEN: {problem}" for problem in problems)] or ["proven"])
