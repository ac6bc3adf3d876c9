"""Rows of data by their content: the fingerprint of a split, and rows that are in two of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slurm_power.tiers.building.ending import BuildError
from slurm_power.tiers.evaluating.fingerprint import fingerprint_of
from slurm_power.tiers.task import SPLITS, Split, Task


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The splits that a build works with, and the sums of all three by name."""

    train: Split
    validation: Split
    fingerprints: Mapping[str, str]
    rows: Mapping[str, int]


def read_data(task: Task) -> Data:
    """Read the splits of a task; raises BuildError where one is empty, not finite, or shares rows."""
    splits = {name: task.split(name) for name in SPLITS}
    problems = [f"the {name} split has no rows" for name, split in splits.items() if not len(split)]
    problems += [
        f"the {name} split has inputs that are no finite numbers"
        for name, split in splits.items()
        if split.inputs.is_floating_point() and not bool(torch.isfinite(split.inputs).all())
    ]
    pairs = (("validation", "train"), ("test", "train"), ("test", "validation"))
    for name, other in pairs:
        problems += _overlap(name, splits[name], other, splits[other])
    try:
        fingerprint_of(task)  # it is written at the end, when much work would be lost
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        problems.append(f"prepare() fails on an item of probe(): {type(error).__name__}: {error}")
    if problems:
        raise BuildError(f"task {task.name}: " + "; ".join(problems))
    return Data(
        train=splits["train"],
        validation=splits["validation"],
        fingerprints={name: fingerprint(split) for name, split in splits.items()},
        rows={name: len(split) for name, split in splits.items()},
    )


def fingerprint(split: Split) -> str:
    """Return ``sha256:`` and the sum of all rows in their order, inputs and targets."""
    total = hashlib.sha256()
    for inputs, targets in zip(_row_bytes(split.inputs), _row_bytes(split.targets), strict=True):
        total.update(hashlib.sha256(inputs + b"\0" + targets).digest())
    return f"sha256:{total.hexdigest()}"


def shared_rows(split: Split, other: Split) -> list[tuple[int, int]]:
    """Pairs of row numbers whose inputs are the same bytes, whatever their targets are."""
    there = {digest: row for row, digest in enumerate(_digests(other))}
    return [(row, there[digest]) for row, digest in enumerate(_digests(split)) if digest in there]


def _overlap(name: str, split: Split, other_name: str, other: Split) -> Sequence[str]:
    same = shared_rows(split, other)
    if same:
        mine, theirs = same[0]
        first = f"the first of them {_called(split, mine)}, there {_called(other, theirs)}"
        shared = f"{len(same)} of {len(split)} {name} rows are in the {other_name} split, too"
        return [f"{shared}, {first}: take them out of one of the two"]
    named = sorted(set(split.ids) & set(other.ids))
    if named:
        return [f"{len(named)} ids are in both {name} and {other_name}, such as {named[0]}: each row once"]
    return []


def _called(split: Split, row: int) -> str:
    return f"row {row} ({split.ids[row]})" if split.ids else f"row {row}"


def _digests(split: Split) -> list[bytes]:
    return [hashlib.blake2b(row, digest_size=16).digest() for row in _row_bytes(split.inputs)]


def _row_bytes(values: Tensor) -> list[bytes]:
    flat = values.detach().cpu().reshape(len(values), -1).contiguous().view(torch.uint8).numpy()
    return [row.tobytes() for row in flat]
