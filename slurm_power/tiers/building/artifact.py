"""A tier on disk, a folder with ``model.safetensors``, ``tier.json``, ``training.jsonl``; a model from it.

Nothing that is read can run code: the model comes from the task, the weights are plain tensors, and
``tier.json`` has only numbers and words. Sums are checked before anything is made of the bytes.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from slurm_power.tiers.building.packed import PackedError, pack, unpack
from slurm_power.tiers.building.quantizers import QuantizeError
from slurm_power.tiers.building.structure import Change, StructureError, apply, resized
from slurm_power.tiers.evaluating.fingerprint import fingerprint_of
from slurm_power.tiers.model_sum import file_sha256
from slurm_power.tiers.task import Task, TaskError, full_shape, load_task

WEIGHTS, DESCRIPTION, LOG = "model.safetensors", "tier.json", "training.jsonl"
FORMAT, VERSION = "slurm-power-tier", 1
_MOST_DESCRIPTION_BYTES = 4_000_000


class ArtifactError(ValueError):
    """A tier's folder cannot be written or read; says which file and field, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What ``tier.json`` says. ``structure`` is how its model differs from a fresh one of ``shape``.

    ``pipeline`` is the fingerprint of the task's ``prepare`` when it was built.
    """

    task_spec: str
    task_name: str
    shape: Mapping[str, int | float]
    structure: Sequence[Change]
    method: str
    parent: str
    seed: int
    weights_sha256: str
    lineage: Mapping[str, Any]
    pipeline: Mapping[str, Any]


def save_tier(
    directory: Path,
    model: nn.Module,
    *,
    task_spec: str,
    shape: Mapping[str, int | float],
    method: str,
    parent: str,
    seed: int,
    lineage: Mapping[str, Any],
    structure: Sequence[Change] | None = None,
    log: Path | None = None,
    replace: bool = False,
) -> None:
    """Write a tier into a folder that comes into being whole or not at all.

    ``structure`` may be left out for float models: it is found by comparison with the task's fresh model.
    ``log`` is copied into the folder. Raises ArtifactError: the folder is there without ``replace``, it
    cannot be written, or the model is not one of the task's.
    """
    if directory.exists() and not replace:
        raise ArtifactError(f"{directory} is there already: choose another --output, or say --replace")
    task = load_task(task_spec)
    try:
        changes = list(structure) if structure is not None else resized(model, task.new_model(**shape))
        weights = safetensors.torch.save(pack(model))
    except (StructureError, PackedError) as error:
        raise ArtifactError(f"the model cannot be written: {error}") from error
    description = {
        "format": FORMAT,
        "version": VERSION,
        "task": {
            "spec": task_spec,
            "name": task.name,
            "workload": str(task.workload),
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
        },
        "method": method,
        "parent": parent,
        "seed": seed,
        "shape": dict(shape),
        "structure": changes,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "pipeline": fingerprint_of(task),
        "lineage": dict(lineage),
    }
    partial = directory.with_name(f".{directory.name}.writing")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial / WEIGHTS, weights)
        _write(partial / DESCRIPTION, (json.dumps(description, indent=2, default=str) + "\n").encode())
        _write(partial / LOG, b"" if log is None or not log.exists() else log.read_bytes())
        _put(partial, directory)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ArtifactError(f"{directory} cannot be written: {_why(error)}") from error


def read_description(directory: Path, *, sha256: str = "") -> Description:
    """Return what ``tier.json`` says, checked field by field; raises ArtifactError.

    ``sha256``: the sum of the folder as a catalog has it, checked before anything is read; empty for none.
    """
    if not directory.is_dir():
        raise ArtifactError(f"{directory} is no folder: a tier is built with `slurm-power tiers build`")
    if sha256:
        _check_sum(directory, sha256)
    path = directory / DESCRIPTION
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_MOST_DESCRIPTION_BYTES))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {_why(error)}") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is no JSON: {error}; build the tier again") from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise ArtifactError(f"{path}: format is not {FORMAT!r}: this is no tier of slurm-power's")
    if said.get("version") != VERSION:
        raise ArtifactError(
            f"{path}: version is {said.get('version')!r}, this slurm-power reads {VERSION}:"
            " build the tier again, or use the slurm-power that built it"
        )
    return _described(path, said)


def load_tier(directory: Path, task: Task, *, sha256: str = "") -> nn.Module:
    """Return a tier's model in evaluation mode, on the CPU.

    ``sha256`` is the folder's sum from a catalog; the weights are in any case held against the sum in
    ``tier.json``. Raises ArtifactError: a wrong sum, another task, an unknown version, a truncated file,
    weights that are not those of the model.
    """
    directory = Path(directory)
    described = read_description(directory, sha256=sha256)
    if described.task_name != task.name:
        raise ArtifactError(
            f"{directory / DESCRIPTION}: task is {described.task_name!r}, not {task.name!r}:"
            f" this tier was built for {described.task_spec}"
        )
    path = directory / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {_why(error)}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != described.weights_sha256:
        raise ArtifactError(
            f"{path}: its sha256 is {found[:12]}..., {DESCRIPTION} has {described.weights_sha256[:12]}...:"
            " the file is damaged or of another tier; copy or build the tier again"
        )
    return _model(path, content, described, task)


def _model(path: Path, content: bytes, described: Description, task: Task) -> nn.Module:
    try:
        weights: dict[str, Tensor] = safetensors.torch.load(content)
    except Exception as error:  # of a Rust type that is not exported everywhere
        raise ArtifactError(f"{path} is no safetensors file: {error}; build the tier again") from error
    try:
        shape = full_shape(task, described.shape)
        model = apply(task.new_model(**shape), described.structure)
        unpack(model, weights)
    except TaskError as error:
        raise ArtifactError(f"{path.with_name(DESCRIPTION)}: {error}; the task has changed since") from error
    except (StructureError, PackedError, QuantizeError) as error:
        raise ArtifactError(
            f"{path}: not the weights of the model that {described.task_spec} makes now: {error}"
        ) from error
    return model.eval()


def _described(path: Path, said: Mapping[str, Any]) -> Description:
    task = said.get("task")
    task = task if isinstance(task, dict) else {}
    fields: dict[str, tuple[object, type]] = {
        "task.spec": (task.get("spec"), str),
        "task.name": (task.get("name"), str),
        "method": (said.get("method"), str),
        "parent": (said.get("parent"), str),
        "seed": (said.get("seed"), int),
        "shape": (said.get("shape"), dict),
        "structure": (said.get("structure"), list),
        "weights_sha256": (said.get("weights_sha256"), str),
        "lineage": (said.get("lineage"), dict),
        "pipeline": (said.get("pipeline"), dict),
    }
    problems = [
        f"{name} is missing or no {kind.__name__}"
        for name, (value, kind) in fields.items()
        if type(value) is not kind
    ]
    structure = said.get("structure")
    if isinstance(structure, list) and not all(isinstance(change, dict) for change in structure):
        problems.append("structure is no list of tables")
    if problems:
        raise ArtifactError(f"{path}: " + "; ".join(problems) + "; build the tier again")
    return Description(
        task_spec=task["spec"],
        task_name=task["name"],
        shape=said["shape"],
        structure=said["structure"],
        method=said["method"],
        parent=said["parent"],
        seed=said["seed"],
        weights_sha256=said["weights_sha256"],
        lineage=said["lineage"],
        pipeline=said["pipeline"],
    )


def _check_sum(directory: Path, sha256: str) -> None:
    try:
        found = file_sha256(directory)
    except OSError as error:
        raise ArtifactError(f"{directory} cannot be read: {_why(error)}") from error
    if found != sha256.removeprefix("sha256:").lower():
        raise ArtifactError(
            f"{directory}: its sha256 is {found[:12]}..., the catalog has {sha256[:12]}...:"
            " the folder was changed or is of another tier; copy or build it again, or correct the catalog if"
            " the change was meant"
        )


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put(partial: Path, directory: Path) -> None:
    """Let a finished folder take its place; what was there goes only once the new one stands."""
    old = directory.with_name(f".{directory.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    try:
        partial.rename(directory)
    except OSError:
        if old.exists():
            old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}: free some space, or choose another --output"
    return error.strerror or str(error)
