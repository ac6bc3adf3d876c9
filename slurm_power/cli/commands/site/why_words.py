"""Three plain sentences about a job: what happened to it, why, and what it gained the site."""

import re
from collections.abc import Sequence
from datetime import datetime

from slurm_power.cli.commands.connection import Answer
from slurm_power.cli.commands.quantities import duration_text, energy_text, percent_text, watts_text

# What a ledger entry adds about the job itself, behind the limit it was about.
_ABOUT_THE_JOB = re.compile(r"; flex[0-3] allows .*")
_PROMISES = {
    "flex0": "flex0: nothing may be taken for money",
    "flex1": "flex1: at most 10 % slower, and held at most 10 % of its time limit",
    "flex2": "flex2: at most 25 % slower, and held at most 25 % of its time limit",
    "flex3": "flex3: at most 50 % slower, and held at most 50 % of its time limit",
}


_TIER_BEGINS = "change tier"
# What would have been done to a job by a controller that only watches.
_WOULD = {"would cap": "capped it", "would hold": "held it", "would pause": "paused it"}
_WOULD |= {"would change tier": "moved it to a lighter model tier"}


def three_sentences(job_id: str, job: Answer | None, record: Answer, entries: Sequence[Answer]) -> list[str]:
    """What happened, why, and what for.

    ``job`` is the queue's row (None: no longer there), ``record`` what is kept of it (may be empty),
    ``entries`` its ledger, oldest first.
    """
    capped = bool(record.get("capped_seconds")) or _capped(job)
    held = bool(_held_seconds(job, record))
    name = record.get("name") or (job or {}).get("name") or ""
    who = f"Job {job_id}" + (f" ({name})" if name else "")
    paused = _paused(job) or bool(record.get("paused_seconds"))
    told = (
        _held_words(job, record) if held else "",
        _moved_words(entries),
        _tier_words(entries),
        _prolog_words(entries),
        _cap_words(job, record),
        _pause_words(job, record) if paused else "",
    )
    deeds = [words for words in told if words]
    if not deeds:
        return _untouched(who, job, record, entries)
    flex = str(record.get("flex") or (job or {}).get("flex") or "")
    return [
        f"{who} {' and '.join(deeds)}.",
        _why_words(entries, capped=capped, held=held, paused=paused, job=job),
        _gain_words(record, flex),
    ]


def _held_seconds(job: Answer | None, record: Answer) -> float:
    return max(float((job or {}).get("held_seconds") or 0.0), float(record.get("held_seconds") or 0.0))


def _held_words(job: Answer | None, record: Answer) -> str:
    so_far = duration_text(_held_seconds(job, record))
    if job is not None and job["hold_ends_in_seconds"] is not None:
        left = duration_text(job["hold_ends_in_seconds"])
        return f"is kept waiting by us, for {so_far} so far and another {left} unless renewed"
    if job is not None and job["state"] == "pending":
        return f"was kept waiting by us for {so_far} in all"
    return f"was kept waiting by us for {so_far} before it started"


def _capped(job: Answer | None) -> bool:
    """Whether a cap of ours stands on it, not only one that its user asked for."""
    return job is not None and job["cap_watts"] is not None and not job.get("cap_is_own")


def _paused(job: Answer | None) -> bool:
    return job is not None and job.get("paused_seconds") is not None


def _pause_words(job: Answer | None, record: Answer) -> str:
    """How long it was stopped, its GPUs and its place kept."""
    so_far = duration_text(float(record.get("paused_seconds") or 0.0))
    if _paused(job):
        return f"is paused by us, for {so_far} so far, and keeps its GPUs"
    return f"was paused by us for {so_far} in all"


def _moved_words(entries: Sequence[Answer]) -> str:
    """Where it was told to start, and whether it still is."""
    moves = [entry["kind"] for entry in entries if entry["kind"] in ("relocate", "give nodes back")]
    if not moves:
        return ""
    if moves[-1] == "relocate":
        return "was sent by us to start behind a circuit with room"
    return "was sent by us to another circuit, and may start on any of its nodes again"


