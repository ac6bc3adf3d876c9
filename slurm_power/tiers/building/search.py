"""Search an architecture: many short trainings over a declared space, then the chosen one in full."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from slurm_power.model.tier import TierMethod
from slurm_power.tiers.building.build import Built, Order, Parent, deliver
from slurm_power.tiers.building.costs import cpu_seconds_per_row, latency_seconds
from slurm_power.tiers.building.distill import distillation
from slurm_power.tiers.building.ending import BuildError
from slurm_power.tiers.building.fit import Fitted, Objective, Recipe, Surroundings, fit, put, seed_everything
from slurm_power.tiers.building.rows import Data, read_data
from slurm_power.tiers.building.trials import (
    DEFAULT_OBJECTIVES,
    OBJECTIVES,
    Pruned,
    Rungs,
    Trial,
    Trials,
    words,
)
from slurm_power.tiers.building.work_folder import WorkFolder
from slurm_power.tiers.evaluating.multiply_adds import count_multiply_adds
from slurm_power.tiers.task import Task, full_shape

CHOSEN = Recipe(epochs=24, learning_rate=3e-3)
CHOICES = ("lightest", "best")
_RUNGS = 3
_ROWS = 64
_TRAINED_IN_FULL = 3


def search(
    order: Order,
    *,
    parent: Parent | None = None,
    trials: int = 20,
    trial_epochs: int = 6,
    population: int = 6,
    objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    choose: str = "lightest",
    temperature: float = 4.0,
    mixture: float = 0.7,
    shared: bool = False,
    recipe: Recipe = CHOSEN,
) -> Built | None:
    """Search ``task.space()`` for quality and low costs, and train the chosen shape with ``recipe``.

    With a ``parent`` the chosen shape is distilled from it, and shapes as heavy as it are not tried.
    ``choose``: of the trials that keep to the floor the ``lightest`` (by the first objective) or the
    ``best``; if it misses the floor when trained in full the next one is taken. A shape below the floor is
    never the result: then BuildError is raised and the trials are kept, so that more can be added.

    ``shared``: processes that run the same command share the trials; all but the last return None. Trials are
    kept in a file; a stopped search goes on with the same call, one trial is lost at most.
    """
    task = order.task
    _check(
        order,
        trials=trials,
        trial_epochs=trial_epochs,
        population=population,
        objectives=objectives,
        choose=choose,
    )
    assert order.floor is not None  # _check has seen to it
    options: dict[str, Any] = {
        "trial_epochs": trial_epochs,
        "population": population,
        "objectives": list(objectives),
        "choose": choose,
        "temperature": temperature,
        "mixture": mixture,
        "floor": order.floor,
    }
    settings = order.settings(
        "search",
        recipe,
        parent="" if parent is None else parent.sha256,
        space=dict(task.space()),
        **options,
    )
    with WorkFolder(order.output, settings, replace=order.replace, shared=shared) as work:
        data = read_data(task)
        tried = Trials(
            work.path / "study.journal",
            task,
            objectives=objectives,
            floor=order.floor,
            population=population,
            seed=order.seed,
        )
        trainer = _Trainer(order, data, parent, objectives, replace(recipe, epochs=trial_epochs))
        if not _run(order, work, tried, trainer, trials):
            order.progress.note("every trial is taken: the last process at work trains the result")
            return None
        candidates = _candidates(tried, choose, task, order.floor)

        def objective() -> Objective:
            if parent is None:
                return Objective(task)
            return distillation(
                task, parent.model, data, temperature=temperature, mixture=mixture, device=recipe.device
            )

        model, trial, fitted = _in_full(order, work, candidates, objective, data=data, recipe=recipe)
        lines = [*tried.lines(), *fitted.history]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        put(work.log, lambda path: path.write_text(text, encoding="utf-8"))
        return deliver(
            order,
            work,
            model,
            data,
            method=TierMethod.NAS,
            shape=full_shape(task, trial.shape),
            parent=parent,
            fitted=fitted,
            recipe=recipe,
            options={**options, "trials": tried.count(running=False), "chosen": asdict(trial)},
            structure=[],
        )


class _Trainer:
    """Trains one shape for a trial and says what it is worth."""

    def __init__(
        self, order: Order, data: Data, parent: Parent | None, objectives: Sequence[str], recipe: Recipe
    ) -> None:
        self._order, self._data, self._recipe, self._objectives = order, data, recipe, objectives
        self._rows = data.train.inputs[:_ROWS]
        self._most = None if parent is None else count_multiply_adds(parent.model, self._rows[:1])

    def __call__(self, rungs: Rungs, shape: Mapping[str, int | float]) -> list[float]:
        task, recipe = self._order.task, self._recipe
        seed_everything(recipe.seed)
        model = task.new_model(**full_shape(task, shape))
        weight = count_multiply_adds(model, self._rows[:1]) or 0
        if self._most is not None and weight >= self._most:
            raise Pruned(f"not tried: {weight:,} multiply-adds, its parent has {self._most:,}")
        at = {max(1, recipe.epochs * rung // _RUNGS) for rung in range(1, _RUNGS)}

        def after_epoch(epoch: int, quality: float) -> None:
            self._order.progress.step(epoch / recipe.epochs)
            if epoch in at and epoch < recipe.epochs:
                rungs.check(quality)

        fitted = fit(
            model,
            task,
            self._data,
            recipe,
            around=Surroundings(stop=self._order.stop, after_epoch=after_epoch),
        )
        costs = {"multiply_adds": float(weight)}
        if "cpu_seconds" in self._objectives:
            costs["cpu_seconds"] = cpu_seconds_per_row(model, self._rows)
        if "latency_seconds" in self._objectives:
            costs["latency_seconds"] = latency_seconds(model, self._rows)
        return [fitted.validation, *(costs[name] for name in self._objectives)]


def _run(order: Order, work: WorkFolder, tried: Trials, trainer: _Trainer, trials: int) -> bool:
    """Run trials until there are enough; False where other processes are still at the last of them."""
    if work.alone:
        tried.give_up_running()
    order.progress.begin("trial", trials, min(trials, tried.count(running=False)))
    while True:
        while tried.count(running=True) < trials:
            order.stop.check()
            said, is_new = tried.run(trainer)
            if is_new:
                order.progress.part(said)
        if work.alone:
            return True
        if not work.take_alone():
            return False
        tried.give_up_running()


def _candidates(tried: Trials, choose: str, task: Task, floor: float) -> list[Trial]:
    """Trials that keep to the floor, the one to take first."""
    found = tried.that_keep_the_floor()
    if not found:
        best = tried.best_quality()
        reached = "none was completed" if best is None else f"the best reached {best:.4g}"
        raise BuildError(
            f"no trial keeps to the floor of {floor:g} in {task.metric}, {reached}: more --trials or"
            " --trial-epochs, or a wider space() in the task; the trials so far are kept",
            keeps_work=True,
            failed=True,
        )
    sign = -1.0 if task.higher_is_better else 1.0
    if choose == "best":
        return sorted(found, key=lambda trial: (sign * trial.quality, trial.costs))
    return sorted(found, key=lambda trial: (trial.costs, sign * trial.quality))


def _in_full(
    order: Order,
    work: WorkFolder,
    candidates: Sequence[Trial],
    objective: Callable[[], Objective],
    *,
    data: Data,
    recipe: Recipe,
) -> tuple[nn.Module, Trial, Fitted]:
    """Train candidates in full until one keeps to the floor."""
    task = order.task
    assert order.floor is not None  # the search has seen to it
    reached = []
    for trial in candidates[:_TRAINED_IN_FULL]:
        order.progress.note(f"chosen: {words(trial.shape)}")
        seed_everything(recipe.seed)
        model = task.new_model(**full_shape(task, trial.shape))
        around = Surroundings(
            stop=order.stop,
            progress=order.progress,
            checkpoint=work.path / f"checkpoint-{trial.number}.pt",
        )
        fitted = fit(model, task, data, recipe, objective=objective(), around=around)
        if task.at_least(fitted.validation, order.floor):
            return model, trial, fitted
        reached.append(f"{fitted.validation:.4g}")
        order.progress.note(f"trained in full it reached {fitted.validation:.4g}: below the floor")
    raise BuildError(
        f"trained in full the chosen shapes reached {', '.join(reached)}, the floor is {order.floor:g}:"
        " more --trials, or more --epochs; the trials so far are kept",
        keeps_work=True,
        failed=True,
    )


def _check(
    order: Order, *, trials: int, trial_epochs: int, population: int, objectives: Sequence[str], choose: str
) -> None:
    task = order.task
    known, space = task.shape(), task.space()
    problems = [f"space() has {name}, which shape() does not have" for name in space if name not in known]
    problems += [f"space() has no choices for {name}" for name, choices in space.items() if not len(choices)]
    if not space:
        problems.append(f"task {task.name} declares no space(): there is nothing to search")
    if order.floor is None:
        problems.append(
            "a search needs a floor, or its lightest shape would be one that guesses: say --floor, or name a"
            " --catalog whose family has one"
        )
    if trials < 1 or trial_epochs < 1 or population < 2:
        problems.append("trials and trial epochs must be 1 or more, the population 2 or more")
    unknown = [name for name in objectives if name not in OBJECTIVES]
    if unknown or not objectives:
        problems.append(f"objectives: {', '.join(unknown) or 'none'}; known are {', '.join(OBJECTIVES)}")
    if choose not in CHOICES:
        problems.append(f"choose is {choose!r}; it is one of {', '.join(CHOICES)}")
    if problems:
        raise BuildError("; ".join(problems))
