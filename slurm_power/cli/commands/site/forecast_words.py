"""A forecast in sentences: what comes, what drives it, how good such forecasts were, and who speaks."""

from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from typing import Any

from slurm_power.cli.commands.connection import Answer
from slurm_power.cli.commands.quantities import duration_text, percent_text, watts_text
from slurm_power.report.frame.axes import local_time
from slurm_power.report.live.fan import FanChart, Section

_MOST_EXPERTS = 4
_MOST_STARTS = 6
_LEAST_SHARE_RATIO = 0.05
# Below this its bands and its days of the week rest on little.
_ENOUGH_DAYS = 14.0
# Later than so many steps, a forecast does not follow what happens.
_LATE_STEPS = 3.0


def sections(answer: Answer, chart: FanChart, reach: str, zone: tzinfo | None) -> list[Section]:
    """All there is to say; the first section, without a heading, is what to expect."""
    forecast: dict[str, Any] | None = answer["forecasts"].get(reach)
    parts = [
        ("", _outlook(answer, chart, zone)),
        ("What drives it", [*_drivers(forecast), *_starts(answer, zone), *_supply(answer, reach, zone)]),
        ("How good it was lately", _score(forecast)),
        ("How it is made", [*_speaker(answer, forecast), *_worker(answer)] if chart.p50_watts else []),
    ]
    return [Section(heading=heading, lines=tuple(lines)) for heading, lines in parts if lines or not heading]


def circuit_starts(answer: Answer) -> list[dict[str, Any]]:
    """The coming starts that reach the circuit, the soonest first, those of which nobody knows when last."""
    found = [start for start in answer["starts"] if start["step_watts"].get(answer["circuit"])]
    return sorted(found, key=lambda start: (start["earliest"] is None, start["lead_seconds"] or 0.0))


def step_text(watts: float) -> str:
    """``+14.2 kW``."""
    return f"{'+' if watts >= 0 else ''}{watts_text(watts)}"


def clock_text(seconds: float, beside_seconds: float, zone: tzinfo | None) -> str:
    """``14:35``, with the day's name where it is another day."""
    at, beside = local_time(seconds, zone), local_time(beside_seconds, zone)
    return f"{at:%H:%M}" if at.date() == beside.date() else f"{at:%a %H:%M}"


def _outlook(answer: Answer, chart: FanChart, zone: tzinfo | None) -> list[str]:
    now_seconds = datetime.fromisoformat(answer["at"]).timestamp()
    near: list[float | None] = (answer["history"].get("near") or {}).get("watts") or list(chart.past_watts)
    drawn = [watts for watts in near if watts is not None]
    limit_watts = answer["limit_watts"]
    now = f"draws {watts_text(drawn[-1])}" if drawn else "draws nobody knows what"
    limit = "it has no limit" if limit_watts is None else f"its limit is {watts_text(limit_watts)}"
    lines = [f"{answer['circuit']} {now} ({answer['label']}); {limit}."]
    if not chart.p50_watts:
        wrong = "" if answer["worker"]["state"] == "running" else next(_worker(answer))
        lines.append(f"There is no forecast of {answer['circuit']} yet.")
        return [*lines, wrong or "Too little has been recorded of it so far."]
    peak = max(range(len(chart.p50_watts)), key=lambda step: chart.p50_watts[step])
    at = clock_text(chart.issued_seconds + peak * chart.step_seconds, now_seconds, zone)
    band = f"{watts_text(chart.p10_watts[peak])} to {watts_text(chart.p90_watts[peak])}"
    end = clock_text(chart.end_seconds, now_seconds, zone)
    highest, lowest = watts_text(chart.p50_watts[peak]), watts_text(min(chart.p50_watts))
    if highest == lowest:
        widest = f"{watts_text(min(chart.p10_watts))} to {watts_text(max(chart.p90_watts))}"
        lines.append(f"Steady at {highest} until {end} (80 % band {widest} at its widest).")
    else:
        lines.append(f"Highest until {end}: {highest} at {at} (80 % band {band}).")
    lines += _against_limit(chart, now_seconds, zone)
    return lines


def _against_limit(chart: FanChart, now_seconds: float, zone: tzinfo | None) -> list[str]:
    def first_above(column: Sequence[float]) -> tuple[str, float] | None:
        over = [watts - limit for watts, limit in zip(column, chart.limit_watts, strict=False)]
        first = next((step for step, excess in enumerate(over) if excess > 0.0), None)
        if first is None:
            return None
        return clock_text(chart.issued_seconds + first * chart.step_seconds, now_seconds, zone), max(over)

    if not chart.limit_watts:
        return []
    expected, unlucky = first_above(chart.p50_watts), first_above(chart.p90_watts)
    if expected is not None:
        return [f"Above the limit, first at {expected[0]}, by up to {watts_text(expected[1])}."]
    if unlucky is not None:
        return [
            f"The band reaches above the limit, first at {unlucky[0]}, by up to {watts_text(unlucky[1])}."
        ]
    return ["The band stays below the limit throughout."]


def _drivers(forecast: dict[str, Any] | None) -> list[str]:
    shares: dict[str, tuple[float, float]] = forecast["drivers"] if forecast else {}
    if not shares:
        return []

    def top(place: int) -> str:
        ranked = sorted(shares.items(), key=lambda item: -item[1][place])
        told = [(name, pair[place]) for name, pair in ranked if pair[place] >= _LEAST_SHARE_RATIO]
        return ", ".join(f"{name} {percent_text(share)}" for name, share in told[:_MOST_EXPERTS]) or "none"

    near, far = top(0), top(1)
    if near == far:
        return [f"Experts: {near}."]
    return [f"Experts at first: {near}; at the end: {far}."]


