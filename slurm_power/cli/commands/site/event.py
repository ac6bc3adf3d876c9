"""``slurm-power event``, ``cancel-event`` and ``yield``: what operators tell the controller."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from slurm_power import clock
from slurm_power.cli.commands.connection import Answer, ask, json_option, print_json, socket_option
from slurm_power.cli.commands.quantities import Duration, Watts, duration_text, percent_text, watts_text


@click.command()
@click.argument("circuit")
@click.option("--limit-watts", "limit_text", help="The most it may draw: 9000, 9kW, 1.2MW.")
@click.option("--cut", "cut_text", help="Or how much less than its load before: 25%, 40kW.")
@click.option("--for", "duration_text_given", help="How long: 10m, 2h, ...")
@click.option("--until", "until_text", help="Or when it ends: 2026-01-02T19:00 (local time, or with +01:00).")
@click.option("--in", "start_text", help="When it begins: in 5m, ... (default: now)")
@click.option("--at", "at_text", help="Or at which time, written as for --until.")
@click.option("--ramp", "ramp_text", help="Slide down in this time, to be there at the start: 10m.")
@click.option("--recover", "recover_text", help="Slide up in this time after the end (default: by policy).")
@click.option(
    "--must", is_flag=True, help="Promised: steered with a margin, told ahead if it fails (default)."
)
@click.option("--best-effort", is_flag=True, help="As far as it goes: no margin, nothing told ahead.")
@click.option(
    "--baseline",
    "method",
    type=click.Choice(["notice", "start"]),
    default=None,
    help="Its load before is the mean before this notice (default), or before the start.",
)
@click.option("--reason", help="Why, in words users will read.")
@socket_option
@json_option
def event(  # noqa: PLR0917 - click passes each option by its name
    circuit: str,
    limit_text: str | None,
    cut_text: str | None,
    duration_text_given: str | None,
    until_text: str | None,
    start_text: str | None,
    at_text: str | None,
    ramp_text: str | None,
    recover_text: str | None,
    must: bool,
    best_effort: bool,
    method: str | None,
    reason: str | None,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Lower the limit of CIRCUIT for a while.

    The level is a number of watts, or a cut below the load before. It holds from start to end; docs/events.md
    says what happens before and after.
    """
    options = _Options()
    now = clock.now()
    limit_watts = options.watts("--limit-watts", limit_text)
    cut = options.cut(cut_text)
    if (limit_text is None) == (cut_text is None):
        options.problems.append("--limit-watts or --cut: give one of them")
    start_seconds = options.moment("--in", start_text, "--at", at_text, now)
    end_seconds = options.moment("--for", duration_text_given, "--until", until_text, now)
    if duration_text_given is None and until_text is None:
        options.problems.append("--for: missing; every event has an end, say how long or --until when")
    ramp_seconds = options.seconds("--ramp", ramp_text)
    recover_seconds = options.seconds("--recover", recover_text)
    if must and best_effort:
        options.problems.append("--must and --best-effort: give one of them")
    if not (reason or "").strip():
        options.problems.append("--reason: missing; it is what users will read")
    from_seconds = start_seconds or 0.0
    length_seconds = end_seconds or 0.0
    if until_text is not None and end_seconds is not None:
        length_seconds = end_seconds - from_seconds
        if length_seconds <= 0.0:
            options.problems.append("--until: lies before the start")
    options.refuse()
    request: dict[str, Any] = {"op": "event", "circuit": circuit}
    request |= cut if limit_watts is None else {"limit_watts": limit_watts}
    request |= {"start_in_seconds": from_seconds, "duration_seconds": length_seconds, "reason": reason}
    more = {
        "ramp_seconds": ramp_seconds,
        "recover_seconds": recover_seconds,
        "commitment": "best-effort" if best_effort else "must" if must else None,
        "baseline": method,
    }
    answer = ask(request | {key: value for key, value in more.items() if value is not None}, socket_path)
    level_watts = answer.get("limit_watts", limit_watts)
    start = f"from in {duration_text(from_seconds)}" if from_seconds else "from now"
    text = f"{circuit}: at most {watts_text(level_watts)} {start} for {duration_text(length_seconds)}"
    lines = [f"event {answer.get('event_id')}: {text}", *_more_lines(answer, cut, ramp_seconds)]
    _report(answer, "\n".join(lines), as_json=as_json)


