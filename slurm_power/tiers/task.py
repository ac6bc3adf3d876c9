"""What a user says once about a learning task, so that its tiers are built, evaluated and served alike.

Imports only the standard library: a task is loaded where torch is, but this module everywhere.
"""

from __future__ import annotations

import abc
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from slurm_power.model.job import Workload

if TYPE_CHECKING:
    from torch import Tensor, nn

SPLITS = ("train", "validation", "test")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_PIP = "pip install 'slurm-power[evaluation]'"


class TaskError(ValueError):
    """A task cannot be loaded, or says something that cannot be."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows of data: ``inputs`` as the model takes them and ``targets``, rows along the first axis of both.

    ``groups`` names the subgroup of each row where the task has subgroups, ``ids`` each row where rows have
    names. Raises TaskError where the lengths differ.
    """

    inputs: Tensor
    targets: Tensor
    groups: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.inputs)
        lengths = {
            name: len(values)
            for name, values in (("targets", self.targets), ("groups", self.groups), ("ids", self.ids))
            if name == "targets" or len(values)
        }
        wrong = [f"{count} {name}" for name, count in lengths.items() if count != rows]
        if wrong:
            raise TaskError(
                f"a split has {rows} inputs but {' and '.join(wrong)}: there must be one for each"
            )

    def __len__(self) -> int:
        return len(self.inputs)


class Task(abc.ABC):
    """A learning task: its data, its one pipeline, its models, its loss and its metric.

    ``name`` is written into each tier; ``workload`` is ``training``, ``inference`` or ``generation``;
    ``metric`` is what ``score`` measures; ``group_by`` says what ``Split.groups`` are, empty for none.
    """

    name: str = ""
    workload: str = Workload.INFERENCE.value
    metric: str = "accuracy"
    higher_is_better: bool = True
    group_by: str = ""

    @abc.abstractmethod
    def split(self, name: str) -> Split:
        """Rows of ``train``, ``validation`` or ``test``, prepared; the same rows at each call."""

    @abc.abstractmethod
    def prepare(self, raw: object) -> Tensor:
        """Turn one raw item, as a user has it, into what the model takes, in training and in serving."""

    @abc.abstractmethod
    def probe(self) -> Sequence[object]:
        """A few raw items; what ``prepare`` makes of them is the fingerprint of the pipeline."""

    @abc.abstractmethod
    def new_model(self, **shape: int | float) -> nn.Module:
        """A fresh model of that shape; what ``shape`` leaves out is as in the full model."""

    @abc.abstractmethod
    def shape(self) -> dict[str, int | float]:
        """The full model's shape: every number that ``new_model`` takes."""

    def space(self) -> Mapping[str, Sequence[int | float]]:
        """What an architecture search may choose from, by name of the number; empty for no search."""
        return {}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch; unless overridden cross entropy over the last axis."""
        from torch.nn import functional  # noqa: PLC0415 - torch is there where a task is used

        return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return one value per row whose mean, after ``of_mean``, is the metric.

        Known here: ``accuracy`` (share of right answers) and ``perplexity`` (mean of -log p of the targets).
        """
        if self.metric == "accuracy":
            right = outputs.argmax(-1) == targets
            return right.flatten(1).float().mean(1) if right.dim() > 1 else right.float()
        if self.metric == "perplexity":
            log_p = outputs.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
            return -log_p.flatten(1).mean(1) if log_p.dim() > 1 else -log_p
        raise TaskError(f"task {self.name}: override score(): the metric {self.metric} is not known here")

    def of_mean(self, mean: float) -> float:
        """Return the metric from the mean of the scores: exp for ``perplexity``, else the mean itself."""
        import math  # noqa: PLC0415 - of this one line

        return math.exp(min(mean, 700.0)) if self.metric == "perplexity" else mean

    def at_least(self, value: float, bound: float) -> bool:
        """Whether a value of the metric is as good as ``bound`` or better."""
        return value >= bound if self.higher_is_better else value <= bound


def full_shape(task: Task, chosen: Mapping[str, int | float]) -> dict[str, int | float]:
    """Return the task's shape with ``chosen`` in it; raises TaskError for names or numbers that cannot be."""
    shape = task.shape()
    problems = [
        f"shape has no {name}; it has {', '.join(sorted(shape)) or 'nothing'}"
        for name in chosen
        if name not in shape
    ]
    problems += [
        f"shape: {name} is {value!r}; it must be a number above 0"
        for name, value in chosen.items()
        if type(value) not in (int, float) or not 0 < value < float("inf")
    ]
    problems += [
        f"shape: {name} is {value!r}; it must be a whole number, such as {shape[name]}"
        for name, value in chosen.items()
        if isinstance(value, float) and isinstance(shape.get(name), int)
    ]
    if problems:
        raise TaskError(f"task {task.name}: " + "; ".join(problems))
    return {**shape, **chosen}


def load_task(spec: str) -> Task:
    """Load ``module:object`` or ``path/to/file.py:object``; raises TaskError with what to write instead.

    A task is the user's own code: this runs it.
    """
    where, colon, name = spec.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise TaskError(f"task {spec!r}: write it as module:object or path/to/file.py:object")
    module = _from_file(Path(where)) if where.endswith(".py") else _from_module(where)
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, Task):
        raise TaskError(f"task {spec!r}: {name} is a class; name an instance, such as: task = {name}()")
    if not isinstance(found, Task):
        known = sorted(key for key, value in vars(module).items() if isinstance(value, Task))
        there = (
            f"; it has {', '.join(known)}" if known else "; it has no instance of slurm_power.tiers.task.Task"
        )
        raise TaskError(f"task {spec!r}: {where} has no task named {name}{there}")
    problems = list(_problems(found))
    if problems:
        raise TaskError(f"task {spec!r}: " + "; ".join(problems))
    return found


def _problems(task: Task) -> Sequence[str]:
    found = []
    if not _NAME.fullmatch(task.name):
        found.append("name is empty or not in letters, digits and . _ / - (64 at most)")
    if task.workload not in set(Workload):
        found.append(f"workload is {task.workload!r}; it is one of {', '.join(Workload)}")
    if not task.metric:
        found.append("metric is empty: name what score() measures, such as accuracy")
    return found


def _from_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise TaskError(
                f"task module {name!r} is not there; a file is named by its path: ./{name}.py:object"
            ) from error
        raise TaskError(_without(name, error)) from error
    except Exception as error:
        raise TaskError(f"task module {name!r} fails on import: {type(error).__name__}: {error}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TaskError(f"task file {path} is not there")
    resolved = path.resolve()
    name = f"slurm_power_task_{resolved.stem}_{abs(hash(resolved)):x}"
    if name in sys.modules:
        return sys.modules[name]
    if str(resolved.parent) not in sys.path:
        sys.path.append(str(resolved.parent))  # what stands beside the file, as where Python runs it
    specification = importlib.util.spec_from_file_location(name, resolved)
    if specification is None or specification.loader is None:
        raise TaskError(f"task file {path} is no Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        if isinstance(error, ModuleNotFoundError):
            raise TaskError(_without(str(path), error)) from error
        raise TaskError(f"task file {path} fails: {type(error).__name__}: {error}") from error
    return module


def _without(where: str, error: ModuleNotFoundError) -> str:
    package = str(error.name).partition(".")[0]
    ours = package in {"torch", "numpy", "sklearn", "safetensors"}
    fix = f": {_PIP}" if ours else ", which this Python does not have"
    return f"task {where} needs {package}{fix}"
