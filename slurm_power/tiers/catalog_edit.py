"""Puts one tier into a catalog file: its text is changed where it has to be, comments and all else stay."""

import contextlib
import copy
import fcntl
import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slurm_power.model.tier import Family, Quality, Tier
from slurm_power.tiers.catalog_file import CatalogError, parse_catalog, read_document
from slurm_power.tiers.catalog_tier import is_address
from slurm_power.tiers.toml_text import toml_document, toml_key, toml_value

_FAMILY_MUST_AGREE = ("class", "metric", "higher_is_better")


def write_tier(path: Path, family: Family, tier: Tier) -> None:
    """Add a tier to a catalog file, or replace the one of its name; the file changes at once or not at all.

    Of the family only what the file has not yet is written: what somebody put there stays. A relative
    ``model_path`` counts from the file's folder. An approval is that of the tier given: one that was built
    anew has none. Raises CatalogError, with the file as it was, if the catalog would not be one afterwards.
    """
    path = path.resolve()
    try:
        with _locked(path):
            text, document = "", {}
            if path.exists():
                document = read_document(path)
                text = path.read_text(encoding="utf-8")
            wanted = _with_tier(document, family, tier, path.parent)
            parse_catalog(wanted, path, owner=family.owner)
            edited = _edited(text, family.name, tier.name, wanted)
            _replace(path, edited if _means(edited, wanted) else toml_document(wanted))
    except OSError as error:
        raise CatalogError([f"cannot be written: {error.strerror or error}"]) from None


def _with_tier(document: dict[str, Any], family: Family, tier: Tier, folder: Path) -> dict[str, Any]:
    """The tables as they are to be; raises CatalogError where file and family cannot be of one task."""
    wanted = copy.deepcopy(document)
    families = wanted.setdefault("family", {})
    if not isinstance(families, dict) or not isinstance(families.get(family.name, {}), dict):
        raise CatalogError([f"family.{family.name}: is no table"])
    table = families.setdefault(family.name, {})
    told = _family_table(family)
    differing = [
        f"family.{family.name}.{key}: is {toml_value(table[key])} in the file, not {toml_value(told[key])}"
        for key in _FAMILY_MUST_AGREE
        if key in table and key in told and table[key] != told[key]
    ]
    if differing:
        raise CatalogError(differing)
    for key, value in told.items():
        table.setdefault(key, value)
    tiers = table.setdefault("tier", [])
    if not isinstance(tiers, list) or not all(isinstance(one, dict) for one in tiers):
        raise CatalogError([f"family.{family.name}.tier: must be a list of tables"])
    place = next((at for at, one in enumerate(tiers) if one.get("name") == tier.name), None)
    if place is None:
        tiers.append(_tier_table(tier, folder))
    else:
        tiers[place] = _tier_table(tier, folder)
    return wanted


def _family_table(family: Family) -> dict[str, Any]:
    subgroup = {
        "by": family.subgroup_by,
        "metric": family.subgroup_metric,
        "max_drop": family.max_drop,
        "higher_is_better": family.subgroup_higher_is_better,
    }
    return _told({
        "task": family.task,
        "class": family.workload.value,
        "metric": family.metric,
        "higher_is_better": family.higher_is_better,
        "floor": family.floor,
        "data": family.data,
        "fingerprint": family.fingerprint,
        "subgroup": _told(subgroup),
    })  # fmt: skip


def _tier_table(tier: Tier, folder: Path) -> dict[str, Any]:
    return _told({
        "name": tier.name,
        "method": tier.method.value,
        "parent": tier.parent,
        "model": _relative(tier.model_path, folder),
        "sha256": tier.sha256,
        "licence": tier.licence,
        "gpus": tier.gpu_count,
        "watts_per_gpu": tier.watts_per_gpu,
        "power_source": tier.power_source.value,
        "items_per_second": tier.items_per_second,
        "joules_per_item": tier.joules_per_item,
        "latency_p50_seconds": tier.latency_p50_seconds,
        "latency_p99_seconds": tier.latency_p99_seconds,
        "memory_bytes": tier.memory_bytes,
        "model_bytes": tier.model_bytes,
        "multiply_adds": tier.multiply_adds,
        "better_than_parent": tier.better_than_parent,
        "sbatch": list(tier.sbatch),
        "environment": dict(tier.environment),
        "quality": _quality_table(tier.quality),
        "approved": _told({"by": tier.approved_by, "date": tier.approved_date}) if tier.approved_by else {},
    })  # fmt: skip


