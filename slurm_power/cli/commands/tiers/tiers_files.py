"""Which tier catalogs a command reads: the one that was named, else the site's and the user's own."""

import getpass
import os
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from slurm_power.cli import plain_conf
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.config.problems import did_you_mean
from slurm_power.model.tier import Catalog, Family, Tier
from slurm_power.tiers.catalog import SITE_CATALOG, CatalogError, load_catalogs, read_catalog, user_catalog

EXIT_REFUSED = 1
EXIT_BAD_INPUT = 2

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Catalogs:
    """What was read, and the files that it was looked for in."""

    catalog: Catalog
    files: tuple[Path, ...]

    def file_of(self, family: str) -> Path:
        """The file that a family stands in."""
        there = (file for file in self.files if os.path.exists(file))  # noqa: PTH110 - see load_catalogs
        return next(file for file in there if family in read_catalog(file).families)


def catalog_option(command: Command) -> Command:
    """Add ``--catalog``."""
    return click.option(
        "--catalog",
        "catalog_path",
        type=click.Path(path_type=Path),
        default=None,
        help="A tiers.toml; default: the site's /etc/slurm-power/tiers.toml and your own"
        " ~/.config/slurm-power/tiers.toml together.",
    )(command)


def load(path: Path | None) -> Catalogs:
    """Read the catalogs; prints all problems and ends with status 2 if there are any."""
    try:
        if path is not None:
            return Catalogs(_named(path), (path,))
        site = site_file()
        own = user_catalog()
        files = (site,) if own is None else (site, own)
        return Catalogs(load_catalogs(site, own, owner=_user()), files)
    except CatalogError as error:
        refuse(error.problems)


def site_file() -> Path:
    """The site's catalog, as slurm-power.conf has it."""
    return Path(plain_conf.read_plain(plain_conf.slurm_power_conf()).get("tiers_path") or str(SITE_CATALOG))


def _named(path: Path) -> Catalog:
    try:
        return read_catalog(path)
    except CatalogError as error:
        raise CatalogError([f"{path}: {problem}" for problem in error.problems]) from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return "user"


def rights_problem(file: Path) -> str:
    """What is wrong with who may write a catalog, and so approve; empty for nothing, or no file."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return ""
    return "everybody may write it, and so approve: chmod o-w" if mode & stat.S_IWOTH else ""


def refuse(problems: Iterable[str]) -> NoReturn:
    """Say what is wrong and end with status 2."""
    for problem in problems:
        click.echo(f"Error: {plain_text(problem)}", err=True)
    sys.exit(EXIT_BAD_INPUT)


def find_family(catalogs: Catalogs, name: str) -> Family:
    """The family of a name; ends with status 2 and says what there is."""
    families = catalogs.catalog.families
    if name not in families:
        looked = ", ".join(map(str, catalogs.files))
        refuse([f"there is no family {name!r}{did_you_mean(name, families)} (looked in {looked})"])
    return families[name]


def find_tier(catalogs: Catalogs, full_name: str) -> tuple[Family, Tier]:
    """The tier of a full name; ends with status 2 and says what there is."""
    family_name, slash, tier_name = full_name.partition("/")
    if not slash:
        refuse([f"{full_name!r} names no tier; write FAMILY/TIER"])
    family = find_family(catalogs, family_name)
    tier = family.tier(tier_name)
    if tier is None:
        names = [one.name for one in family.tiers]
        refuse([f"{family_name} has no tier {tier_name!r}{did_you_mean(tier_name, names)}"])
    return family, tier