def _more_lines(answer: Answer, cut: dict[str, float], ramp_seconds: float | None) -> list[str]:
    """What an operator should see of an event beyond what was typed."""
    lines = []
    if cut and answer.get("baseline_watts") is not None:
        taken = percent_text(cut["cut_ratio"]) if "cut_ratio" in cut else watts_text(cut["cut_watts"])
        before, seen = watts_text(answer["baseline_watts"]), duration_text(answer["baseline_seconds"])
        lines.append(f"  {taken} below {before}, the mean metered load of the last {seen}")
    if ramp_seconds and answer.get("starts_in_seconds") is not None:
        due = answer["starts_in_seconds"]
        lines.append(
            f"  its level is reached in {duration_text(due)}, after a ramp of "
            f"{duration_text(answer['ramp_seconds'])}"
        )
    short = answer.get("shortfall")
    if short:
        starts = duration_text(short["from_seconds"])
        lines.append(
            f"  {watts_text(short['watts'])} will be missing, from in {starts} on: {short['reason']}"
        )
    return lines


@dataclass(slots=True)
class _Options:
    """Reads what was typed; all that is wrong is said at once."""

    problems: list[str] = field(default_factory=list)

    def seconds(self, option: str, text: str | None) -> float | None:
        """A duration in seconds."""
        return self._converted(Duration(), option, text)

    def watts(self, option: str, text: str | None) -> float | None:
        """An amount of power in watts."""
        return self._converted(Watts(), option, text)

    def _converted(self, kind: click.ParamType[float], option: str, text: str | None) -> float | None:
        if text is None:
            return None
        try:
            return kind.convert(text, None, None)
        except click.BadParameter as error:
            self.problems.append(f"{option}: {error.message}")
            return None

    def cut(self, text: str | None) -> dict[str, float]:
        """A cut as the request says it: a share or watts; empty without one."""
        if text is None:
            return {}
        share = text.strip().removesuffix("%")
        if share == text.strip():
            watts = self.watts("--cut", text)
            return {} if watts is None else {"cut_watts": watts}
        try:
            ratio = float(share) / 100.0
        except ValueError:
            ratio = -1.0
        if 0.0 < ratio <= 1.0:
            return {"cut_ratio": ratio}
        self.problems.append(f"--cut: {text!r} is no share; write 25%, above 0 and at most 100%, or 40kW")
        return {}

    def moment(
        self, option: str, text: str | None, at_option: str, at_text: str | None, now: datetime
    ) -> float | None:
        """Seconds from now, given as a duration or as a time of day."""
        if text is not None and at_text is not None:
            self.problems.append(f"{option} and {at_option}: give one of them")
        if at_text is None:
            return self.seconds(option, text)
        try:
            at = datetime.fromisoformat(at_text)
        except ValueError:
            self.problems.append(f"{at_option}: {at_text!r} is no time; write 2026-01-02T19:00")
            return None
        seconds = (at.astimezone(UTC) - now).total_seconds()
        if seconds < 0.0:
            self.problems.append(f"{at_option}: {at_text} has passed")
            return None
        return seconds

    def refuse(self) -> None:
        """Raise click.UsageError with all problems, if there are any."""
        if self.problems:
            raise click.UsageError("\n       ".join(self.problems))


@click.command("cancel-event")
@click.argument("event_id")
@click.option("--recover", is_flag=True, help="Let the limit rise as at its end, instead of all at once.")
@socket_option
@json_option
def cancel_event(event_id: str, recover: bool, socket_path: Path | None, as_json: bool) -> None:
    """End event EVENT_ID now."""
    request: dict[str, Any] = {"op": "cancel_event", "event_id": event_id}
    answer = ask({**request, "recover": True} if recover else request, socket_path)
    _report(answer, f"event {event_id} is over", as_json=as_json)


@click.command("yield")
@click.argument("node")
@click.option("--for", "duration_seconds", type=Duration(), help="How long: 30m, 2h, at most 7d.")
@click.option("--end", is_flag=True, help="Take the node back now.")
@click.option("--reason", help="Why, in words users will read.")
@socket_option
@json_option
def yield_node(  # noqa: PLR0917 - click passes each option by its name
    node: str,
    duration_seconds: float | None,
    end: bool,
    reason: str | None,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Leave the GPUs of NODE to somebody else for a while.

    Caps for a contract or an event end and none is set; limits that somebody else writes stay. Caps for a
    breaker go on.
    """
    if end == (duration_seconds is not None):
        raise click.UsageError("say how long with --for, or take the node back with --end")
    if not end and not reason:
        raise click.UsageError("say why with --reason; users will read it")
    answer = ask(
        {"op": "yield", "node": node, "seconds": duration_seconds or 0, "reason": reason or "taken back"},
        socket_path,
    )
    text = "is taken back" if end else f"is yielded for {duration_text(duration_seconds)}"
    _report(answer, f"{node} {text}", as_json=as_json)


def _report(answer: Answer, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(text)
