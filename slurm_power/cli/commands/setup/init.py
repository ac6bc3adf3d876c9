"""``slurm-power init``: reads the running Slurm, and writes what would add slurm-power to it, for review."""

import asyncio
import json
import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from slurm_power import __version__
from slurm_power.cli.commands.connection import json_option, print_json
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.finding import Severity
from slurm_power.slurm.found import Found
from slurm_power.slurm.inspect import inspect
from slurm_power.slurm.installation import install
from slurm_power.slurm.next_steps import next_steps
from slurm_power.slurm.places import (
    DEFAULT_CONFIG_DIRECTORY,
    DEFAULT_PORT,
    DEFAULT_RUN_DIRECTORY,
    DEFAULT_STATE_DIRECTORY,
    DEFAULT_UNIT_DIRECTORY,
    Places,
)
from slurm_power.slurm.plugin_file import build_plugin
from slurm_power.slurm.proposal import CONTROLLER, LOGIN, NODE, Proposal, propose
from slurm_power.slurm.review_folder import ReviewError, differences, read_folder, write_folder
from slurm_power.slurm.shipped import NotShippedError, shipped

COMMAND_SECONDS = 10.0
slurm_conf_option = click.option(
    "--slurm-conf",
    type=click.Path(path_type=Path),
    default=None,
    help="Slurm's configuration (default: SLURM_CONF, else Slurm's own).",
)
config_directory_option = click.option(
    "--config-directory",
    type=click.Path(path_type=Path),
    default=Path(DEFAULT_CONFIG_DIRECTORY),
    show_default=True,
    help="For site.toml and node.toml.",
)


class Refused(click.ClickException):
    """Nothing was changed; all reasons are told at once."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("slurm-power-files"),
    show_default=True,
    help="Where the files for review go.",
)
@click.option(
    "--apply", "apply_it", is_flag=True, help="Put the reviewed files of --dir in their places on this host."
)
@click.option(
    "--role",
    "roles",
    type=click.Choice((CONTROLLER, NODE, LOGIN)),
    multiple=True,
    help="With --apply: only what such a host needs; may be given several times (default: everything).",
)
@click.option("--controller", help="Name or address by which nodes reach powerctld (default: slurmctld's).")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="powerctld's port."
)
@config_directory_option
@click.option("--state-directory", type=click.Path(), default=DEFAULT_STATE_DIRECTORY, show_default=True)
@click.option("--run-directory", type=click.Path(), default=DEFAULT_RUN_DIRECTORY, show_default=True)
@click.option("--unit-directory", type=click.Path(), default=DEFAULT_UNIT_DIRECTORY, show_default=True)
@slurm_conf_option
@json_option
def init(  # noqa: PLR0917  # click hands over one argument for each option
    folder: Path,
    apply_it: bool,
    roles: tuple[str, ...],
    controller: str | None,
    port: int,
    config_directory: Path,
    state_directory: str,
    run_directory: str,
    unit_directory: str,
    slurm_conf: Path | None,
    as_json: bool,
) -> None:
    """Draft all files that this Slurm needs, for review.

    They go into --dir; nothing else is changed.

    With --apply the files of --dir, as reviewed and edited, are put in their places on this host; what they
    replace is kept, and uninstall puts it back. Exit status 2 for a refusal that changed nothing.
    """
    if apply_it:
        _apply(folder, roles, as_json=as_json)
        return
    if roles:
        raise click.UsageError("--role goes with --apply")
    found = look(slurm_conf)
    places = Places(
        slurm_directory=found.directory,
        controller_host=controller or found.controller_host or socket.gethostname(),
        programs=str(Path(sys.executable).parent),
        port=port,
        config_directory=str(config_directory.absolute()),
        state_directory=os.path.abspath(state_directory),  # noqa: PTH100 - Path keeps '..'
        run_directory=os.path.abspath(run_directory),  # noqa: PTH100 - the same
        unit_directory=os.path.abspath(unit_directory),  # noqa: PTH100 - the same
    )
    try:
        ship = shipped()
    except NotShippedError as error:
        raise click.ClickException(str(error)) from None
    proposal = propose(found, places, ship, build_plugin(ship.plugin_sources, found.version))
    inventory = inventory_of(found, proposal)
    papers = {
        "README.md": next_steps(found, places, proposal, str(folder.absolute())),
        "inventory.json": json.dumps(inventory, indent=2, ensure_ascii=True) + "\n",
        "changes.diff": differences(proposal.files),
    }
    try:
        kept = write_folder(folder, proposal.files, papers, record_directory=places.config_directory)
    except ReviewError as error:
        raise Refused(error.problems) from None
    except OSError as error:
        raise Refused([f"{folder}: cannot be written: {error.strerror}"]) from None
    if as_json:
        print_json(inventory)
        return
    for finding in proposal.findings:
        click.echo(finding.line(), err=finding.severity is not Severity.NOTE)
    for name in kept:
        click.echo(f"{folder / name}: edited by you, left as it is")
    click.echo(
        f"{len(proposal.files)} files for {found.setting('ClusterName')} (Slurm {found.version},"
        f" {len(found.nodes)} nodes, {sum(node.gpu_count for node in found.nodes)} GPUs) are in {folder}."
        f" Nothing else was changed. Read {folder}/README.md"
    )


def look(slurm_conf: Path | None) -> Found:
    """Read the running Slurm; raises click.ClickException with what to do when it does not answer."""
    named = named_conf(slurm_conf)
    try:
        return asyncio.run(inspect(CommandRunner(named, timeout_seconds=COMMAND_SECONDS), named))
    except SchedulerError as error:
        raise Refused(
            [f"Slurm does not answer: {error}. Is slurmctld running, and SLURM_CONF right?"]
        ) from None


def named_conf(slurm_conf: Path | None) -> Path | None:
    """slurm.conf by option or environment, None for Slurm's own; raises Refused when it is not there."""
    named = slurm_conf or (Path(os.environ["SLURM_CONF"]) if os.environ.get("SLURM_CONF") else None)
    if named is None:
        return None
    if not named.is_file():
        raise Refused([f"{named}: no such file; --slurm-conf names Slurm's configuration"])
    return named.absolute()


