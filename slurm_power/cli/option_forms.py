"""psbatch's own options with a value: their names everywhere, the forms a user may write, the normal form.

Light on purpose: psbatch reads this on every submission, so no ``re``, and words of the model stand here
again as plain tuples; a test holds them equal to those of ``slurm_power.model.job``. A normal form is a user
form, too.
"""

from __future__ import annotations

WORKLOADS = ("training", "inference", "generation")
FLEXES = ("flex0", "flex1", "flex2", "flex3")
MOST_HOLD_SECONDS = 30 * 86_400
MOST_FINISH_SECONDS = 366 * 86_400
MOST_CAP_WATTS = 100_000

_TIME_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# Those of Slurm's --begin.
_NOW_UNITS = {"": 1, "second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_LONGEST_NUMBER = 12
_LONGEST_VALUE = 80
MOST_TIERS = 8
MOST_TIERS_CHARACTERS = 160
_MOST_DIGITS, _MOST_DECIMALS = 9, 6
_LONGEST_PART = 32
_FIRST_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_LETTERS = _FIRST_LETTERS + "._-"

HOLD_FORMS = "minutes (30), MM:SS, HH:MM:SS, D-HH[:MM[:SS]], or a number with s, m, h or d (90s, 2h)"
FINISH_FORMS = "YYYY-MM-DD[THH:MM[:SS]], HH:MM[:SS], now+N[minutes|hours|days] or @EPOCH"
CAP_FORMS = "watts per GPU: 400, 400W or 0.4kW"
TIER_FORMS = "FAMILY/TIER, each of a to z, 0 to 9, dot, dash and underscore, 32 characters at most"
TIERS_FORMS = "names of tiers with commas between them, any, or none"
QUALITY_FORMS = "a number as 0.95, with at most 9 digits before and 6 behind the point"


class NotMeantError(Exception):
    """A value that stands for nothing; the text says why, after the value."""


class Option:
    """One option. ``variable``: what the SPANK plugin reads in the environment of sbatch, srun and salloc."""

    __slots__ = ("name", "site_key", "user_variable", "variable", "words")

    def __init__(self, name: str, variable: str, words: tuple[str, ...] = ()) -> None:
        self.name = name
        self.variable = variable
        self.words = words
        self.user_variable = "PSBATCH_" + name.upper().replace("-", "_")
        self.site_key = "default_" + name.replace("-", "_")

    @property
    def forms(self) -> str:
        """What may be written, for messages."""
        if self.words:
            return "one of " + ", ".join(self.words)
        return _FORMS[self.name][0]

    def normal(self, value: str) -> str:
        """The normal form of a value; raises NotMeantError for what is none."""
        longest = MOST_TIERS_CHARACTERS if self.name == "tiers-ok" else _LONGEST_VALUE
        if len(value) > longest:
            raise NotMeantError(f"is longer than {longest} characters")
        if self.words:
            return _word(self, value)
        return _FORMS[self.name][1](value)


OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        Option("workload", "SLURM_POWER_WORKLOAD", WORKLOADS),
        Option("flex", "SLURM_POWER_FLEX", FLEXES),
        Option("max-hold", "SLURM_POWER_MAX_HOLD"),
        Option("finish-by", "SLURM_POWER_FINISH_BY"),
        Option("power-cap", "SLURM_POWER_CAP"),
        Option("tier", "SLURM_POWER_TIER"),
        Option("tiers-ok", "SLURM_POWER_TIERS_OK"),
        Option("min-quality", "SLURM_POWER_MIN_QUALITY"),
    )
}


def _word(option: Option, value: str) -> str:
    if option.name == "flex" and value in ("0", "1", "2", "3"):
        return option.words[int(value)]
    if value in option.words:
        return value
    raise NotMeantError(f"is not {option.forms}")


def max_hold(value: str) -> str:
    """Slurm's times (``30`` is minutes), or a number with a unit, as whole seconds: ``1800s``."""
    seconds = _with_unit(value)
    if seconds is None:
        seconds = slurm_time_seconds(value)
    if seconds is None:
        raise NotMeantError(f"is no time: {HOLD_FORMS}")
    if seconds > MOST_HOLD_SECONDS:
        raise NotMeantError("is more than 30 days")
    return f"{seconds}s"


def slurm_time_seconds(value: str) -> int | None:
    """Slurm's "minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours[:minutes[:seconds]]"."""
    days, dash, rest = value.partition("-")
    if not dash:
        days, rest = "0", value
    parts = rest.split(":")
    if len(parts) > 3 or not all(_is_number(part) for part in [days, *parts]):
        return None
    numbers = [int(part) for part in parts]
    if not dash and len(numbers) < 3:
        numbers = [0, *numbers, 0][:3]
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds


def _with_unit(value: str) -> int | None:
    unit = _TIME_UNITS.get(value[-1:].lower())
    return int(value[:-1]) * unit if unit is not None and _is_number(value[:-1]) else None


def finish_by(value: str, now_seconds: int | None = None) -> str:
    """A moment as Slurm's --begin takes it, or ``@EPOCH``; in the normal form ``@EPOCH``.

    Times of day and dates are local. The moment has to come, and within 366 days. ``now_seconds`` is the wall
    clock's unless given.
    """
    if now_seconds is None:
        from slurm_power import clock  # noqa: PLC0415 - 1 ms, only where a moment is given

        now_seconds = int(clock.now().timestamp())
    at = _moment(value, now_seconds)
    if at is None:
        raise NotMeantError(f"is no moment: {FINISH_FORMS}")
    if at <= now_seconds:
        raise NotMeantError("is in the past")
    if at > now_seconds + MOST_FINISH_SECONDS:
        raise NotMeantError("is more than 366 days ahead")
    return f"@{at}"


