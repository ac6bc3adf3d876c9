"""Trials of an architecture search: asked of optuna, kept in a file that several processes may share."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import NSGAIISampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from slurm_power.tiers.building.ending import BuildError
from slurm_power.tiers.task import Task

OBJECTIVES = ("multiply_adds", "cpu_seconds")
"""What is made small beside the quality. Processor time is measured, so no two searches find the same."""

_SEED_STRIDE = 10_007
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_LEAST_TO_COMPARE = 4


class Pruned(Exception):  # noqa: N818 - it is no error
    """A trial is not worth more epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A finished trial. ``costs`` are in the order of the objectives asked for."""

    number: int
    shape: Mapping[str, int | float]
    quality: float
    costs: tuple[float, ...]


class Trials:
    """The trials of one search in the file ``path``; ``objectives`` are of OBJECTIVES.

    NSGA-II (Deb et al. 2002) proposes shapes; those that keep to the floor rank above those that do not. Each
    proposal is drawn from the seed and the trial's number alone, so that a search that was stopped goes on as
    it would have.
    """

    def __init__(
        self,
        path: Path,
        task: Task,
        *,
        objectives: Sequence[str],
        floor: float,
        population: int,
        seed: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._task, self._floor, self._population, self._seed = task, floor, population, seed
        self._space: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(tuple(choices)) for name, choices in task.space().items()
        }
        quality = StudyDirection.MAXIMIZE if task.higher_is_better else StudyDirection.MINIMIZE
        self._study = optuna.create_study(
            study_name="search",
            storage=JournalStorage(JournalFileBackend(str(path))),
            directions=[quality, *(StudyDirection.MINIMIZE for _ in objectives)],
            load_if_exists=True,
            sampler=self._sampler(0),
        )

    def count(self, *, running: bool) -> int:
        """Trials that are finished, and with ``running`` those under way, too."""
        states = (*_FINISHED, TrialState.RUNNING) if running else _FINISHED
        return len(self._study.get_trials(deepcopy=False, states=states))

    def give_up_running(self) -> None:
        """Forget the trials of processes that are gone; only for whoever holds the search alone."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)

    def run(self, evaluate: Callable[["Rungs", Mapping[str, int | float]], Sequence[float]]) -> str:
        """Run one trial: ``evaluate`` gets its rungs and shape, returns quality and costs, or raises Pruned.

        Returns how it went, a line for the user. A trial that diverges counts as pruned; any other exception
        ends the search with the trial forgotten.
        """
        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = self._sampler(number)
        trial = self._study.ask(self._space)
        rungs = Rungs(trial, self._earlier_rungs(), self._task, self._floor)
        try:
            values = [float(value) for value in evaluate(rungs, trial.params)]
        except (Pruned, BuildError) as error:
            trial.set_user_attr("why", str(error))
            trial.set_user_attr("quality", rungs.last)
            self._study.tell(trial, state=TrialState.PRUNED)
            return f"{words(trial.params)}: {error}"
        except BaseException:
            self._study.tell(trial, state=TrialState.FAIL)
            raise
        trial.set_user_attr("quality", values[0])
        self._study.tell(trial, values)
        return f"{words(trial.params)}: {self._task.metric} {values[0]:.4g}"

    def that_keep_the_floor(self) -> list[Trial]:
        """Complete trials whose quality is no worse than the floor, each shape once."""
        found: dict[tuple[tuple[str, Any], ...], Trial] = {}
        for trial in self._complete():
            made = Trial(
                number=trial.number,
                shape=dict(trial.params),
                quality=trial.values[0],
                costs=tuple(trial.values[1:]),
            )
            if self._task.at_least(made.quality, self._floor):
                found.setdefault(tuple(sorted(trial.params.items())), made)
        return list(found.values())

    def best_quality(self) -> float | None:
        """The best quality of all complete trials, None for no such trial."""
        values = [float(trial.values[0]) for trial in self._complete()]
        if not values:
            return None
        return max(values) if self._task.higher_is_better else min(values)

    def lines(self) -> list[dict[str, Any]]:
        """Each trial as a line of the training log."""
        return [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "shape": dict(trial.params),
                "values": trial.values if trial.state is TrialState.COMPLETE else None,
                "rungs": trial.user_attrs.get("rungs", []),
            }
            for trial in self._study.get_trials(deepcopy=False)
        ]

    def _complete(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def _earlier_rungs(self) -> list[list[float]]:
        return [
            list(trial.user_attrs.get("rungs", []))
            for trial in self._study.get_trials(deepcopy=False, states=_FINISHED)
        ]

    def _sampler(self, number: int) -> NSGAIISampler:
        return NSGAIISampler(
            population_size=self._population,
            seed=(self._seed * _SEED_STRIDE + number) % 2**32,
            constraints_func=self._violation,
        )

    def _violation(self, trial: FrozenTrial) -> tuple[float]:
        """How far a trial misses the floor, at most 0 where it keeps to it."""
        quality = trial.user_attrs.get("quality", math.nan)
        if math.isnan(quality):
            return (math.inf,)
        missing = self._floor - quality
        return (missing if self._task.higher_is_better else -missing,)


class Rungs:
    """Checks of a trial on its way, since optuna prunes no trial of several objectives.

    At each rung a trial ends if it is still short of the floor and worse than half of the earlier trials were
    there. What keeps to the floor is never ended: it may be the lightest.
    """

    def __init__(
        self, trial: optuna.Trial, earlier: Sequence[Sequence[float]], task: Task, floor: float
    ) -> None:
        self._trial, self._earlier, self._task, self._floor = trial, earlier, task, floor
        self._reached: list[float] = []

    @property
    def last(self) -> float:
        """The quality at the last rung, NaN before the first."""
        return self._reached[-1] if self._reached else math.nan

    def check(self, quality: float) -> None:
        """Note the quality at the next rung; raises Pruned."""
        rung = len(self._reached)
        self._reached.append(quality)
        self._trial.set_user_attr("rungs", self._reached)
        there = sorted(reached[rung] for reached in self._earlier if len(reached) > rung)
        if len(there) < _LEAST_TO_COMPARE or self._task.at_least(quality, self._floor):
            return
        better = sum(other != quality and self._task.at_least(other, quality) for other in there)
        if 2 * better > len(there):
            raise Pruned(f"ended at {self._task.metric} {quality:.4g}, short of the floor and the others")


def words(shape: Mapping[str, Any]) -> str:
    """A shape as a user reads it."""
    return " ".join(f"{name}={value}" for name, value in shape.items())
