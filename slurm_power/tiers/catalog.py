"""Tier catalogs (``tiers.toml``): the site's and a user's, read, checked and written.

Standard library only, and quick to import. What is written there is described in docs/tier-catalog.md.
"""

import os
from pathlib import Path

from slurm_power.model.tier import Catalog, Family
from slurm_power.tiers.catalog_edit import write_tier
from slurm_power.tiers.catalog_file import CatalogError, parse_catalog, read_document
from slurm_power.tiers.model_sum import file_sha256

__all__ = [
    "SITE_CATALOG",
    "CatalogError",
    "file_sha256",
    "load_catalogs",
    "read_catalog",
    "user_catalog",
    "write_tier",
]

SITE_CATALOG = Path("/etc/slurm-power/tiers.toml")


def user_catalog() -> Path | None:
    """Where the user's own catalog is looked for, None for one without a home."""
    base = os.environ.get("XDG_CONFIG_HOME") or (
        f"{os.environ['HOME']}/.config" if os.environ.get("HOME") else ""
    )
    return Path(base) / "slurm-power" / "tiers.toml" if base else None


def read_catalog(path: Path, *, owner: str = "") -> Catalog:
    """Read one catalog file; ``owner`` is the user whose it is, empty for the site's.

    Raises CatalogError with all problems at once. Model paths come back absolute: relative ones are taken
    from the folder of the file. No model is opened.
    """
    return parse_catalog(read_document(path), path, owner=owner)


def load_catalogs(site_path: Path | None, user_path: Path | None, *, owner: str = "user") -> Catalog:
    """The families of the site and those of a user together; a file that is not there has none.

    Raises CatalogError with the problems of both, each with its file; also where a user's family has the
    name of one of the site's.
    """
    families: dict[str, Family] = {}
    problems: list[str] = []
    for path, whose in ((site_path, ""), (user_path, owner)):
        # Where a user may not even look, there is nothing for this user.
        if path is None or not os.path.exists(path):  # noqa: PTH110 - Path.exists raises PermissionError
            continue
        try:
            found = read_catalog(path, owner=whose).families
        except CatalogError as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
            continue
        problems += [
            f"{path}: family.{name}: the site has a family of this name; rename yours or"
            " take it out of this file"
            for name in found
            if name in families
        ]
        families.update(found)
    if problems:
        raise CatalogError(problems)
    return Catalog(families=families)
