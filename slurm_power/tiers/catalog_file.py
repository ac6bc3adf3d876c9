"""One catalog file: read, and all that stands in it checked at once."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slurm_power.model.job import Workload
from slurm_power.model.tier import Catalog, Family, Tier
from slurm_power.tiers.catalog_checks import family_problems
from slurm_power.tiers.catalog_fields import NAME, NAME_FORM, Fields
from slurm_power.tiers.catalog_tier import read_tier

# A file of a thousand tiers has half a megabyte; more is a mistake, and not to be read by a daemon.
_MOST_BYTES = 4 << 20


class CatalogError(Exception):
    """A catalog that cannot be used. ``problems`` are all that were found, each starting with its path."""

    def __init__(self, problems: list[str]) -> None:
        # Keys and values of a user's must not move the cursor of whoever reads of them.
        self.problems = ["".join(map(_printable, problem)) for problem in problems]
        super().__init__("\n".join(self.problems))


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else "?"


def read_document(path: Path) -> dict[str, Any]:
    """The tables of a catalog file, not yet checked; raises CatalogError."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CatalogError([f"cannot be read: {error.strerror}"]) from None
    if len(content) > _MOST_BYTES:
        raise CatalogError([f"is larger than {_MOST_BYTES >> 20} MiB"])
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # tomllib's own, and those of int() that it lets through
        raise CatalogError([f"is not TOML: {error}"]) from None


def parse_catalog(document: Mapping[str, Any], path: Path, *, owner: str = "") -> Catalog:
    """Check the tables of a catalog file that stands, or is to stand, at ``path``; raises CatalogError."""
    problems: list[str] = []
    root = _Root(document, "", problems)
    tables = root.table("family")
    root.finish()
    families = {}
    for name in tables.names() if tables is not None else ():
        fields = tables.table(name) if tables is not None else None
        if fields is None:
            continue
        if not NAME.fullmatch(name):
            problems.append(f"family.{name[:80]!r}: is no name: {NAME_FORM}")
        families[name] = _family(name, fields, path.absolute().parent, owner)
    if problems:
        raise CatalogError(problems)
    return Catalog(families=families)


class _Root(Fields):
    """The file itself: its keys have no path before them."""

    def say(self, key: str, problem: str) -> None:
        self.problems.append(f"{key}: {problem}")

    def table(self, key: str) -> Fields | None:
        below = super().table(key)
        return None if below is None else Fields(self._table[key], key, self.problems)

    def finish(self) -> None:
        before = len(self.problems)
        super().finish()
        self.problems[before:] = [problem.removeprefix(".") for problem in self.problems[before:]]


def _family(name: str, fields: Fields, folder: Path, owner: str) -> Family:
    """One family; what is wrong with it is among the problems of the fields."""
    subgroup = fields.table("subgroup")
    by = metric = ""
    max_drop = higher = None
    if subgroup is not None:
        by, metric = subgroup.text("by", required=True), subgroup.text("metric", required=True)
        max_drop = subgroup.number("max_drop", least=0.0)
        higher = subgroup.flag("higher_is_better")
        subgroup.finish()
    higher_is_better = fields.flag("higher_is_better")
    family = Family(
        name=name,
        task=fields.text("task"),
        workload=fields.word("class", Workload, None) or Workload.INFERENCE,
        metric=fields.text("metric", required=True),
        tiers=_tiers(fields, folder),
        higher_is_better=True if higher_is_better is None else higher_is_better,
        floor=fields.number("floor"),
        data=fields.text("data"),
        fingerprint=fields.text("fingerprint"),
        subgroup_by=by,
        subgroup_metric=metric,
        subgroup_higher_is_better=higher,
        max_drop=max_drop,
        owner=owner,
    )
    _tell_dotted_name(name, fields)
    fields.finish()
    fields.problems += family_problems(family, fields.path)
    return family


def _tell_dotted_name(name: str, fields: Fields) -> None:
    """``[family.qwen2.5]`` is a table in a table; say so, not only that the key 5 is unknown."""
    for key in fields.names():
        value = fields.peek(key)
        if isinstance(value, dict) and key not in ("subgroup", "tier") and {"tier", "metric"} & value.keys():
            fields.say(key, f'a name with a dot needs quotes: write [family."{name}.{key}"]')


def _tiers(fields: Fields, folder: Path) -> tuple[Tier, ...]:
    value = fields.take("tier")
    if value is None:  # its rules stand before the first tier is built
        return ()
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        fields.say("tier", f"must be a list of tables, write [[{fields.path}.tier]]")
        return ()
    tiers = []
    for number, table in enumerate(value, start=1):
        said = table.get("name")
        named = f" ({said})" if isinstance(said, str) and NAME.fullmatch(said) else ""
        tiers.append(
            read_tier(Fields(table, f"{fields.path}.tier[{number}]{named}", fields.problems), folder)
        )
    return tuple(tiers)
