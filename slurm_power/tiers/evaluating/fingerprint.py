"""The fingerprint of a pipeline: what ``Task.prepare`` makes of the task's probe items.

A tier trained on numbers of one pipeline and fed with those of another answers wrongly without any error
(training-serving skew). Training writes the fingerprint into ``tier.json``; evaluation and serving make it
anew and refuse to go on where it differs. Whole numbers must be the same. Of floats a few sums are kept, and
compared with a tolerance, because processors differ in the last digits.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slurm_power.tiers.task import Task

VERSION = 1
_PROJECTIONS = 8
_TOLERANCE_RATIO = 1e-4
"""Of the root mean square of an item. Processors differ by about 1e-6."""
_DIGITS = 9
_GRID, _OFF_EDGE = 16, 0.382
_SHOWN = 3

Fingerprint = dict[str, Any]


def fingerprint_of(task: Task) -> Fingerprint:
    """Return the pipeline's fingerprint as plain numbers and words, for ``tier.json``.

    ``sha256`` is a short name for it, for catalogs, coarse enough to be the same on other processors. `skew`
    is the test that counts. Errors of the task's own code come through.
    """
    items = [_item(torch.as_tensor(task.prepare(raw))) for raw in task.probe()]
    said = {"version": VERSION, "items": [_coarse(item) for item in items]}
    name = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return {"version": VERSION, "items": items, "sha256": name}


def skew(trained: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between the pipeline of a tier's training and that of now, empty for nothing."""
    if trained.get("version") != now["version"]:
        return [
            f"its fingerprint has version {trained.get('version')!r}, not {now['version']}: build it again"
        ]
    before, after = trained.get("items"), now["items"]
    if not isinstance(before, list) or not all(isinstance(item, dict) for item in before):
        return ["its fingerprint is damaged: copy or build the tier again"]
    if len(before) != len(after):
        return [f"probe() gave {len(before)} items in training and gives {len(after)} now"]
    found = [
        f"probe item {number}: {problem}"
        for number, (old, new) in enumerate(zip(before, after, strict=True), start=1)
        if (problem := _difference(old, new))
    ]
    more = len(found) - _SHOWN
    return [*found[:_SHOWN], *([f"and {more} more of {len(after)} items"] if more > 0 else [])]


def _item(made: Tensor) -> Fingerprint:
    values = made.detach().cpu()
    about: Fingerprint = {"shape": list(values.shape), "type": str(values.dtype).removeprefix("torch.")}
    if not (values.is_floating_point() or values.is_complex()):
        content = values.to(torch.int64).contiguous().numpy().astype("<i8").tobytes()
        return {**about, "content": hashlib.sha256(content).hexdigest()}
    flat = values.double().flatten()
    if not flat.numel() or not bool(torch.isfinite(flat).all()):
        return {**about, "finite": not flat.numel()}
    sums = [float((flat * signs).sum()) / math.sqrt(flat.numel()) for signs in _signs(flat.numel())]
    return {
        **about,
        "least": _rounded(float(flat.min())),
        "most": _rounded(float(flat.max())),
        "mean": _rounded(float(flat.mean())),
        "size": _rounded(float(flat.square().mean().sqrt())),
        "sums": [_rounded(one) for one in sums],
    }


def _coarse(item: Mapping[str, Any]) -> Fingerprint:
    """An item with its numbers on a grid of a sixteenth of its size; its size on one of a sixteenth octave.

    Values that tasks are fond of, such as 0, 1 and halves, are not near an edge of the grid.
    """
    if "sums" not in item:
        return dict(item)
    size = max(float(item["size"]), 1e-30)
    values = [item["least"], item["most"], item["mean"], *item["sums"]]
    return {
        "shape": item["shape"],
        "type": item["type"],
        "size": math.floor(math.log2(size) * _GRID + _OFF_EDGE),
        "values": [math.floor(float(value) / size * _GRID + _OFF_EDGE) for value in values],
    }


def _signs(count: int) -> Iterator[Tensor]:
    """Rows of +1 and -1 that no version of a library changes; any changed value changes every signed sum."""
    for row in range(_PROJECTIONS):
        drawn = bytearray(hashlib.shake_128(f"slurm-power {row}".encode()).digest(-(-count // 8)))
        octets = torch.frombuffer(drawn, dtype=torch.uint8)
        bits = (octets.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1
        yield bits.flatten()[:count].double() * 2.0 - 1.0


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between the numbers of one item, in words; empty for nothing."""
    for key, what in (("shape", "shape"), ("type", "type of number"), ("content", "content")):
        if old.get(key) != new.get(key):
            shown = "" if key == "content" else f": {old.get(key)} in training, {new.get(key)} now"
            return f"another {what}{shown}"
    if old.get("finite", True) != new.get("finite", True):
        return "finite numbers in one of the two only"
    if "sums" not in new:
        return ""
    size = max(_number(old.get("size")), _number(new["size"]), 1e-30)
    names = ("least", "most", "mean", "size")
    pairs = [(_number(old.get(name)), _number(new[name])) for name in names]
    sums = old.get("sums")
    sums = sums if isinstance(sums, Sequence) and len(sums) == len(new["sums"]) else [math.nan] * _PROJECTIONS
    pairs += [(_number(one), _number(other)) for one, other in zip(sums, new["sums"], strict=True)]
    if all(abs(one - other) <= _TOLERANCE_RATIO * size for one, other in pairs):
        return ""
    told = [
        f"{name} {one:.4g} in training, {other:.4g} now"
        for name, (one, other) in zip(names, pairs, strict=False)
        if not abs(one - other) <= _TOLERANCE_RATIO * size
    ]
    return "other numbers" + (f": {', '.join(told)}" if told else ", of the same mean and range")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
