"""``slurm-power commission``: prove a device before it is trusted."""

import asyncio
import getpass
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurm_power import clock
from slurm_power.cli.command_group import CommandGroup
from slurm_power.cli.commands.connection import json_option, print_json
from slurm_power.cli.commands.quantities import percent_text, watts_text
from slurm_power.config import ConfigError, SiteConfig, load_site
from slurm_power.ports import DeviceError
from slurm_power.wire import WireError, decode, encode

if TYPE_CHECKING:
    from slurm_power.controller.storage.commission import Commissioning, Findings

PROVEN, NOT_PROVEN, NOT_BEGUN = 0, 1, 2
DEFAULT_CONFIG = Path("/etc/slurm-power/site.toml")


@click.group(cls=CommandGroup)
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
        sys.exit(NOT_BEGUN)
    sys.exit(_commission(config, name, yes=yes, as_json=as_json))


def _commission(config: SiteConfig, name: str, *, yes: bool, as_json: bool) -> int:
    """Look, ask, and look again before anything moves: a question may stand for long."""
    from slurm_power.controller.storage.commission import CommissionError  # noqa: PLC0415  # drivers are heavy

    try:
        problem = _refusal(config, name)
        if not problem:
            click.echo(asyncio.run(_intention(config, name)), err=True)
            if not yes and not click.confirm("Go on?", err=True):
                return NOT_BEGUN
            problem = _refusal(config, name)
    except click.Abort:
        return NOT_BEGUN
    except (DeviceError, CommissionError) as error:
        problem = f"not begun: {error}"
    if problem:
        click.echo(problem, err=True)
        return NOT_BEGUN
    return asyncio.run(_interruptible(_move(config, name, as_json=as_json)))


def _refusal(config: SiteConfig, name: str) -> str:
    """Why it cannot be begun, as far as the configuration and powerctld can tell."""
    from slurm_power.controller.sensing.trust import check_writable  # noqa: PLC0415  # as above

    if name not in config.site.ess:
        known = ", ".join(config.site.ess) or "none"
        return f"{name}: there is no [ess.{name}] in {config.file}; known: {known}"
    if config.site.root.meter is None:
        return f"circuit.{config.site.root.name}.meter: missing; without it nobody sees an export"
    try:
        check_writable(config)
    except OSError as error:
        directory = config.controller.state_directory
        return (
            f"controller.state_directory: the result cannot be kept in {directory}: {error.strerror or error}"
        )
    return _control_problem(config.controller.socket, name)


def _control_problem(path: Path, name: str) -> str:
    """Why powerctld stands in the way; one that is there and cannot be asked may control."""
    import socket  # noqa: PLC0415  # next to its only use

    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2.0)
            connection.connect(str(path))
            connection.sendall(encode({"op": "status", "most_jobs": 0}))
            with connection.makefile("rb") as lines:
                mode = decode(lines.readline().rstrip(b"\n")).get("mode")
    except (FileNotFoundError, ConnectionRefusedError):
        return ""  # nobody listens
    except (OSError, WireError) as error:
        mode = None
        text = str(error) or "no answer"
    else:
        text = "its answer has no mode"
    if mode == "off":
        return ""
    if mode == "control":
        return f"powerctld controls {name}; let it only watch meanwhile: slurm-power control off"
    return f"powerctld at {path} does not say whether it controls ({text}); stop it, or see why"


@asynccontextmanager
async def _opened(config: SiteConfig, name: str) -> "AsyncIterator[Commissioning]":
    """A run with its devices open; raises DeviceError."""
    from slurm_power.controller.storage.commission import Commissioning  # noqa: PLC0415  # as above
    from slurm_power.devices import build_driver  # noqa: PLC0415  # as above
    from slurm_power.model.watch import Watch  # noqa: PLC0415  # as above
    from slurm_power.telemetry.circuits import expectation  # noqa: PLC0415  # as above

    root = config.site.root
    device = config.devices[str(root.meter)]
    storage: Any = build_driver(config.devices[config.ess_devices[name]])
    meter: Any = build_driver(device)
    watch = Watch(
        device.name, expectation(config.site, root, {root.name: (device.name, device.max_age_seconds)})
    )
    try:
        await storage.open()
        await meter.open()
        yield Commissioning(storage, meter, lambda text: click.echo(text, err=True), watch)
    finally:
        await storage.close()
        await meter.close()


async def _intention(config: SiteConfig, name: str) -> str:
    """What will be done, in watts and seconds; raises DeviceError, CommissionError."""
    from slurm_power.controller.storage.commission import STEP_SECONDS  # noqa: PLC0415  # as above

    async with _opened(config, name) as run:
        reading, watts = await run.look()
        expected_seconds, most_seconds = run.silence_seconds()
    power = watts_text(watts)
    return (
        f"{name}: charge {percent_text(reading.soc_ratio)}. It will be charged with {power}, then"
        f" discharged with {power}, each for {STEP_SECONDS:.0f} s at most. Then a setpoint of"
        f" {expected_seconds:.0f} s is left to run out, and watched for {most_seconds:.0f} s at most."
        " It ends with 0 W."
    )


async def _move(config: SiteConfig, name: str, *, as_json: bool) -> int:
    from slurm_power.controller.storage.commission import CommissionError  # noqa: PLC0415  # as above

    begun = False
    try:
        async with _opened(config, name) as run:
            await run.look()
            begun = True
            findings = await run.run()
    except (DeviceError, CommissionError, asyncio.CancelledError) as error:
        click.echo(f"{'given up' if begun else 'not begun'}: {str(error) or 'interrupted'}", err=True)
        return NOT_PROVEN if begun else NOT_BEGUN
    return _told(config, name, findings, as_json=as_json)


def _told(config: SiteConfig, name: str, findings: "Findings", *, as_json: bool) -> int:
    """Print what was found, and keep it if it proves the battery."""
    from slurm_power.controller.sensing.trust import write_record  # noqa: PLC0415  # as above

    problems = findings.problems()
    if not problems:
        try:
            write_record(config, name, findings, clock.now(), getpass.getuser())
        except OSError as error:
            problems = [f"the result cannot be kept: {error}"]
    if as_json:
        print_json({"ess": name, "proven": not problems, "problems": problems, **asdict(findings)})
    else:
        click.echo(_table(asdict(findings), problems))
    return NOT_PROVEN if problems else PROVEN


async def _interruptible(work: Coroutine[Any, Any, int]) -> int:
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
    verdict = [f"NOT PROVEN: {problem}" for problem in problems] or ["proven"]
    return "\n".join([*lines, *verdict])
