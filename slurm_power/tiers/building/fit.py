"""The one training loop: every method trains, tunes and resumes through it.

The same seed gives the same weights on the same machine with as many threads, stopped in between or not: the
order of the rows and torch's own random numbers are drawn anew from the seed at each epoch.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slurm_power.tiers.building.ending import BuildError, StopWish
from slurm_power.tiers.building.progress import Progress, Silent
from slurm_power.tiers.building.rows import Data
from slurm_power.tiers.task import Split, Task

_SEED_STRIDE = 1_000_003
_SCORED_ROWS = 256
_WARM_UP_RATIO = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train: AdamW with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101).

    The learning rate rises for the first tenth of all steps and falls to zero by half a cosine.
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value}; it must be {wanted}"
            for name, value, wanted, right in (
                ("epochs", self.epochs, "1 or more", self.epochs >= 1),
                ("batch size", self.batch_size, "1 or more", self.batch_size >= 1),
                ("learning rate", self.learning_rate, "above 0", 0 < self.learning_rate < math.inf),
                ("weight decay", self.weight_decay, "0 or more", 0 <= self.weight_decay < math.inf),
                ("seed", self.seed, "0 or more and below 2^32", 0 <= self.seed < 2**32),
            )
            if not right
        ]
        problems += _device_problems(self.device)
        if problems:
            raise BuildError("; ".join(problems))


def _device_problems(name: str) -> list[str]:
    try:
        kind = torch.device(name).type
    except RuntimeError:
        return [f"device is {name!r}; it is cpu, or cuda with or without a number"]
    if kind == "cuda" and not torch.cuda.is_available():
        return [f"device is {name!r}, but torch finds no GPU here: --device cpu"]
    return []


class Objective(nn.Module):
    """What is made small. This one is the task's own loss; ``rows`` are the numbers of the batch's rows."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, model: nn.Module, rows: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002 - of others
        """Return the mean loss of a batch."""
        return self.task.loss(model(inputs), targets)


@dataclass(slots=True, kw_only=True)
class Fitted:
    """How training went: the metric on the validation rows after the epoch that was kept, and all epochs."""

    validation: float = math.nan
    kept_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a fit has around it. ``checkpoint`` and ``log`` are files, None for none.

    ``after_epoch`` gets the number of the epoch that ended, from 1, and the metric; it may raise to end.
    """

    stop: StopWish = field(default_factory=StopWish)
    progress: Progress = field(default_factory=Silent)
    checkpoint: Path | None = None
    log: Path | None = None
    after_epoch: Callable[[int, float], None] | None = None


def seed_everything(seed: int, epoch: int = 0) -> torch.Generator:
    """Seed torch's own random numbers for one epoch, and return a generator for the order of the rows."""
    mixed = (seed * _SEED_STRIDE + epoch) % 2**63
    torch.manual_seed(mixed)
    return torch.Generator().manual_seed(mixed)


