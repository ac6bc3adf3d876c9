"""``slurm-power report proof``: whether the ledger is whole, and which row is the first that is not."""

import json
import re
import sqlite3
import sys
from pathlib import Path

import click

from slurm_power import clock
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.cli.commands.reports.report_options import give, output_options, state_option
from slurm_power.ports import StoreError
from slurm_power.report.audit.proof import chain_proof, proof_document
from slurm_power.store.sqlite import SqliteStore


@click.command()
@state_option
@click.option(
    "--since-hash",
    default=None,
    metavar="HASH",
    help="The last hash of an earlier proof: it must still be in the ledger.",
)
@output_options
def proof(
    state_directory: Path,
    since_hash: str | None,
    out: Path | None,
    table: str | None,
    as_json: bool,
) -> None:
    """Check that each entry of the ledger follows from the one before.

    An entry that was altered, removed or inserted is found, and the first such is named. Entries cut off
    at the end, or a ledger written anew, are found with a hash that was noted earlier. The exit status is
    1 if the ledger is not whole.
    """
    if since_hash is not None:
        since_hash = since_hash.strip().lower()
        if re.fullmatch("[0-9a-f]{64}", since_hash) is None:
            raise click.BadParameter("a hash has 64 digits 0-9 and a-f", param_hint="--since-hash")
    if table is not None:
        raise click.BadParameter("a proof has no tables", param_hint="--table")
    file = state_directory / "powerctld.sqlite"
    if not file.is_file():
        raise click.ClickException(f"{file}: there is no store in this directory")
    try:
        store = SqliteStore(file, read_only=True)
        try:
            found = chain_proof(store.rows(), since_hash)
        finally:
            store.close()
    except (sqlite3.Error, StoreError) as error:
        raise click.ClickException(plain_text(f"{file}: {error}")) from None
    if out is not None:
        give(proof_document(found, made_at=clock.now()), out, None, as_json)
    elif as_json:
        fields = {name: getattr(found, name) for name in found.__slots__}
        times = {
            name: None if fields[name] is None else fields[name].isoformat()
            for name in ("first_at", "last_at")
        }
        click.echo(json.dumps({**fields, **times, "whole": found.whole}, indent=2))
    else:
        for line in found.lines:
            click.echo(plain_text(line))
    if not found.whole:
        sys.exit(1)
