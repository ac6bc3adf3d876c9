"""``slurm-power store``: which schema the files have, copies of them, and putting a copy back."""

import sys
from pathlib import Path

import click

from slurm_power.cli.command_group import CommandGroup
from slurm_power.cli.commands.connection import json_option, print_json
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.ports import StoreError
from slurm_power.store import copies

state_option = click.option(
    "--state",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/slurm-power/powerctld"),
    show_default=True,
    help="The state directory of powerctld, or a copy of it.",
)


class Refused(click.ClickException):
    """It was not done, and nothing was changed."""

    exit_code = 2


@click.group(cls=CommandGroup)
def store() -> None:
    """Back up, restore and check what powerctld keeps."""


@store.command()
@state_option
@json_option
def version(directory: Path, as_json: bool) -> None:
    """Tell the schema of each file, and the one that this slurm-power writes.

    An older file is brought to today's schema at powerctld's next start; a newer one is refused. The exit
    status is 1 if there is a newer one.
    """
    try:
        files = copies.versions(directory)
    except StoreError as error:
        raise click.ClickException(plain_text(str(error))) from None
    if as_json:
        print_json({each.name: {"schema": each.version, "known": each.known_version} for each in files})
    else:
        for each in files:
            text = (
                "as this slurm-power writes it"
                if each.version == each.known_version
                else f"becomes {each.known_version} at powerctld's next start"
                if each.version < each.known_version
                else f"is newer than this slurm-power, which knows {each.known_version}"
            )
            click.echo(f"{each.name}: schema {each.version}, {text}")
    if any(each.version > each.known_version for each in files):
        sys.exit(1)


@store.command()
@state_option
@json_option
def check(directory: Path, as_json: bool) -> None:
    """Check the files, the ledger's chain and a copy's manifest; exit status 1 if not whole."""
    try:
        state = copies.check(directory)
    except StoreError as error:
        raise click.ClickException(plain_text(str(error))) from None
    if as_json:
        print_json(
            {
                "whole": not state.problems,
                "entries": state.entries,
                "last_hash": state.last_hash,
                "problems": list(state.problems),
            }
        )
    else:
        for problem in state.problems:
            click.echo(plain_text(problem))
        if not state.problems:
            click.echo(f"whole: {state.entries} ledger entries, the last is {state.last_hash or 'none'}")
    if state.problems:
        sys.exit(1)


@store.command()
@state_option
@click.option("--to", "target", type=click.Path(path_type=Path), required=True, help="A folder to make.")
@json_option
def backup(directory: Path, target: Path, as_json: bool) -> None:
    """Copy everything while powerctld runs, check the copy, and write its manifest.

    Keys of the certificate authority are not in it: keep /etc/slurm-power/tls apart, and secret.
    """
    try:
        manifest = copies.backup(directory, target)
    except StoreError as error:
        raise Refused(plain_text(str(error))) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or target}: {error.strerror or error}") from None
    if as_json:
        print_json(manifest)
        return
    ledger, size = manifest["ledger"], sum(each["bytes"] for each in manifest["files"].values())
    click.echo(
        f"{target}: {len(manifest['files'])} files, {size / 1e6:.1f} MB, {ledger['entries']} ledger entries,"
        f" the last is {ledger['last_hash'] or 'none'}"
    )


@store.command()
@state_option
@click.option(
    "--from",
    "copy",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="A folder that `store backup` made.",
)
def restore(directory: Path, copy: Path) -> None:
    """Put a copy in place; what was there is kept beside it. powerctld has to be stopped."""
    try:
        kept = copies.restore(copy, directory)
    except StoreError as error:
        raise Refused(plain_text(str(error))) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or directory}: {error.strerror or error}") from None
    was = f"; what was there is in {kept}" if kept is not None else ""
    click.echo(f"{directory}: is as in {copy}{was}")
