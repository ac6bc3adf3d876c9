"""What psbatch makes of --tier: the catalogs know the tier or not, and what its jobs are to be given.

Read only where something is said of tiers. A catalog of the site's that cannot be read costs one line and no
submission; what the user has said, or keeps in a catalog of their own, has to be right.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_power.cli.choices import ABOUT_TIERS, MODEL, Chosen, Said
from slurm_power.cli.said_options import kinds_said, options_in
from slurm_power.model.job import Workload
from slurm_power.model.tier import ANY_TIER, Catalog, Family, Tier, refusals
from slurm_power.tiers.catalog import SITE_CATALOG, CatalogError, read_catalog, user_catalog

if TYPE_CHECKING:
    from slurm_power.cli.sbatch_options import CommandLine

NONE = "none"
_LONGEST_VALUE = 256
_MOST_NAMED = 8


class TierChoice:
    """A tier that was said: what sbatch is given for it, and what the catalog knows (None: nothing).

    ``consent`` are the tiers that its user allows: names, ``any``, or nothing.
    """

    __slots__ = ("arguments", "catalog", "consent", "environment", "family", "full_name", "tier")

    def __init__(self, full_name: str, consent: tuple[str, ...]) -> None:
        self.full_name = full_name
        self.consent = consent
        self.catalog = ""
        self.family: Family | None = None
        self.tier: Tier | None = None
        self.arguments: list[str] = []
        self.environment: dict[str, str] = {}


class _Catalogs:
    """The catalogs that could be read, by their paths; ``unread`` says why the site's is not among them."""

    __slots__ = ("read", "unread")

    def __init__(self) -> None:
        self.read: dict[str, Catalog] = {}
        self.unread = ""

    def find(self, full_name: str) -> tuple[str, Family, Tier] | None:
        """The catalog's path with family and tier."""
        for path, catalog in self.read.items():
            known = catalog.find(full_name)
            if known is not None:
                return path, *known
        return None

    def family(self, name: str) -> Family | None:
        """A family, of whatever catalog."""
        return next((one.families[name] for one in self.read.values() if name in one.families), None)

    def names(self) -> list[str]:
        """All full names."""
        families = [family for one in self.read.values() for family in one.families.values()]
        return [f"{family.name}/{tier.name}" for family in families for tier in family.tiers]


def choose(
    line: CommandLine, head: bytes, chosen: Chosen, conf: dict[str, str], problems: list[str]
) -> TierChoice | None:
    """Check what is said of tiers; adds to ``problems`` and to what was chosen. None without a tier."""
    if "tier" not in chosen.said:
        _without_a_tier(chosen, problems)
        return None
    by_site = "tier" in chosen.by_site
    unreadable: list[str] = []
    catalogs = read_catalogs(conf, unreadable)
    full_name = chosen.words()["tier"]
    known = catalogs.find(full_name)
    choice = TierChoice(full_name, ())
    wrong: list[str] = []
    if known is None:
        _unknown(chosen, catalogs, wrong)
    else:
        choice.catalog, choice.family, choice.tier = known
        where = chosen.said["tier"].where
        wrong = [f"{where}: {full_name} is refused: {why}" for why in refusals(choice.family, choice.tier)]
    if by_site:
        # A wrong default of the site's must not stop anybody's work.
        chosen.warnings += [f"ignoring {one}" for one in unreadable + wrong]
        if wrong:
            for option in ABOUT_TIERS:
                chosen.said.pop(option, None)
            return None
    else:
        problems += unreadable + wrong
    if choice.family is not None and choice.tier is not None:
        if "workload" not in chosen.said:
            workload = choice.family.workload.value
            chosen.said["workload"] = Said("workload", workload, f"the family {choice.family.name}")
        _judge_quality(chosen, choice.family, choice.tier, problems)
    _judge_consent(chosen, choice.family, problems)
    choice.consent = _consent(chosen)
    if choice.family is not None and choice.tier is not None:
        _equip(choice, kinds_said(line.rest, head), chosen.warnings)
    return choice


def _without_a_tier(chosen: Chosen, problems: list[str]) -> None:
    """What stands for all jobs says nothing of one without a tier; what was said of this one needs it."""
    wrong = bool(problems)  # it may well be the tier that was
    for option in ("tiers-ok", "min-quality"):
        if option in chosen.standing:
            del chosen.said[option]
        elif option in chosen.said and not wrong:
            problems.append(f"{chosen.said[option].where}: needs --tier=FAMILY/TIER as well")


def read_catalogs(conf: dict[str, str], problems: list[str]) -> _Catalogs:
    """The site's catalog and the user's own."""
    found = _Catalogs()
    path = conf.get("tiers_path") or str(SITE_CATALOG)
    if not os.path.exists(path):  # noqa: PTH110 - a path as it is written, in messages as well
        found.unread = f"there is no catalog of tiers at {path}"
    else:
        wrong: list[str] = []
        catalog = _read(path, "", wrong)
        if catalog is None:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            found.unread = f"the catalog of tiers cannot be read: {wrong[0]}{more}"
        else:
            found.read[path] = catalog
    own_path = str(user_catalog() or "")
    if own_path and os.path.exists(own_path):  # noqa: PTH110 - as above
        own = _read(own_path, os.environ.get("USER") or str(os.getuid()), problems)
        if own is not None:
            site = found.read.get(path, Catalog())
            problems += [
                f"{own_path}: family {name}: the site's catalog has a family of that name;"
                " rename yours or take it out of this file"
                for name in sorted(own.families.keys() & site.families.keys())
            ]
            found.read[own_path] = own
    return found


