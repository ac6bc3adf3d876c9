"""What an operator may weigh anew at run time: the prices and weights of the policy, none of its bounds."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from slurm_power.plan.policy import Policy

_NUMBERS = (
    "value_per_gpu_hour",
    "delay_price_per_gpu_hour",
    "energy_price_per_kwh",
    "ess_wear_per_kwh",
    "quality_weight",
    "flex0_weight",
    "flex1_weight",
    "flex2_weight",
    "flex3_weight",
    "fairness_ratio",
    "fairness_half_life_seconds",
    "max_user_share_ratio",
)
_ACCOUNTS = "account_weights"
# A physical ratio and the promises are not among them: nobody changes those by wishing.
WEIGHT_KEYS = (*_NUMBERS, _ACCOUNTS)
_MOST_ACCOUNTS = 1000


class WeightsError(Exception):
    """Weights that cannot be used. ``problems`` has all of them, each as ``weights.KEY: why``."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def weights_of(policy: Policy) -> dict[str, Any]:
    """The weights of a policy as plain values, by key."""
    found: dict[str, Any] = {key: getattr(policy, key) for key in _NUMBERS}
    return {**found, _ACCOUNTS: list(policy.account_weights)}


def with_weights(policy: Policy, weights: Mapping[str, Any]) -> Policy:
    """The policy with some of its weights replaced; raises WeightsError with every problem."""
    problems: list[str] = []
    given: dict[str, Any] = {}
    for key, value in weights.items():
        if key in _NUMBERS:
            if isinstance(value, bool) or not isinstance(value, int | float):
                problems.append(f"weights.{key}: must be a number, not {str(value)[:40]!r}")
            else:
                given[key] = _float(value)
        elif key == _ACCOUNTS:
            accounts = _accounts(value)
            if accounts is None:
                problems.append(f'weights.{key}: must be a list such as ["physics=2", "teaching=0.5"]')
            else:
                given[key] = accounts
        else:
            problems.append(f"weights.{str(key)[:40]}: no weight{_hint(str(key))}")
    found = replace(policy, **given)
    # Only what was given: the rest is the file's, and stands.
    problems += [f"weights.{problem}" for problem in found.problems() if problem.partition(":")[0] in given]
    if problems:
        raise WeightsError(problems)
    return found


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _accounts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list) or len(value) > _MOST_ACCOUNTS:
        return None
    return tuple(value) if all(isinstance(one, str) and len(one) <= 200 for one in value) else None


def _hint(key: str) -> str:
    near = get_close_matches(key, WEIGHT_KEYS, n=1)
    return f"; did you mean {near[0]}?" if near else f"; weights are: {', '.join(WEIGHT_KEYS)}"
