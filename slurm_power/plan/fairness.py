"""What users and accounts have lost to us, and how that makes touching them again dearer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from slurm_power.plan.policy import Policy

# Somebody's first capped seconds are no debt yet: an hour of one GPU is added to what was had.
_FIRST_GPU_SECONDS = 3600.0
# A loss this small is noise: it makes nobody dearer by much.
_QUIET_RATIO = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """GPU-seconds that somebody's jobs have lost to us (slowed, or made to wait), and had (used or waited).

    A second of waiting counts as much of a lost one as its price is of a GPU-hour's value.
    """

    lost_gpu_seconds: float = 0.0
    had_gpu_seconds: float = 0.0

    @property
    def ratio(self) -> float:
        """The share lost (an hour of one GPU is added to what was had); a big user's is not larger for it."""
        return self.lost_gpu_seconds / (self.had_gpu_seconds + _FIRST_GPU_SECONDS)

    def after(self, seconds: float, half_life_seconds: float) -> "Debt":
        """What is left of it after ``seconds``: half after each half-life."""
        left = 0.5 ** (seconds / half_life_seconds)
        return Debt(
            lost_gpu_seconds=self.lost_gpu_seconds * left, had_gpu_seconds=self.had_gpu_seconds * left
        )

    def plus(self, *, lost_gpu_seconds: float, had_gpu_seconds: float) -> "Debt":
        """The debt with what has just been lost and had."""
        return Debt(
            lost_gpu_seconds=self.lost_gpu_seconds + lost_gpu_seconds,
            had_gpu_seconds=self.had_gpu_seconds + had_gpu_seconds,
        )


def debt_factors(debts: Mapping[str, float], policy: Policy) -> dict[str, float]:
    """What each one's work counts more for what they have lost: from 1 to 1 + ``fairness_ratio``.

    Half of the way is reached by who has lost as much as the mean of all (and 1 % on top, so that traces
    of losses move nothing): what counts is who has lost more than others, not how much there was to lose.
    """
    if not debts:
        return {}
    middle = _QUIET_RATIO + sum(debts.values()) / len(debts)
    return {name: 1.0 + policy.fairness_ratio * debt / (debt + middle) for name, debt in debts.items()}


def jain_index(values: Iterable[float]) -> float:
    """Jain's index of what each one kept: 1.0 is all alike, 1/n is all with one.

    ``(sum x)^2 / (n sum x^2)`` (Jain, Chiu and Hawe, 1984); 1.0 where nobody had anything.
    """
    found = list(values)
    squares = sum(value * value for value in found)
    return sum(found) ** 2 / (len(found) * squares) if squares > 0.0 else 1.0
