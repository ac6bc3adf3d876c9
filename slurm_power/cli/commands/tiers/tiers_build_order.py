"""From the words of `slurm-power tiers build` to an order, and from what was built to a catalog's tier."""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_power.model.job import Workload
from slurm_power.model.tier import Family, Tier
from slurm_power.tiers.catalog import CatalogError, read_catalog
from slurm_power.tiers.catalog_edit import write_tier
from slurm_power.tiers.catalog_fields import NAME, NAME_FORM
from slurm_power.tiers.task import Task

if TYPE_CHECKING:
    from slurm_power.tiers.building.build import Built

_PACKAGES = {"torch": "tiers", "safetensors": "tiers", "torch_pruning": "tiers", "optuna": "tiers"}


class OrderError(ValueError):
    """The words of the command line do not make an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tier goes: its family and name, the folder, the catalog file it is added to (None for none)."""

    family: str
    tier: str
    output: Path
    catalog: Path | None
    licence: str = ""
    known: Family | None = None
    """The family as the catalog has it already."""

    @property
    def full_name(self) -> str:
        """``family/tier``."""
        return f"{self.family}/{self.tier}"


def missing_packages(method: str) -> str:
    """What has to be installed first, as a sentence; empty for nothing."""
    needed = ["torch", "safetensors"]
    needed += {"prune": ["torch_pruning"], "search": ["optuna"]}.get(method, [])
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return f"this needs {', '.join(absent)}: pip install 'slurm-power[{_PACKAGES[absent[0]]}]'"


def place(
    *, family: str, tier: str, output: Path, catalog: Path | None, task: Task, licence: str = ""
) -> Place:
    """Check names and catalog before any work is done; raises OrderError with all problems."""
    problems = [
        f"--{option} {name!r} is no name: {NAME_FORM}"
        for option, name in (("family", family), ("tier", tier))
        if not NAME.fullmatch(name)
    ]
    known: Family | None = None
    if catalog is not None and catalog.exists():
        try:
            known = read_catalog(catalog).families.get(family)
        except CatalogError as error:
            problems += [f"catalog {catalog}: {problem}" for problem in error.problems]
    if known is not None:
        asked = {
            "class": (known.workload.value, str(task.workload)),
            "metric": (known.metric, task.metric),
            "higher_is_better": (known.higher_is_better, task.higher_is_better),
        }
        problems += [
            f"catalog {catalog}: family {family} has {key} = {there}, the task says {here}"
            for key, (there, here) in asked.items()
            if there != here
        ]
    if catalog is not None and not catalog.absolute().parent.is_dir():
        problems.append(f"catalog {catalog}: its folder is not there")
    if problems:
        raise OrderError("; ".join(problems))
    return Place(
        family=family, tier=tier, output=output.absolute(), catalog=catalog, licence=licence, known=known
    )


def parent_folder(name: str, where: Place) -> tuple[str, Path, str]:
    """Find the tier that another is made from: its name, its folder, its sum where a catalog has it.

    ``name`` is a tier of the catalog's family, a tier beside the output, or a folder. Raises OrderError.
    """
    folder = Path(name)
    itself = OrderError(f"--parent {name}: a tier cannot be made from itself; give --tier another name")
    if name == where.tier:
        raise itself
    if "/" in name or (folder / "tier.json").is_file():
        tier, found, sha256 = folder.absolute().name, folder, ""
        in_catalog = where.known.tier(tier) if where.known is not None else None
        if in_catalog is not None:
            sha256 = in_catalog.sha256
    else:
        tier, found, sha256 = _named_parent(name, where)
    if tier == where.tier or found.absolute() == where.output:
        raise itself
    if where.catalog is not None and (where.known is None or where.known.tier(tier) is None):
        raise OrderError(
            f"--parent {name}: {where.catalog} has no tier {where.family}/{tier}: add it first"
            " (build it with --catalog), or leave --catalog out"
        )
    return tier, found, sha256


def _named_parent(name: str, where: Place) -> tuple[str, Path, str]:
    listed = where.known.tier(name) if where.known is not None else None
    if listed is not None and listed.model_path:
        return name, Path(listed.model_path), listed.sha256
    beside = where.output.parent / name
    if (beside / "tier.json").is_file():
        return name, beside, ""
    known = ", ".join(tier.name for tier in where.known.tiers) if where.known is not None else ""
    raise OrderError(
        f"--parent {name}: no such tier"
        + (f" in {where.catalog}, which has {known}," if known else "")
        + f" and no folder {beside}: build it first, or name its folder"
    )


def floor_of(said: float | None, where: Place) -> float | None:
    """The floor that was said, else the catalog's; raises OrderError for one that is no number."""
    if said is not None and not math.isfinite(said):
        raise OrderError(f"--floor {said}: it must be a finite number")
    return said if said is not None else (where.known.floor if where.known is not None else None)


def shape_of(words: tuple[str, ...]) -> dict[str, int | float]:
    """``NAME=NUMBER`` words as a shape; raises OrderError with all that are none."""
    shape: dict[str, int | float] = {}
    problems = []
    for word in words:
        name, equals, number = word.partition("=")
        value = _number(number)
        if not equals or value is None:
            problems.append(f"--shape {word!r}: write NAME=NUMBER, such as dense=32")
        elif name in shape:
            problems.append(f"--shape {name} is said twice")
        else:
            shape[name] = value
    if problems:
        raise OrderError("; ".join(problems))
    return shape


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None


def add_to_catalog(where: Place, task: Task, built: "Built", floor: float | None) -> None:
    """Add what was built to the catalog, of unknown power and quality; raises CatalogError.

    A tier of that name keeps what a person wrote about its jobs, and loses what was measured and approved.
    """
    if where.catalog is None:
        return
    before = (where.known.tier(where.tier) if where.known is not None else None) or Tier(name=where.tier)
    tier = Tier(
        name=where.tier,
        method=built.method,
        parent=built.parent,
        model_path=str(where.output),
        sha256=built.sha256,
        licence=where.licence or before.licence,
        gpu_count=before.gpu_count,
        sbatch=before.sbatch,
        environment=before.environment,
        model_bytes=built.model_bytes,
        multiply_adds=built.multiply_adds,
    )
    family = where.known or Family(
        name=where.family,
        task=task.name,
        workload=Workload(task.workload),
        metric=task.metric,
        tiers=(),
        higher_is_better=task.higher_is_better,
        floor=floor,
        data=f"{task.name}/test",
    )
    write_tier(where.catalog, family, tier)
