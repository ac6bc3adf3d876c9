"""`slurm-power tiers evaluate TASK`: how good, how fast and how thirsty a tier is, on rows new to it."""

import contextlib
import importlib.util
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from slurm_power.cli.commands.connection import json_option, print_json
from slurm_power.cli.commands.tiers.tiers_files import Catalogs, catalog_option, find_tier, load, refuse
from slurm_power.devices.rapl import Rapl
from slurm_power.model.tier import Family, Tier
from slurm_power.ports import DeviceError
from slurm_power.tiers.catalog import CatalogError, write_tier
from slurm_power.tiers.catalog_fields import NAME, NAME_FORM
from slurm_power.tiers.task import Task, TaskError, load_task

if TYPE_CHECKING:
    from slurm_power.tiers.evaluating.energy import EnergyMeter
    from slurm_power.tiers.evaluating.evaluation import Evaluation

_LEAST_SECONDS, _MOST_SECONDS = 0.1, 3600.0
_NEEDED = ("torch", "safetensors", "sklearn", "fairlearn")


@click.command()
@click.argument("task")
@click.option(
    "--tier",
    "tier_words",
    required=True,
    metavar="FOLDER|FAMILY/TIER",
    help="The tier's folder, or its name in a catalog.",
)
@catalog_option
@click.option("--split", default="test", show_default=True, help="Rows to measure on: test or validation.")
@click.option(
    "--seconds",
    type=float,
    default=12.0,
    show_default=True,
    help="For measuring speed and energy; in a job longer gives better joules.",
)
@click.option("--device", default="cpu", show_default=True, help="Where to run it: cpu, cuda, cuda:1.")
@click.option(
    "--record-as",
    metavar="FAMILY/TIER",
    help="Write what was measured into the catalog, under this name.",
)
@click.option("--gpus", type=click.IntRange(0, 65_536), help="GPUs of its jobs, for the catalog.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The evaluation as JSON; default: FOLDER.evaluation.json beside the tier's folder.",
)
@json_option
def evaluate(  # noqa: PLR0917 - click passes each option by its name
    task: str,
    tier_words: str,
    catalog_path: Path | None,
    split: str,
    seconds: float,
    device: str,
    record_as: str | None,
    gpus: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure quality, speed and energy of a tier on rows that are new to it.

    TASK is module:object or file.py:object, as for `tiers build`. Quality comes with its 95 % interval,
    and by subgroup where the task has some. Energy is the job's by powerd where there is one, else the
    processors' by RAPL; else processor time stands in, which compares tiers and plans nothing. Exit status:
    0 evaluated, 1 evaluated and refused (floor, subgroup, better than its teacher), 2 it cannot be
    evaluated, and nothing was written.
    """
    problems = []
    if absent := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        refuse([f"this needs {', '.join(absent)}: pip install 'slurm-power[evaluation]'"])
    if not (math.isfinite(seconds) and _LEAST_SECONDS <= seconds <= _MOST_SECONDS):
        problems.append(f"--seconds {seconds:g}: from {_LEAST_SECONDS:g} to {_MOST_SECONDS:g}")
    if record_as is not None and not _is_full_name(record_as):
        problems.append(f"--record-as {record_as!r}: write FAMILY/TIER, each {NAME_FORM}")
    if gpus is not None and record_as is None:
        problems.append("--gpus: is for the catalog; say --record-as FAMILY/TIER too")
    if problems:
        refuse(problems)
    try:
        loaded = load_task(task)
    except TaskError as error:
        refuse([str(error)])
    where = _where(tier_words, catalog_path, record_as)
    result = _evaluate(loaded, where, split, seconds, device, quiet=as_json)
    _deliver(result, where, record_as, gpus, output, as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    """The folder, the sum it must have, and what a catalog knows of the tier, if any does."""

    directory: Path
    sha256: str
    family: Family | None
    tier: Tier | None
    catalog: Path | None


def _where(words: str, catalog_path: Path | None, record_as: str | None) -> _Where:
    folder = Path(words)
    named = not (folder / "tier.json").is_file() and not folder.is_dir()
    fresh = catalog_path is not None and not catalog_path.exists() and record_as is not None and not named
    catalogs: Catalogs | None = None
    if not fresh and (named or record_as is not None):
        catalogs = load(catalog_path)
    directory, sha256, family, tier = folder, "", None, None
    if named:
        if words.startswith(("/", ".")) or words.count("/") != 1 or catalogs is None:
            refuse([f"--tier {words}: is no folder of a tier, and no FAMILY/TIER of a catalog"])
        family, tier = find_tier(catalogs, words)
        if not tier.model_path or "://" in tier.model_path:
            refuse([f"--tier {words}: its model is {tier.model_path or 'nowhere'}; a folder is needed here"])
        directory, sha256 = Path(tier.model_path), tier.sha256
    if record_as is not None:
        family_name, _, tier_name = record_as.partition("/")
        family = catalogs.catalog.families.get(family_name) if catalogs is not None else None
        tier = None if family is None else family.tier(tier_name)
    return _Where(
        directory=directory,
        sha256=sha256,
        family=family,
        tier=tier,
        catalog=_catalog_to_write(catalogs, catalog_path, family) if record_as is not None else None,
    )


def _catalog_to_write(catalogs: Catalogs | None, named: Path | None, family: Family | None) -> Path:
    """The file that was named, else the one its family stands in, else the user's own."""
    if named is not None:
        return named
    if catalogs is None:
        raise AssertionError("read where something is recorded and no file was named")
    if family is not None:
        return catalogs.file_of(family.name)
    return catalogs.files[-1]


def _evaluate(
    task: Task, where: _Where, split: str, seconds: float, device: str, *, quiet: bool
) -> "Evaluation":
    from slurm_power.tiers.building.artifact import ArtifactError, read_description  # noqa: PLC0415 - torch
    from slurm_power.tiers.building.build import use_threads  # noqa: PLC0415 - the same
    from slurm_power.tiers.evaluating.evaluation import Plan, check_device  # noqa: PLC0415 - the same
    from slurm_power.tiers.evaluating.evaluation import evaluate as run  # noqa: PLC0415 - the same
    from slurm_power.tiers.evaluating.record import check_family  # noqa: PLC0415 - the same
    from slurm_power.tiers.evaluating.refusal import EvaluateError  # noqa: PLC0415 - the same

    use_threads()
    try:
        check_device(device)
        if where.family is not None:
            told = read_description(where.directory, sha256=where.sha256)
            check_family(where.family, task, str(told.pipeline.get("sha256", "")))
        return run(
            Plan(
                task=task,
                directory=where.directory,
                sha256=where.sha256,
                split=split,
                seconds=seconds,
                device=device,
                meters=_meters(),
                say=_silent if quiet or not sys.stderr.isatty() else _say,
            )
        )
    except EvaluateError as error:
        refuse(error.problems)
    except (ArtifactError, TaskError) as error:
        refuse([str(error)])


def _meters() -> "list[EnergyMeter]":
    """powerd's account of the job that we are in, then the processors' counters, as far as they are there."""
    from slurm_power.tiers.evaluating.energy import CounterMeter, powerd_meter  # noqa: PLC0415 - loads torch

    meters: list[EnergyMeter] = []
    if (by_powerd := powerd_meter()) is not None:
        meters.append(by_powerd)
    rapl = Rapl()
    with contextlib.suppress(DeviceError):
        rapl.open()
        meters.append(CounterMeter(rapl.read_joules, DeviceError))
    return meters


def _deliver(
    result: "Evaluation",
    where: _Where,
    record_as: str | None,
    gpus: int | None,
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    """Write and print it; ends with status 1 where the tier is refused."""
    from slurm_power.cli.commands.tiers.tiers_evaluation_words import lines  # noqa: PLC0415 - loads torch
    from slurm_power.tiers.evaluating import record  # noqa: PLC0415 - the same

    notes = [*result.notes]
    if teacher := record.teacher_note(result, where.family):
        notes.append(teacher)
    family, tier = where.family, None
    if family is not None:
        family = record.completed(family, result)
    refused: tuple[str, ...] = ()
    if record_as is not None or family is not None:
        family_name, _, tier_name = (
            record_as or f"{family.name if family else ''}/{_name(where)}"
        ).partition("/")
        family = family or record.new_family(family_name, result)
        tier = record.measured_tier(tier_name, result, where.tier, gpus=gpus)
        refused = record.why_refused(family, tier)
    content = {**record.whole_document(result), "notes": notes, "refused": list(refused)}
    path = output or record.evaluation_file(result.directory.absolute())
    try:
        record.write_evaluation(path, content)
    except OSError as error:
        _fail(f"{path} cannot be written ({error.strerror}): name another place with --output")
    if record_as is not None and family is not None and tier is not None and where.catalog is not None:
        try:
            write_tier(where.catalog, family, tier)
        except CatalogError as error:
            refuse([f"{where.catalog}: {problem}" for problem in error.problems])
    if as_json:
        print_json(content)
    else:
        recorded = "" if record_as is None else f"{record_as} in {where.catalog}"
        for line in lines(result, notes, refused, path, recorded):
            click.echo(line)
    sys.exit(1 if refused else 0)


def _is_full_name(words: str) -> bool:
    family, _, tier = words.partition("/")
    return bool(NAME.fullmatch(family) and NAME.fullmatch(tier))


def _name(where: _Where) -> str:
    return where.tier.name if where.tier is not None else where.directory.name


def _fail(message: str) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(2)


def _say(text: str) -> None:
    click.echo(f"{text} ...", err=True)


def _silent(_text: str) -> None:
    pass