def _moment(value: str, now_seconds: int) -> int | None:
    if value.startswith("@"):
        return int(value[1:]) if _is_number(value[1:]) else None
    if value.startswith("now+"):
        return _from_now(value[4:], now_seconds)
    date, has_time, time_of_day = value.partition("T")
    if "-" not in date:
        date, time_of_day = "", date if not has_time else ""
    return _local_moment(date, time_of_day or ("0:00" if date and not has_time else ""), now_seconds)


def _from_now(text: str, now_seconds: int) -> int | None:
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = _NOW_UNITS.get(text[len(digits) :].removesuffix("s"))
    if unit is None or text[len(digits) :] == "s" or not _is_number(digits):
        return None
    return now_seconds + int(digits) * unit


def _local_moment(date: str, time_of_day: str, now_seconds: int) -> int | None:
    clock_parts = _numbers(time_of_day, ":")
    if len(clock_parts) not in (2, 3):
        return None
    hour, minute, second = [*clock_parts, 0][:3]
    if hour > 23 or minute > 59 or second > 59:
        return None
    try:
        return _on_day(date, hour, minute, second, now_seconds)
    except (OverflowError, ValueError):
        return None


def _on_day(date: str, hour: int, minute: int, second: int, now_seconds: int) -> int | None:
    import time  # noqa: PLC0415 - local time is only asked for where a moment is given

    if not date:
        today = time.localtime(now_seconds)
        day = [today.tm_year, today.tm_mon, today.tm_mday]
        at = _at(day, hour, minute, second)
        # The next such: mktime makes the first of a month of a day after its last.
        return at if at > now_seconds else _at([*day[:2], day[2] + 1], hour, minute, second)
    day = _numbers(date, "-")
    if len(day) != 3 or date.find("-") != 4 or day[0] < 1970:
        return None
    # A day that does not exist, as 30 February, would become another.
    noon = time.localtime(_at(day, 12, 0, 0))
    if [noon.tm_year, noon.tm_mon, noon.tm_mday] != day:
        return None
    return _at(day, hour, minute, second)


def _numbers(text: str, separator: str) -> list[int]:
    """The numbers between separators, none where one of them is no number."""
    parts = text.split(separator)
    return [int(part) for part in parts] if all(_is_number(part) for part in parts) else []


def _at(day: list[int], hour: int, minute: int, second: int) -> int:
    from time import mktime  # noqa: PLC0415 - as above

    return int(mktime((day[0], day[1], day[2], hour, minute, second, 0, 0, -1)))


def power_cap(value: str) -> str:
    """Watts per GPU, with W, kW or no unit, as whole watts."""
    text = value.lower()
    factor = 1000 if text.endswith("kw") else 1
    number = text.removesuffix("kw") if factor == 1000 else text.removesuffix("w")
    whole, dot, decimals = number.partition(".")
    if not _is_number(whole) or (dot and not _is_number(decimals)):
        raise NotMeantError(f"is no power: {CAP_FORMS}")
    watts = round(float(number) * factor)
    if not 1 <= watts <= MOST_CAP_WATTS:
        raise NotMeantError(f"is not between 1 W and {MOST_CAP_WATTS // 1000} kW")
    return str(watts)


def tier(value: str) -> str:
    """A tier by its full name, ``FAMILY/TIER``."""
    family, slash, name = value.partition("/")
    if not slash or not is_tier_name(family) or not is_tier_name(name):
        raise NotMeantError(f"is no tier: {TIER_FORMS}")
    return value


def tiers_ok(value: str) -> str:
    """Tiers of one family by their names, sorted, each once; ``any`` and ``none`` stand alone."""
    names = sorted(set(value.split(",")))
    if not all(is_tier_name(name) for name in names):
        raise NotMeantError(f"is no list of tiers: {TIERS_FORMS}")
    if len(names) > 1 and ("any" in names or "none" in names):
        raise NotMeantError("has other names beside any or none, which stand alone")
    if len(names) > MOST_TIERS:
        raise NotMeantError(f"has more than {MOST_TIERS} names")
    return ",".join(names)


def is_tier_name(text: str) -> bool:
    """Whether a text may be the name of a family or of a tier."""
    if not 0 < len(text) <= _LONGEST_PART or text[0] not in _FIRST_LETTERS:
        return False
    return all(letter in _LETTERS for letter in text)


def min_quality(value: str) -> str:
    """A number, without zeros that say nothing: ``0.95``. By its digits, so that no rounding is in it."""
    sign = "-" if value.startswith("-") else ""
    whole, dot, decimals = value.removeprefix("-").partition(".")
    if not _is_number(whole) or (dot and not _is_number(decimals)):
        raise NotMeantError(f"is no quality: {QUALITY_FORMS}")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    if len(whole) > _MOST_DIGITS or len(decimals) > _MOST_DECIMALS:
        raise NotMeantError(f"is no quality: {QUALITY_FORMS}")
    number = f"{whole}.{decimals}" if decimals else whole
    return number if number == "0" else sign + number


def _is_number(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_NUMBER and text.isascii() and text.isdigit()


_FORMS = {
    "max-hold": (HOLD_FORMS, max_hold),
    "finish-by": (FINISH_FORMS, finish_by),
    "power-cap": (CAP_FORMS, power_cap),
    "tier": (TIER_FORMS, tier),
    "tiers-ok": (TIERS_FORMS, tiers_ok),
    "min-quality": (QUALITY_FORMS, min_quality),
}