def _tier_words(entries: Sequence[Answer]) -> str:
    """Which model tier it was moved to, and how far that has come."""
    moves = [entry for entry in entries if entry["kind"] in (_TIER_BEGINS, "tier started", "tier given up")]
    begun = [place for place, entry in enumerate(moves) if entry["kind"] == _TIER_BEGINS]
    if not begun:
        return ""
    details = moves[begun[-1]].get("details") or {}
    after = [entry["kind"] for entry in moves[begun[-1] + 1 :]]
    tier, gpus = details.get("tier"), details.get("gpu_count")
    if "tier given up" in after:
        return f"was asked by us to go on with the model tier {tier}, which was given up, so it keeps its own"
    if "tier started" in after:
        return f"was moved by us to the model tier {tier} on {gpus} GPUs"
    if not details.get("running"):
        return f"was given the model tier {tier} on {gpus} GPUs by us while it waited"
    return f"is on its way to the model tier {tier} on {gpus} GPUs, asked by us"


def _prolog_words(entries: Sequence[Answer]) -> str:
    """How long its prolog waited until the ramp had room for it."""
    waits = [
        (entry.get("details") or {}).get("waited_seconds")
        for entry in entries
        if entry["kind"] == "prolog go"
    ]
    known = [float(seconds) for seconds in waits if seconds is not None]
    return f"waited {duration_text(known[-1])} in its prolog for the site's ramp" if known else ""


def _cap_words(job: Answer | None, record: Answer) -> str:
    now = _capped(job)
    seconds = float(record.get("capped_seconds") or 0.0)
    if not now and not seconds:
        return ""
    lowest = record.get("lowest_cap_watts") or (job or {}).get("cap_watts")
    lock_hertz = record.get("lowest_lock_hertz") or (job or {}).get("lock_hertz")
    done = "capped" if lock_hertz is None else f"slowed by a clock lock of {lock_hertz / 1e6:.0f} MHz"
    at_most = f"to {watts_text(lowest)} a GPU" + (" at the lowest" if seconds else "")
    if not seconds:
        slower = percent_text((job or {})["slowdown_ratio"])
        return f"is {done} {at_most}, which makes it about {slower} slower"
    slow_seconds = float(record.get("slowdown_seconds") or 0.0)
    cost = (
        f"which made it about {percent_text(slow_seconds / seconds)} slower and cost it"
        f" {duration_text(slow_seconds)}"
    )
    return f"{'has been' if now else 'was'} {done}{_when(record, now=now)} {at_most}, {cost}"


def _when(record: Answer, *, now: bool) -> str:
    """From when to when; with the time it lasted, since there may be pauses."""
    lasted = duration_text(float(record["capped_seconds"]))
    since, until = (_clock(record.get(key)) for key in ("capped_since", "capped_until"))
    if since is None or until is None:
        return f" for {lasted}"
    span = f" since {since}" if now else f" from {since} to {until}"
    return f"{span} (for {lasted} in all)"


def _clock(moment: object) -> str | None:
    if not isinstance(moment, str):
        return None
    try:
        return f"{datetime.fromisoformat(moment).astimezone():%m-%d %H:%M:%S}"
    except ValueError:
        return None


def _why_words(
    entries: Sequence[Answer], *, capped: bool, held: bool, paused: bool, job: Answer | None
) -> str:
    reasons = []
    if held:
        reasons.append(_reason(entries, "hold") or _bare((job or {}).get("hold_reason")))
    reasons.append(_reason(entries, "relocate"))
    reasons.append(_reason(entries, _TIER_BEGINS))
    reasons.append(_reason(entries, "prolog wait"))
    if capped:
        reason = _reason(entries, "cap") if _capped(job) else _main_cap_reason(entries)
        reasons.append(reason or _bare((job or {}).get("cap_reason")))
    if paused:
        reasons.append(_reason(entries, "pause") or _bare((job or {}).get("pause_reason")))
    known = list(dict.fromkeys(reason for reason in reasons if reason))
    if not known:
        return "Why: the entries that say so are no longer in the ledger."
    return f"Why: {', and '.join(known)}."


