"""``slurm-power gateway``: an inference service of yours, its tier changed without downtime."""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from slurm_power import wire
from slurm_power.cli import plain_conf
from slurm_power.cli.command_group import CommandGroup
from slurm_power.cli.commands.connection import DEFAULT_SOCKET, ask, json_option, print_json
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.config.problems import ConfigError
from slurm_power.gateway import haproxy_config
from slurm_power.gateway.controller_talk import SILENT_SECONDS
from slurm_power.gateway.haproxy import HaproxyError
from slurm_power.gateway.haproxy_config import Folder
from slurm_power.gateway.haproxy_process import HaproxyProcess
from slurm_power.gateway.jobs import SlurmJobs
from slurm_power.gateway.running import own_folder
from slurm_power.gateway.running import run as run_gateway
from slurm_power.gateway.service_file import ServiceFile, read_service
from slurm_power.gateway.state_file import FolderError
from slurm_power.systemd import start_logging

EXIT_PROBLEMS = 2
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(cls=CommandGroup)
def gateway() -> None:
    """Run an inference service that can change its model tier."""


def _file_argument(command: Command) -> Command:
    return click.argument("file", type=click.Path(path_type=Path))(command)


def _state_option(command: Command) -> Command:
    return click.option(
        "--state",
        type=click.Path(path_type=Path),
        default=None,
        help="The gateway's own folder (default: ~/.local/state/slurm-power/gateway/NAME).",
    )(command)


@gateway.command()
@_file_argument
@_state_option
@click.option(
    "--socket", "socket_path", type=click.Path(path_type=Path), default=None, help="powerctld's socket."
)
@click.option(
    "--without-powerctld", is_flag=True, help="Ask nobody: run the full tier, or what `switch` says."
)
@click.option("--slurm-conf", type=click.Path(path_type=Path), default=None, help="For Slurm's commands.")
def run(
    file: Path, state: Path | None, socket_path: Path | None, without_powerctld: bool, slurm_conf: Path | None
) -> None:
    """Run the gateway of FILE's service until it is told to end.

    HAProxy and the jobs go on when it ends, and the next one takes them over. SIGHUP replaces HAProxy.
    """
    service = _read(file)
    start_logging("INFO")
    controller = None if without_powerctld else socket_path or _controller_socket()
    try:
        folder = own_folder(service.name, state)
        jobs = SlurmJobs(service, slurm_conf=slurm_conf)
        asyncio.run(run_gateway(service, jobs, folder, controller_socket=controller))
    except FolderError as error:
        _refuse([str(error)])


@gateway.command()
@_file_argument
@_state_option
def check(file: Path, state: Path | None) -> None:
    """Look for mistakes in FILE; change nothing.

    HAProxy checks what would be written for it.
    """
    service = _read(file)
    problems = []
    try:
        own_folder(service.name, state)
    except FolderError as error:
        problems.append(str(error))
    problems += [problem] if (problem := asyncio.run(_checked(service))) else []
    if problems:
        _refuse(problems)
    click.echo(f"{file}: good: {service.family}, full tier {service.full_tier}, at {_where(service)}")


@gateway.command()
@_file_argument
@_state_option
def config(file: Path, state: Path | None) -> None:
    """Print HAProxy's configuration for FILE.

    All of it, or the backend for a site's own HAProxy.
    """
    service = _read(file)
    if service.haproxy is not None:
        text = haproxy_config.backend(service)
    else:
        try:
            folder = Folder(path=own_folder(service.name, state))
        except FolderError as error:
            _refuse([str(error)])
        text = haproxy_config.configuration(service, folder, [])
    click.echo(text, nl=False)


@gateway.command()
@_file_argument
@_state_option
@json_option
def status(file: Path, state: Path | None, as_json: bool) -> None:
    """Show which tier serves and what happened last.

    And what each of its jobs does.
    """
    answer = _ask_gateway(_read(file), state, {"op": "status"})
    if as_json:
        print_json(answer)
        return
    serving = answer["serving"] or "nothing"
    click.echo(f"{answer['service']} at {answer['listen'] or 'the site HAProxy'}: {serving} serves")
    for member in answer["members"]:
        streams = "?" if member["open_streams"] is None else member["open_streams"]
        job = member["job_id"] or "-"
        click.echo(f"  {member['tier']:16} {member['phase']:10} job {job:10} open streams {streams}")
    said = answer["answer"]
    if said is not None:
        room = "" if said["may_start"] else f"; nothing may start: {said['wait_reason'] or 'no room'}"
        click.echo(plain_text(f"powerctld: {said['tier']}: {said['reason']}{room}"))
    for what, text in answer["trouble"].items():
        click.echo(plain_text(f"trouble with {what}: {text}"))
    for note in answer["notes"][-10:]:
        click.echo(plain_text(f"  {note}"))


@gateway.command()
@_file_argument
@_state_option
@click.argument("tier", required=False)
@click.option("--back", is_flag=True, help="Back to the full tier of the file.")
def switch(file: Path, state: Path | None, tier: str | None, back: bool) -> None:
    """Have TIER as the service's full tier.

    From now on, until --back; powerctld still has its say.
    """
    if (tier is None) is not back:
        _refuse(["name a TIER, or say --back"])
    answer = _ask_gateway(_read(file), state, {"op": "switch", "tier": tier})
    click.echo(f"{answer['full_tier']} is what the service is to run; see slurm-power gateway status {file}")
    if answer["trouble"]:
        waits = f"without its word the service moves {SILENT_SECONDS:g} s after the last one has run out"
        click.echo(plain_text(f"{answer['trouble']}; {waits}"))


def _read(file: Path) -> ServiceFile:
    try:
        return read_service(file)
    except ConfigError as error:
        _refuse([f"{file}: {problem}" for problem in error.problems])


def _refuse(problems: list[str]) -> NoReturn:
    for problem in problems:
        click.echo(plain_text(f"Error: {problem}"), err=True)
    sys.exit(EXIT_PROBLEMS)


def _where(service: ServiceFile) -> str:
    site = service.haproxy
    return f"backend {site.backend} of the HAProxy at {site.socket}" if site else service.listen


def _controller_socket() -> Path:
    named = plain_conf.read_plain(plain_conf.slurm_power_conf()).get("controller_socket")
    return Path(named or DEFAULT_SOCKET)


async def _checked(service: ServiceFile) -> str:
    """What HAProxy has against the configuration, empty for nothing."""
    if service.haproxy is not None:
        return (
            ""
            if service.haproxy.socket.is_socket()
            else f"haproxy.socket: {service.haproxy.socket}: no socket"
        )
    with tempfile.TemporaryDirectory(prefix="slurm-power-") as directory:
        folder = Folder(path=Path(directory))
        try:
            haproxy_config.write(service, folder, [])
            await HaproxyProcess(folder).check(folder.config)
        except (HaproxyError, OSError) as error:
            return str(error)
    return ""


def _ask_gateway(service: ServiceFile, state: Path | None, request: wire.Message) -> dict[str, Any]:
    """Ask the gateway that runs; it alone knows what it does."""
    try:
        path = Folder(path=own_folder(service.name, state)).gateway_socket
    except FolderError as error:
        _refuse([str(error)])
    if not path.is_socket():
        raise click.ClickException(f"no gateway of {service.name} runs here: slurm-power gateway run FILE")
    return ask(request, path, peer="the gateway")