def _read(path: str, owner: str, problems: list[str]) -> Catalog | None:
    try:
        return read_catalog(Path(path), owner=owner)
    except CatalogError as error:
        problems += [one if path in one else f"{path}: {one}" for one in error.problems]
    except OSError as error:
        problems.append(f"{path}: {(error.strerror or str(error)).lower()}")
    return None


def _unknown(chosen: Chosen, catalogs: _Catalogs, problems: list[str]) -> None:
    said = chosen.said["tier"]
    full_name = str(said.meant)
    family = catalogs.family(full_name.partition("/")[0])
    if family is None and catalogs.unread:
        chosen.warnings.append(f"{catalogs.unread}: {full_name} is not checked")
        return
    if family is None:
        hint = near(full_name, catalogs.names())
    else:
        names = [tier.name for tier in family.tiers]
        hint = near(full_name.partition("/")[2], names, before=f"{family.name}/")
    problems.append(f"{said.where}: there is no tier {full_name}{hint}")


def near(wanted: str, names: list[str], before: str = "") -> str:
    """Return ``; did you mean ...?`` for near names, else what there is, each with ``before`` before it."""
    from difflib import get_close_matches  # noqa: PLC0415 - only spent on a mistake

    close = get_close_matches(wanted, names, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(before + name for name in close)}?"
    more = ", ..." if len(names) > _MOST_NAMED else ""
    known = ", ".join(before + name for name in names[:_MOST_NAMED])
    return f"; there are {known}{more}" if names else "; the catalog is empty"


def _judge_quality(chosen: Chosen, family: Family, tier: Tier, problems: list[str]) -> None:
    said = chosen.said.get("min-quality")
    if said is None or said.meant is None or tier.quality is None:
        return
    if not family.at_least(tier.quality.value, float(said.meant)):
        text = f"{said.where}: {family.name}/{tier.name} itself has {family.metric} {tier.quality.value:g}"
        _refuse_or_drop("min-quality", text, chosen, problems)


def _refuse_or_drop(option: str, text: str, chosen: Chosen, problems: list[str]) -> None:
    """What was said of this job is wrong; what stands for all jobs is not meant for this one."""
    if option in chosen.standing:
        chosen.warnings.append(f"ignoring {text}")
        del chosen.said[option]
    else:
        problems.append(text)


def _judge_consent(chosen: Chosen, family: Family | None, problems: list[str]) -> None:
    said = chosen.said.get("tiers-ok")
    if said is None or said.meant in (None, NONE):
        return
    words = chosen.words()
    workload = words.get("workload")
    others = ", ".join(tier.name for tier in family.tiers) if family else ""
    if workload == Workload.TRAINING and (said.meant == ANY_TIER or "tiers-ok" in chosen.by_site):
        there_are = f"; there are {others}" if others else ""
        text = f"{said.where}: another tier is another experiment: of a training, name the tiers{there_are}"
        _refuse_or_drop("tiers-ok", text, chosen, problems)
        return
    if family is None or said.meant == ANY_TIER:
        return
    names = [tier.name for tier in family.tiers]
    unknown = [name for name in str(said.meant).split(",") if name not in names]
    for name in unknown[:1] if "tiers-ok" in chosen.standing else unknown:
        text = f"{said.where}: the family {family.name} has no tier {name}{near(name, names)}"
        _refuse_or_drop("tiers-ok", text, chosen, problems)


def _consent(chosen: Chosen) -> tuple[str, ...]:
    said = chosen.words().get("tiers-ok", NONE)
    return () if said == NONE else tuple(said.split(","))


def _equip(choice: TierChoice, said: set[str], warnings: list[str]) -> None:
    """Give sbatch what the catalog says of the tier's jobs, where the user says nothing of it."""
    assert choice.tier is not None and choice.family is not None
    passed_over = []
    for option in options_in(list(choice.tier.sbatch)):
        if option.kind in said:
            passed_over.append(" ".join(option.words))
        else:
            choice.arguments += option.words
    if passed_over:
        warnings.append(f"{choice.full_name} comes with {', '.join(passed_over)}: your own word stands")
    choice.environment = {
        name: value
        for name, value in choice.tier.environment.items()
        if name not in os.environ and not name.startswith("SLURM_POWER_") and "=" not in name and name
    }
    path = choice.tier.model_path
    if len(path) > _LONGEST_VALUE or not path.isascii() or not path.isprintable():
        warnings.append(f"{choice.full_name}: the path of its model is too long or strange for a variable")
    elif path:
        choice.environment[MODEL] = path
    if choice.family.owner and choice.consent:
        warnings.append(f"the site does not know the family {choice.family.name}: it will not move the job")
