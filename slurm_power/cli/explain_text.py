"""The power controller's answer on a job in plain lines; what it does not know is said to be unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_power.model.money import money_text, money_unit

if TYPE_CHECKING:
    from slurm_power.cli.slurms_word import SlurmsWord

_MOST_LIMITS = 3


class CannotAskError(Exception):
    """The controller gave no answer of use; the text says why."""


def sentences(request: dict[str, Any], answer: dict[str, Any], word: SlurmsWord) -> list[str]:
    """All lines; raises CannotAskError for an answer that is none."""
    try:
        expected = answer["expected"]
        if request["gpus"]:
            lines = [*_draw(request, expected), *_promise(answer, expected)]
            lines += [*_start(word), *_hold(answer), *_bills(request, answer), *_limits(answer)]
            lines += [*_classes(answer), *_policy(answer)]
        else:
            lines = ["No GPUs are asked for: its draw is unknown, and it would not be held for power."]
            lines += _start(word)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CannotAskError("the power controller's answer makes no sense") from None
    return [*lines, "Nothing was submitted."]


def _draw(request: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    mean, p95 = float(expected["expected_mean_watts"]), float(expected["expected_p95_watts"])
    jobs, gpus = int(expected["expected_jobs"]), int(request["gpus"])
    known_from = plain(str(expected["expected_known_from"]))
    whose = (
        f"known from {jobs} of {known_from}" if jobs else "the default of its class: no job like it has run"
    )
    total = f"; {_watts(mean * gpus)} on its {gpus} GPUs"
    lines = [f"It should draw about {_watts(mean)} a GPU (seldom above {_watts(p95)}){total}: {whose}."]
    if slower := float(expected.get("cap_slowdown_ratio") or 0.0):
        lines.append(
            f"Your own cap of {request.get('cap_watts')} W takes about {_percent(slower)} of its speed."
        )
    return lines


def _promise(answer: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    longest = float(answer["longest_hold_seconds"])
    what = f"It counts as {plain(str(expected['workload']))}, {plain(str(expected['flex']))}"
    if not longest:
        return [f"{what}: it is never held to save power."]
    return [f"{what}: it may be held for up to {_time(longest)}."]


def _start(word: SlurmsWord) -> list[str]:
    if word.starts_at is not None:
        return [f"Slurm expects it to start at {word.starts_at}."]
    return [f"Slurm does not say when it would start: {plain(word.text) or 'no reason given'}."]


def _hold(answer: dict[str, Any]) -> list[str]:
    if not answer["held"]:
        return ["It would not be held for power now."]
    reason = plain(str(answer.get("hold_reason", "")))
    longest = _time(float(answer["longest_hold_seconds"]))
    return [f"It would be held for power now, so it starts up to {longest} later: {reason}."]


def _bills(request: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    lines = []
    run = answer.get("run")
    if run is not None:
        whose = f"{run['own_jobs']} of your jobs" if run["own_jobs"] else "others' jobs"
        between = (
            f"80 % of such jobs: {_time(float(run['p10_seconds']))} to {_time(float(run['p90_seconds']))}"
        )
        said = _bill(answer["expected_bill"], _currency(answer))
        lines.append(
            f"It should run for {_time(float(run['seconds']))} ({between}; known from {whose}): {said}."
        )
    elif "time_limit_seconds" in request:
        lines.append("How long it should run is unknown: too few jobs have ended.")
    if answer.get("limit_bill") is not None and "time_limit_seconds" in request:
        limit = _time(float(request["time_limit_seconds"]))
        lines.append(f"Up to its time limit of {limit}: {_bill(answer['limit_bill'], _currency(answer))}.")
    else:
        lines.append("Energy and cost are unknown without a time limit (--time).")
    return lines


def _bill(row: dict[str, Any], currency: str) -> str:
    cost = "cost unknown" if row["cost"] is None else f"cost {money_text(float(row['cost']), currency)}"
    carbon = "CO2 unknown" if row["carbon_kg"] is None else f"{_number(float(row['carbon_kg']))} kg of CO2"
    return f"{_kwh(float(row['energy_kwh']))} at the grid connection, {cost}, {carbon}"


def _limits(answer: dict[str, Any]) -> list[str]:
    rows = []
    for row in list(answer.get("limits") or [])[:_MOST_LIMITS]:
        room = row["room_watts"]
        left = (
            "no bound for new jobs" if room is None else f"{_watts(max(0.0, float(room)))} free for new jobs"
        )
        rows.append(f"{plain(str(row['circuit']))} {_watts(float(row['limit_watts']))}, {left}")
    return [f"Limits now: {'; '.join(rows)}."] if rows else []


def _classes(answer: dict[str, Any]) -> list[str]:
    rows = list(answer.get("flex_classes") or [])
    if not rows:
        return []
    unit = f", savings in {money_unit(_currency(answer))}"
    seen = "the expected run" if answer.get("run") is not None else "the whole time limit"
    lines = [f"What each flex class would mean, over {seen}{unit} (unknown: ?):"]
    table = [("", "held at most", "slower at most", "gives way by", "a hold may save", "caps may save")]
    for row in rows:
        saved = _amount(row["hold_saves_cost"])
        if row["hold_saves_carbon_kg"] is not None:
            saved += f", {_number(float(row['hold_saves_carbon_kg']))} kg"
        table.append(
            (
                plain(str(row["flex"])),
                _time(float(row["longest_hold_seconds"])),
                _percent(float(row["most_slowdown_ratio"])),
                "?" if row["room_watts"] is None else _watts(float(row["room_watts"])),
                saved,
                _amount(row["cap_saves_cost"]),
            )
        )
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return lines + [
        "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _policy(answer: dict[str, Any]) -> list[str]:
    """The site's rules for such a job, and where its user may appeal; nothing where none are told."""
    told = answer.get("policy")
    if not isinstance(told, dict) or not told.get("lines"):
        return []
    lines = ["What the site's policy says of such a job (slurm-power policy has all of it):"]
    lines += [f"  {plain(str(line))}" for line in told["lines"]]
    if told.get("mode") != "control":
        until = f" until {plain(str(told['paused_until']))}" if told.get("paused_until") else ""
        lines.append(f"  The control is off{until}: nothing is touched now.")
    who = plain(str(told.get("contact") or told.get("owner") or ""))
    where = " ".join(
        [
            'Appeals: slurm-power appeal JOB --text "...".',
            *([plain(str(told["appeals"]))] if told.get("appeals") else []),
            *([f"Who answers for the policy: {who}."] if who else []),
        ]
    )
    return [*lines, where]


def _currency(answer: dict[str, Any]) -> str:
    """What the site's prices count; an older powerctld does not say."""
    return plain(str(answer.get("currency") or ""))


def _amount(value: Any) -> str:
    return "?" if value is None else _number(float(value))


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0.0 else f"{value:.1g}"


def _percent(ratio: float) -> str:
    return f"{100.0 * ratio:.0f} %"


def _watts(watts: float) -> str:
    return f"{watts:.0f} W" if watts < 1000.0 else f"{watts / 1000.0:.1f} kW"


def _kwh(kwh: float) -> str:
    return f"{kwh:.2f} kWh" if kwh < 10.0 else f"{kwh:.0f} kWh"


def _time(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * size or seconds == size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"


def plain(text: str) -> str:
    """What others have named cannot move the terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