def _reason(entries: Sequence[Answer], kind: str) -> str:
    """The limit of the newest entry of a kind that says one, with who asked for it."""
    for entry in reversed(entries):
        if entry["kind"] == kind and not entry["reason"].startswith("there is room again"):
            return _bare(entry["reason"])
    return ""


def _main_cap_reason(entries: Sequence[Answer]) -> str:
    """The limit that caps took most for, now that they are over: of watts by the time until the next move."""
    taken: dict[str, float] = {}
    moves = [entry for entry in entries if entry["kind"] in ("cap", "uncap")]
    for entry, after in zip(moves, [*moves[1:], *moves[-1:]], strict=True):
        reason = _bare(entry["reason"])
        if entry["kind"] != "cap" or reason.startswith("there is room again"):
            continue
        since, until = (datetime.fromisoformat(str(move["at"])) for move in (entry, after))
        seconds = (until - since).total_seconds()
        taken[reason] = taken.get(reason, 0.0) + seconds * float(entry.get("saved_watts") or 0.0)
    # Of equals the newest.
    return max(reversed(taken), key=lambda reason: taken[reason]) if taken else ""


def _bare(reason: object) -> str:
    text = _ABOUT_THE_JOB.sub("", str(reason or "")).rstrip(". ")
    return f"its start {text}" if text.startswith("would add") else text


def _gain_words(record: Answer, flex: str) -> str:
    parts = []
    saved, delayed = (float(record.get(key) or 0.0) for key in ("saved_watt_seconds", "delayed_watt_seconds"))
    if saved:
        parts.append(
            f"took {energy_text(saved)} and up to {watts_text(record['peak_saved_watts'])} off the site"
        )
    if delayed:
        parts.append(
            f"put {energy_text(delayed)} and up to {watts_text(record['peak_delayed_watts'])} off to later"
        )
    gained = f"That {' and '.join(parts)}" if parts else "How much that took off the site was not recorded"
    promise = _PROMISES.get(flex)
    if promise is None:
        return f"{gained}."
    breached = float(record.get("breached_seconds") or 0.0)
    kept = f"was exceeded for {duration_text(breached)}, for safety only" if breached else "was kept"
    return f"{gained}; what it was promised ({promise}) {kept}."


def _untouched(who: str, job: Answer | None, record: Answer, entries: Sequence[Answer]) -> list[str]:
    state = str((job or {}).get("state") or "no longer in the queue")
    flex = str((job or {}).get("flex") or record.get("flex") or "")
    would = [entry for entry in entries if entry["kind"] in _WOULD]
    if would:
        deed = _WOULD[would[-1]["kind"]]
        return [
            f"{who} is {state}, and nothing was done to it: powerctld only watches, and would have {deed}.",
            f"Why: {_bare(would[-1]['reason'])}.",
            f"So it gained the site nothing; {watts_text(would[-1]['saved_watts'])} could have been saved.",
        ]
    return [
        f"{who} is {state}, and nothing was done to it: no cap, no hold, no pause.",
        f"Why: {_why_untouched(job, flex)}.",
        f"So it gained the site nothing and cost the job nothing{_could(flex)}.",
    ]


def _why_untouched(job: Answer | None, flex: str) -> str:
    if job is not None and job["state"] == "pending" and job["pending_reason"]:
        return f"it waits for the scheduler, which says {job['pending_reason']}, not for power"
    if flex == "flex0":
        return "it promised no flexibility, and no safety limit had to touch it"
    return "no limit needed its watts, or others' watts were cheaper to take"


def _could(flex: str) -> str:
    promise = _PROMISES.get(flex)
    return "" if promise is None else f"; what it was promised stands ({promise})"
