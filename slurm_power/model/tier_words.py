"""What a job says of model tiers, as it comes over a wire or out of a comment: read, or taken for nothing."""

import re

MOST_TIERS = 8
_PART = "[a-z0-9][a-z0-9._-]{0,31}"
_NAME = re.compile(_PART)
_FULL_NAME = re.compile(f"{_PART}/{_PART}")


def tier_of(value: object) -> str:
    """A tier's full name, ``family/tier``; empty for anything else."""
    return value if isinstance(value, str) and _FULL_NAME.fullmatch(value) else ""


def tiers_of(value: object) -> tuple[str, ...]:
    """The names of a list, or ``any`` alone; nothing unless all of it makes sense: consent is not guessed."""
    if not isinstance(value, list | tuple) or len(value) > MOST_TIERS:
        return ()
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in value):
        return ()
    names = tuple(str(name) for name in value)
    alone = len(names) == 1 and names != ("none",)
    return names if alone or {"any", "none"}.isdisjoint(names) else ()


def tiers_of_option(text: str) -> tuple[str, ...] | None:
    """What ``--tiers-ok`` says in its normal form; None for what is no such form. ``none`` is nothing."""
    if text == "none":
        return ()
    return tiers_of(text.split(",")) or None


def option_of_tiers(names: tuple[str, ...]) -> str:
    """The normal form of ``--tiers-ok``."""
    return ",".join(names) or "none"
