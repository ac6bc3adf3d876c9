"""Quality by subgroup: each with its interval, and the one that fares worst."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.tiers.evaluating.intervals import Estimate, Scores, estimate
from slurm_power.tiers.evaluating.refusal import EvaluateError

ENOUGH_ROWS = 20
"""Below that an interval is wider than any drop worth refusing: of 19 right out of 20 it is 0.76 to 0.99."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One subgroup. ``judged`` is what it counts for: its value, or of few rows the kind end."""

    name: str
    estimate: Estimate
    judged: float

    @property
    def enough(self) -> bool:
        """Whether it has rows enough for its value to say something."""
        return self.estimate.count >= ENOUGH_ROWS

    @property
    def catalog_name(self) -> str:
        """What a catalog calls it; the name says so where the number beside it is a bound, not a value."""
        return self.name if self.enough else f"{self.name} (at best, of {self.estimate.count} rows)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """All subgroups, the worst first."""

    by: str
    metric: str
    groups: tuple[Group, ...]

    @property
    def worst(self) -> Group:
        """The one whose judged value is the worst."""
        return self.groups[0]


def measure_groups(
    scores: Scores,
    names: Sequence[str],
    of_mean: Callable[[float], float],
    *,
    by: str,
    metric: str,
    higher_is_better: bool,
) -> Groups:
    """Return the metric by subgroup; raises EvaluateError for fewer than two subgroups.

    A subgroup below ``ENOUGH_ROWS`` cannot be told from chance: it is judged by the kind end of its interval.
    So a few unlucky rows refuse no tier, while a subgroup that is lost altogether still does.
    """
    if len(set(names)) < 2:
        raise EvaluateError(
            f"groups: all {len(names)} rows are of the {by} {names[0]!r}: there must be two or more to"
            " compare, or none (leave Split.groups empty)"
        )
    frame = importlib.import_module("fairlearn.metrics").MetricFrame(
        metrics={"mean": _mean, "count": _count},
        y_true=scores,
        y_pred=scores,
        sensitive_features=np.asarray(names, dtype=object),
    )
    found = []
    for name, mean in frame.by_group["mean"].items():
        own = scores[np.asarray([one == name for one in names])]
        measured = estimate(own, of_mean)
        value = of_mean(float(mean))
        judged = value if len(own) >= ENOUGH_ROWS else measured.kind_end(higher_is_better=higher_is_better)
        found.append(Group(name=str(name), estimate=measured, judged=judged))
    found.sort(key=lambda group: (group.judged if higher_is_better else -group.judged, group.name))
    return Groups(by=by, metric=metric, groups=tuple(found))


def _mean(_true: Scores, predicted: Scores) -> float:
    return float(np.mean(predicted))


def _count(_true: Scores, predicted: Scores) -> int:
    return len(predicted)
