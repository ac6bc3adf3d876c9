"""``slurm-power tiers publish``: an administrator takes a user's family into the site's catalog."""

import dataclasses
from pathlib import Path

import click

from slurm_power.cli.commands.tiers.tiers_files import (
    Catalogs,
    catalog_option,
    find_family,
    load,
    refuse,
    site_file,
)
from slurm_power.model.tier import refusals
from slurm_power.tiers.catalog import CatalogError, write_tier


@click.command()
@click.argument("family_name", metavar="FAMILY")
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The user's tiers.toml.",
)
@catalog_option
def publish(family_name: str, source: Path, catalog_path: Path | None) -> None:
    """Take a family of a user's catalog into the site's, which powerctld reads.

    A tier of the same name is replaced; all else in the site's catalog stays. Approvals do not come along:
    what jobs are moved to is the site's own word (slurm-power tiers approve). Models stay where they are,
    and all who may use them must be able to read them there.
    """
    theirs = load(source)
    family = find_family(Catalogs(theirs.catalog, (source,)), family_name)
    target = catalog_path or site_file()
    if target.exists() and target.samefile(source):
        refuse([f"--from {source}: is that catalog itself"])
    try:
        for tier in family.tiers:
            unapproved = dataclasses.replace(tier, approved_by="", approved_date=None)
            write_tier(target, dataclasses.replace(family, owner=""), unapproved)
    except CatalogError as error:
        refuse(f"{target}: {problem}" for problem in error.problems)
    click.echo(f"{family_name} is in {target}, with {', '.join(tier.name for tier in family.tiers)}")
    for tier in family.tiers:
        state = "refused" if refusals(family, tier) else "not approved yet"
        click.echo(f"  {family_name}/{tier.name}: {state}")