def _starts(answer: Answer, zone: tzinfo | None) -> list[str]:
    starts = circuit_starts(answer)
    lines = [_start(start, answer, zone) for start in starts[:_MOST_STARTS]]
    if len(starts) > _MOST_STARTS:
        rest = starts[_MOST_STARTS:]
        lines.append(f"and {len(rest)} more")
    return lines


def _start(start: dict[str, Any], answer: Answer, zone: tzinfo | None) -> str:
    who = ", ".join(part for part in (start["user"], start["name"], f"{start['gpu_count']} GPUs") if part)
    job = f"job {start['job_id']} ({who})" if start["job_id"] else f"another user's job ({who})"
    circuit = answer["circuit"]
    step = f"{step_text(start['step_watts'][circuit])} at {circuit}"
    at_most = "" if start["placed"] else " at most, wherever it runs,"
    lead = start["lead_seconds"]
    if start["earliest"] is None or lead is None:
        when = "nobody knows when"
    else:
        seconds = datetime.fromisoformat(start["earliest"]).timestamp()
        now_seconds = datetime.fromisoformat(answer["at"]).timestamp()
        soon = f"in {duration_text(lead)}" if lead > 0 else "any moment"
        when = f"{soon}" if lead < 3600 else f"{soon}, at {clock_text(seconds, now_seconds, zone)}"
    known = f" ({start['known_from']})" if start["known_from"] and lead is not None else ""
    massive = "Massive start: " if start["massive"] else ""
    return f"{massive}{job} {step}{at_most} {when}{known}"


def _supply(answer: Answer, reach: str, zone: tzinfo | None) -> list[str]:
    supply = (answer.get("supply") or {}).get(reach)
    forecast = answer["forecasts"].get(reach)
    if not supply or not forecast:
        return []
    now_seconds = datetime.fromisoformat(answer["at"]).timestamp()

    def clock(step: int) -> str:
        seconds = forecast["issued_seconds"] + step * forecast["step_seconds"]
        return clock_text(seconds, now_seconds, zone)

    found = []
    for key, name, unit, digits in (
        ("price_per_kwh", "price", "per kWh", 3),
        ("carbon_g_per_kwh", "carbon", "g/kWh", 0),
        ("demand_price_per_kw", "demand price", "per kW", 2),
    ):
        known = [(value, step) for step, value in enumerate(supply.get(key) or []) if value is not None]
        if not known:
            continue
        (low, low_step), (high, high_step) = min(known), max(known, key=lambda pair: pair[0])
        if low == high:
            found.append(f"{name} {low:.{digits}f} {unit}")
        else:
            lowest, highest = f"{low:.{digits}f} ({clock(low_step)})", f"{high:.{digits}f} {unit}"
            found.append(f"{name} {lowest} to {highest} ({clock(high_step)})")
    return [f"Supply: {'; '.join(found)}."] if found else []


def _score(forecast: dict[str, Any] | None) -> list[str]:
    score = forecast["score"] if forecast else None
    if not score or not score["forecasts"]:
        return ["No forecast has been judged yet: none of those that were made is over."] if forecast else []
    error, naive = score["mae_watts"], score["best_naive_mae_watts"]
    text = f"Mean error {watts_text(error)} over the last {score['forecasts']} forecasts"
    if score["best_naive"] and naive > 0:
        less = 1.0 - error / naive
        word = "less" if less >= 0 else "more"
        best = f"the best naive forecast, {score['best_naive']} ({watts_text(naive)})"
        text += f", {percent_text(abs(less))} {word} than {best}"
    lines = [f"{text}.", f"{percent_text(score['coverage_ratio'])} of outcomes inside the 80 % band."]
    bias = score["bias_watts"]
    if abs(bias) > 0.5 * error > 0:
        lines.append(f"On average it came {watts_text(abs(bias))} {'higher' if bias > 0 else 'lower'}.")
    return lines


def _speaker(answer: Answer, forecast: dict[str, Any] | None) -> Iterator[str]:
    if not forecast:
        return
    source, reason = forecast["source"], forecast["reason"].removeprefix("fall-back: ")
    if source != "blend":
        yield f"Fall-back: {reason or 'the blend has none'}, so this is the naive forecast {source}."
    elif reason:
        yield f"By the blend of experts, to be taken with care: {reason}."
    else:
        yield "By the blend of experts."
    days = forecast["history_days"]
    history = f"{days:.0f} days" if days >= 2 else duration_text(86_400.0 * days)
    young = days < _ENOUGH_DAYS and forecast["reach"] == "far"
    yield f"It rests on {history} of history{', less than two weeks: it will get better' if young else ''}."
    age = datetime.fromisoformat(answer["at"]).timestamp() - forecast["issued_seconds"]
    if age > _LATE_STEPS * forecast["step_seconds"]:
        yield f"It is {duration_text(age)} old."


def _worker(answer: Answer) -> Iterator[str]:
    """What is wrong with the worker, if anything, and what it has to say of the circuit or of all."""
    worker = answer["worker"]
    if worker["state"] != "running":
        words = {"off": "forecasts are switched off", "starting": "the forecast worker is starting"}
        state = words.get(worker["state"], f"the forecast worker is {worker['state']}")
        reason = worker["reason"]
        told = reason if reason.startswith("the forecast") else f"{state}: {reason}" if reason else state
        age = worker.get("age_seconds")
        heard = f" (last forecast {duration_text(age)} ago)" if age is not None else ""
        yield f"{told[0].upper()}{told[1:]}{heard}."
    for about, text in (worker.get("words") or {}).items():
        if not about.startswith("circuit:") or about == f"circuit:{answer['circuit']}":
            yield f"The worker says: {text}."
