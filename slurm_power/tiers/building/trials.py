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

OBJECTIVES = ("multiply_adds", "cpu_seconds", "latency_seconds")
"""What may be made small beside the quality. Processor time (of a row in a batch, a proxy of energy) and
latency (of a row alone) are measured, so no two searches by them find the same."""
DEFAULT_OBJECTIVES = OBJECTIVES[:2]

_SEED_STRIDE = 10_007
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_LEAST_TO_COMPARE = 4
_REPEATED = 5
_NEVER_REACHED = 1e9


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
        """Trials that are finished, and with ``running`` those under way, too; repetitions do not count.

        Where there have been four times as many repetitions there is nothing new to find: they count.
        """
        states = (*_FINISHED, TrialState.RUNNING) if running else _FINISHED
        trials = self._study.get_trials(deepcopy=False, states=states)
        new = [trial for trial in trials if "repeats" not in trial.user_attrs]
        return max(len(new), len(trials) // _REPEATED)

    def give_up_running(self) -> None:
        """Forget the trials of processes that are gone; only for whoever holds the search alone."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)

    def run(
        self, evaluate: Callable[["Rungs", Mapping[str, int | float]], Sequence[float]]
    ) -> tuple[str, bool]:
        """Run one trial: ``evaluate`` gets its rungs and shape, returns quality and costs, or raises Pruned.

        Returns a line for the user, and whether the shape is a new one: the result of one that was tried is
        taken from there. A trial that diverges counts as pruned; any other exception ends the search with the
        trial forgotten.
        """
        number = len(self._study.get_trials(deepcopy=False, states=(*_FINISHED, TrialState.RUNNING)))
        self._study.sampler = self._sampler(number)
        trial = self._study.ask(self._space)
        if (same := self._tried(trial)) is not None:
            trial.set_user_attr("repeats", same.number)
            self._end(trial, same.user_attrs["quality"], same.values, same.state)
            return f"{words(trial.params)}: as in trial {same.number + 1}", False
        rungs = Rungs(trial, self._earlier_rungs(), self._task, self._floor)
        try:
            values = [float(value) for value in evaluate(rungs, trial.params)]
        except (Pruned, BuildError) as error:
            self._end(trial, rungs.last, None, TrialState.PRUNED)
            return f"{words(trial.params)}: {error}", True
        except BaseException:
            self._study.tell(trial, state=TrialState.FAIL)
            raise
        self._end(trial, values[0], values, TrialState.COMPLETE)
        return f"{words(trial.params)}: {self._task.metric} {values[0]:.4g}", True

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

    def _tried(self, trial: optuna.Trial) -> FrozenTrial | None:
        finished = self._study.get_trials(deepcopy=False, states=_FINISHED)
        return next((other for other in finished if other.params == trial.params), None)

    def _end(
        self, trial: optuna.Trial, quality: float, values: Sequence[float] | None, state: TrialState
    ) -> None:
        """Tell optuna how far the trial misses the floor, and what came of it."""
        missing = (self._floor - quality) * (1.0 if self._task.higher_is_better else -1.0)
        trial.set_user_attr("quality", quality)
        trial.set_constraint("floor", _NEVER_REACHED if math.isnan(missing) else missing)
        self._study.tell(trial, values, state=state)

    def _complete(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def _earlier_rungs(self) -> list[list[float]]:
        return [
            list(trial.user_attrs.get("rungs", []))
            for trial in self._study.get_trials(deepcopy=False, states=_FINISHED)
            if "repeats" not in trial.user_attrs
        ]

    def _sampler(self, number: int) -> NSGAIISampler:
        return NSGAIISampler(
            population_size=self._population,
            seed=(self._seed * _SEED_STRIDE + number) % 2**32,
        )


class Rungs:
    """Checks of a trial on its way, since optuna prunes no trial of several objectives.

    At each rung a trial ends if it is still short of the floor and worse than three quarters of the earlier
    trials were there. What keeps to the floor is never ended: it may be the lightest.
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
        if 4 * better > 3 * len(there):
            raise Pruned(f"ended at {self._task.metric} {quality:.4g}, short of the floor and the others")


def words(shape: Mapping[str, Any]) -> str:
    """A shape as a user reads it."""
    return " ".join(f"{name}={value}" for name, value in shape.items())
