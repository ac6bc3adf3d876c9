"""What we keep in a job's AdminComment, beside what others keep there: its user's wishes and our hold.

    {"power": {"workload": "training", "flex": "flex2", "max_hold_seconds": 1800, "finish_by": 1767225600,
               "cap_watts": 400, "tier": "digits/full", "tiers_ok": ["int8", "small"], "min_quality": 0.95,
               "hold": {"by": "slurm-power", "reason": "...", "until": "...Z", "begin": "...Z" or null}}}

``begin`` is the start time the user had asked for before our hold, ``until`` the one we wrote. Text
that is no JSON object belongs to somebody else and is never changed.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from slurm_power.model.job import Flex, Workload
from slurm_power.model.tier_words import tier_of, tiers_of

OWNER = "slurm-power"


# No promise is for longer, and no GPU draws more: what is beyond is a mistake, and promises nothing.
_MOST_HOLD_SECONDS = 30 * 86_400.0
_MOST_CAP_WATTS = 100_000.0
_LAST_EPOCH_SECONDS = 253_402_300_799.0
_MOST_QUALITY = 1e9
_TAGS_KEPT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTags:
    """What a job's user has asked for at its submission; None for what is missing or makes no sense."""

    workload: Workload | None = None
    flex: Flex | None = None
    max_hold_seconds: float | None = None
    finish_by: datetime | None = None
    own_cap_watts: float | None = None
    tier: str = ""
    tiers_ok: tuple[str, ...] = ()
    min_quality: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldNote:
    """Our hold on one job: until when, why, and the user's own begin time (None: none)."""

    until: datetime
    reason: str
    begin: datetime | None


def read_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in an AdminComment, an empty one for no text, None for foreign text."""
    if not text or text == "(null)":
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("power", {}), dict):
        return None
    return value


def tags(text: str) -> tuple[Workload | None, Flex | None]:
    """Return workload and flex class as tagged at submission, None where missing or unknown."""
    found = user_tags(text)
    return found.workload, found.flex


@lru_cache(maxsize=_TAGS_KEPT)
def user_tags(text: str) -> UserTags:
    """Return all that a job's user has asked for; many jobs of a queue have the very same text."""
    power = (read_object(text) or {}).get("power", {})
    workload, flex = power.get("workload"), power.get("flex")
    finish_by = _number(power.get("finish_by"), 1.0, _LAST_EPOCH_SECONDS)
    return UserTags(
        workload=next((known for known in Workload if known == workload), None),
        flex=next((known for known in Flex if known == flex), None),
        max_hold_seconds=_number(power.get("max_hold_seconds"), 0.0, _MOST_HOLD_SECONDS),
        finish_by=None if finish_by is None else datetime.fromtimestamp(finish_by, UTC),
        own_cap_watts=_number(power.get("cap_watts"), 1.0, _MOST_CAP_WATTS),
        tier=tier_of(power.get("tier")),
        tiers_ok=tiers_of(power.get("tiers_ok")),
        min_quality=_number(power.get("min_quality"), -_MOST_QUALITY, _MOST_QUALITY),
    )


def _number(value: object, least: float, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        return None
    return float(value)


def hold_note(text: str) -> HoldNote | None:
    """Return our hold as noted in an AdminComment, None if there is none."""
    hold = (read_object(text) or {}).get("power", {}).get("hold")
    return note_from_json(hold) if isinstance(hold, dict) and hold.get("by") == OWNER else None


def note_from_json(hold: dict[str, Any]) -> HoldNote | None:
    """Read a note back; None if it does not say until when."""
    until = _time(hold.get("until"))
    if until is None:
        return None
    return HoldNote(until=until, reason=str(hold.get("reason", "")), begin=_time(hold.get("begin")))


def note_to_json(note: HoldNote) -> dict[str, Any]:
    """Write a note as it stands in AdminComment and in our own file."""
    return {
        "by": OWNER,
        "reason": note.reason,
        "until": _text(note.until),
        "begin": None if note.begin is None else _text(note.begin),
    }


def with_hold(text: str, note: HoldNote | None) -> str | None:
    """Return the AdminComment with our hold set, or without it for None; None if the text is foreign."""
    value = read_object(text)
    if value is None:
        return None
    power = {key: entry for key, entry in value.get("power", {}).items() if key != "hold"}
    if note is not None:
        power["hold"] = note_to_json(note)
    rest = {key: entry for key, entry in value.items() if key != "power"}
    if power:
        rest["power"] = power
    return json.dumps(rest, separators=(",", ":")) if rest else ""


def with_tier(text: str, tier: str, reason: str) -> str | None:
    """Return the AdminComment with the tier we moved a job to; None if the text is foreign.

    ``tier_from`` is the one of its submission, whatever it has been moved to since.
    """
    value = read_object(text)
    if value is None:
        return None
    power = dict(value.get("power", {}))
    before = power.get("tier_from") or power.get("tier")
    power |= {"tier": tier, "tier_reason": reason}
    if before and before != tier:
        power["tier_from"] = before
    else:
        power.pop("tier_from", None)
    return json.dumps({**value, "power": power}, separators=(",", ":"))


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