def fit(
    model: nn.Module,
    task: Task,
    data: Data,
    recipe: Recipe,
    *,
    objective: Objective | None = None,
    around: Surroundings | None = None,
) -> Fitted:
    """Train a model in place and leave it with the weights of its best epoch on the validation rows.

    Goes on from ``around.checkpoint`` where there is one. Raises BuildError at the first loss that is no
    finite number, Stopped after a signal: at most the epoch under way is lost.
    """
    around = around or Surroundings()
    objective = (objective or Objective(task)).to(recipe.device)
    model.to(recipe.device)
    parameters = [*model.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    state = _State(model=model, objective=objective, optimizer=optimizer)
    if around.checkpoint is not None and around.checkpoint.exists():
        state.resume(around.checkpoint)
        around.progress.note(f"goes on after epoch {state.epoch} of {recipe.epochs}")
    around.progress.begin("epoch", recipe.epochs, state.epoch)
    for epoch in range(state.epoch + 1, recipe.epochs + 1):
        started = time.process_time()
        loss = _epoch(data.train, recipe, state, around, epoch=epoch, task=task)
        metric = validate(model, task, data.validation, device=recipe.device)
        state.end_epoch(
            task,
            metric,
            {
                "epoch": epoch,
                "loss": loss,
                "validation": metric,
                "learning_rate": _learning_rate(
                    recipe, epoch * math.ceil(len(data.train) / recipe.batch_size), data.train
                ),
                "cpu_seconds": round(time.process_time() - started, 3),
            },
        )
        state.save(around)
        around.progress.part(f"loss {loss:.4g}, validation {task.metric} {metric:.4g}")
        if around.after_epoch is not None:
            around.after_epoch(epoch, metric)
        around.stop.check()
    model.load_state_dict(state.best)
    model.to("cpu").eval()
    return state.fitted


def validate(model: nn.Module, task: Task, split: Split, *, device: str = "cpu") -> float:
    """Return the task's metric over a split, with the model in evaluation mode."""
    model.eval()
    total, rows = 0.0, 0
    with torch.inference_mode():
        for first in range(0, len(split), _SCORED_ROWS):
            inputs = split.inputs[first : first + _SCORED_ROWS].to(device)
            targets = split.targets[first : first + _SCORED_ROWS].to(device)
            scores = task.score(model(inputs), targets)
            total += float(scores.double().sum())
            rows += len(inputs)
    return task.of_mean(total / rows)


class _State:
    """What a checkpoint holds."""

    def __init__(self, *, model: nn.Module, objective: Objective, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.epoch = 0
        self.fitted = Fitted()
        self.best: dict[str, Tensor] = {}

    def end_epoch(self, task: Task, metric: float, line: dict[str, Any]) -> None:
        self.epoch += 1
        self.fitted.history.append(line)
        before = self.fitted.validation
        if math.isnan(before) or task.at_least(metric, before):  # of equals the later: its rate was lower
            self.fitted.validation, self.fitted.kept_epoch = metric, self.epoch
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def save(self, around: Surroundings) -> None:
        """Write checkpoint and log, each whole or not at all."""
        if around.log is not None:
            lines = "".join(json.dumps(line) + "\n" for line in self.fitted.history)
            put(around.log, lambda path: path.write_text(lines, encoding="utf-8"))
        if around.checkpoint is not None:
            content = {
                "epoch": self.epoch,
                "fitted": asdict(self.fitted),
                "best": self.best,
                "model": self.model.state_dict(),
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            put(around.checkpoint, lambda path: torch.save(content, path))

    def resume(self, checkpoint: Path) -> None:
        try:
            content = torch.load(checkpoint, weights_only=True, map_location="cpu")
            self.model.load_state_dict(content["model"])
            self.objective.load_state_dict(content["objective"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.epoch, self.best = content["epoch"], content["best"]
            self.fitted = Fitted(**content["fitted"])
        except Exception as error:
            raise BuildError(
                f"{checkpoint} cannot be gone on from ({type(error).__name__}: {error}):"
                f" remove {checkpoint.parent} to begin again",
                keeps_work=True,
            ) from error


def put(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``path`` and put it there once it is whole."""
    partial = path.with_name(f".{path.name}.new")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _epoch(
    split: Split, recipe: Recipe, state: _State, around: Surroundings, *, epoch: int, task: Task
) -> float:
    generator = seed_everything(recipe.seed, epoch)
    order = torch.randperm(len(split), generator=generator)
    state.model.train()
    total, batches = 0.0, _batches(order, recipe.batch_size)
    for number, rows in enumerate(batches):
        around.stop.check()
        step = (epoch - 1) * len(batches) + number
        rate = _learning_rate(recipe, step, split)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = split.inputs[rows].to(recipe.device), split.targets[rows].to(recipe.device)
        loss = state.objective(state.model, rows, inputs, targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise BuildError(
                f"task {task.name}: the loss is {value} at step {step + 1} (epoch {epoch}) with a learning"
                f" rate of {rate:.3g}: try a lower --learning-rate, and look for wild numbers in the data",
                failed=True,
            )
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        total += value * len(rows)
        around.progress.step((number + 1) / len(batches))
    return total / len(split)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Batches of rows; a last one of a single row goes into the one before it, because of batch norms."""
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _learning_rate(recipe: Recipe, step: int, split: Split) -> float:
    total = recipe.epochs * math.ceil(len(split) / recipe.batch_size)
    warm_up = max(1.0, _WARM_UP_RATIO * total)
    if step < warm_up:
        return recipe.learning_rate * (step + 1) / (warm_up + 1)
    through = min(1.0, (step - warm_up) / max(1.0, total - warm_up))
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * through))