def _quality_table(quality: Quality | None) -> dict[str, Any]:
    if quality is None:
        return {}
    return _told({
        "value": quality.value,
        "ci95": quality.ci95,
        "samples": quality.sample_count,
        "worst_group": quality.worst_group,
        "worst_group_name": quality.worst_group_name,
        "on": quality.measured_on,
        "date": quality.measured_date,
        "groups": dict(quality.groups),
        "more": dict(quality.more),
    })  # fmt: skip


def _told(table: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing."""
    return {key: value for key, value in table.items() if value not in (None, "", [], {})}


def _relative(model: str, folder: Path) -> str:
    if not model or is_address(model) or not Path(model).is_relative_to(folder):
        return model
    return Path(model).relative_to(folder).as_posix()


def _edited(text: str, family: str, tier: str, wanted: dict[str, Any]) -> str:
    """The text with the tier's block changed or added, as far as headers tell where it stands."""
    table = wanted["family"][family]
    place = next(at for at, one in enumerate(table["tier"]) if one.get("name") == tier)
    headers = _headers(text)
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    own = ("family", family)
    starts = [at for at, path in headers if path == (*own, "tier")]
    new = toml_document({"family": {family: {"tier": [table["tier"][place]]}}}).splitlines(keepends=True)
    if place < len(starts):
        end = _end_of_block(lines, headers, starts[place], (*own, "tier"))
        lines[starts[place] : end] = new
    elif starts:
        end = _end_of_block(lines, headers, starts[-1], (*own, "tier"))
        lines[end:end] = ["\n", *new]
    else:
        of_family = [at for at, path in headers if path[:2] == own]
        end = _end_of_block(lines, headers, of_family[-1], own) if of_family else len(lines)
        lines[end:end] = ["\n", *new] if lines else new
    return _with_family_keys("".join(lines), family, table)


def _with_family_keys(text: str, family: str, table: dict[str, Any]) -> str:
    """The text with what the family's own table lacks right below its header."""
    own = ("family", family)
    plain = {key: value for key, value in table.items() if key != "tier"}
    start = next((at for at, path in _headers(text) if path == own), None)
    lines = text.splitlines(keepends=True)
    if start is None:
        first = next(at for at, path in _headers(text) if path[:2] == own)
        header = f"[{'.'.join(toml_key(part) for part in own)}]\n"
        lines[first:first] = [header, *_key_lines(plain), "\n"]
        return "".join(lines)
    present = tomllib.loads(text).get("family", {}).get(family, {})
    missing = {key: value for key, value in plain.items() if key not in present}
    lines[start + 1 : start + 1] = _key_lines(missing)
    return "".join(lines)


def _key_lines(table: dict[str, Any]) -> list[str]:
    return [f"{toml_key(key)} = {toml_value(value)}\n" for key, value in table.items()]


def _headers(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """The lines that look like headers, each with its path. A line within a long string may look so too."""
    found = []
    for at, line in enumerate(text.splitlines()):
        if line.lstrip().startswith("["):
            with contextlib.suppress(tomllib.TOMLDecodeError):
                found.append((at, _path(tomllib.loads(line))))
    return found


def _path(document: object) -> tuple[str, ...]:
    if isinstance(document, list):
        return _path(document[0])
    if not isinstance(document, dict) or not document:
        return ()
    name, below = next(iter(document.items()))
    return (name, *_path(below))


def _end_of_block(
    lines: list[str], headers: list[tuple[int, tuple[str, ...]]], start: int, own: tuple[str, ...]
) -> int:
    """Where what belongs to a header ends; comments and empty lines before the next one belong to that."""
    beside = (at for at, path in headers if at > start and (path == own or path[: len(own)] != own))
    end = next(beside, len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end


def _means(text: str, wanted: dict[str, Any]) -> bool:
    """Whether an edited text says what it is to say: it was changed by how it looks."""
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the only one that changes the file: the jobs of an array may all end at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    """Put a whole new file in the place of the old one, with its rights."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123 - by descriptor
            os.fchmod(descriptor, 0o644)
            if path.exists():
                before = path.stat()
                os.fchmod(descriptor, before.st_mode & 0o777)
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