def inventory_of(found: Found, proposal: Proposal) -> dict[str, Any]:
    """What was found and what is proposed, for programs."""
    return {
        "slurm_power_version": __version__,
        "slurm_version": found.version,
        "slurm_conf": found.slurm_conf,
        "cluster": found.setting("ClusterName"),
        "settings": dict(found.settings),
        "nodes": [asdict(node) for node in found.nodes],
        "partitions": [asdict(partition) for partition in found.partitions],
        "racks": {rack: list(nodes) for rack, nodes in found.racks.items()},
        "licenses": dict(found.licenses),
        "hooks": {setting: list(files) for setting, files in found.hook_files.items()},
        "findings": [finding.as_json() for finding in proposal.findings],
        "files": [
            {
                "path": file.path,
                "roles": list(file.roles),
                "mode": f"{file.mode:04o}",
                "why": file.why,
                "exists": file.before is not None,
            }
            for file in proposal.files
        ],
        "restart_slurmctld": proposal.restart_slurmctld,
    }


def _apply(folder: Path, roles: tuple[str, ...], *, as_json: bool) -> None:
    try:
        files, record_directory = read_folder(folder)
        wanted = [file for file in files if not roles or set(roles) & set(file.roles)]
        outcome = install(wanted, record_directory)
    except ReviewError as error:
        raise Refused(error.problems) from None
    except OSError as error:
        raise click.ClickException(
            f"{error.filename}: {error.strerror};"
            " what was done until then is taken back by: slurm-power uninstall --apply"
        ) from None
    if as_json:
        print_json({"written": outcome.done, "kept": outcome.kept})
        return
    for path in outcome.done:
        click.echo(f"{path}: written")
    for path in outcome.kept:
        click.echo(f"{path}: is there already, left as it is")
    if not outcome.done:
        click.echo("everything is in place already")
    else:
        click.echo(f"Slurm does not use it yet: go on with step 3 of {folder}/README.md")
