"""Which flex class whose jobs have: drawn by user, so that a user's promises are the same from run to run.

The shares are of GPU-hours, not of heads: users are put in an order drawn from the seed, and the classes are
dealt along the GPU-hours of that order, the most flexible first. So a mix is met within one user's share.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping

from slurm_power.model.job import Flex

Mix = Mapping[Flex, float]
# 70 % of the GPU-hours give something, 30 % give much and may wait.
DEFAULT_MIX: Mix = {Flex.FLEX0: 0.3, Flex.FLEX1: 0.2, Flex.FLEX2: 0.2, Flex.FLEX3: 0.3}


def parse_mix(text: str) -> Mix:
    """``flex0:0.7,flex2:0.3``; shares add up to 1 (or 100). Raises ValueError with a sentence."""
    mix: dict[Flex, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition(":")
        if name not in list(Flex):
            raise ValueError(f"{name!r} is no flex class; write flex0:0.7,flex2:0.3")
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{part.strip()!r} has no share of 0 or more; write flex0:0.7,flex2:0.3")
        if Flex(name) in mix:
            raise ValueError(f"{name} is there twice")
        mix[Flex(name)] = value
    total = sum(mix.values())
    if not any(abs(total - whole) <= 1e-6 * whole for whole in (1.0, 100.0)):
        raise ValueError(f"the shares add up to {total:g}, not to 1")
    return {flex: share / total for flex, share in mix.items()}


def mix_text(mix: Mix) -> str:
    """As it is typed."""
    return ",".join(f"{flex.value}:{mix[flex]:g}" for flex in Flex if mix.get(flex, 0.0) > 0.0)


def positions(gpu_seconds: Iterable[tuple[str, float]], seed: int) -> dict[str, float]:
    """Where each user stands in the order drawn, 0 to 1 by GPU-hours; the same seed gives the same order."""
    by_user: dict[str, float] = {}
    for user, amount in gpu_seconds:
        by_user[user] = by_user.get(user, 0.0) + amount
    total = sum(by_user.values()) or 1.0
    found, before = {}, 0.0
    for user in sorted(by_user, key=lambda user: (_drawn(user, seed), user)):
        found[user] = (before + by_user[user] / 2.0) / total
        before += by_user[user]
    return found


def flex_at(position: float, mix: Mix) -> Flex:
    """The class at a place in the order; the most flexible classes come first."""
    reach = 0.0
    for flex in reversed(Flex):
        reach += mix.get(flex, 0.0)
        if position < reach:
            return flex
    return next(flex for flex in Flex if mix.get(flex, 0.0) > 0.0)


def _drawn(user: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{user}".encode()).digest()[:8])
