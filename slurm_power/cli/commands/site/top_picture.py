"""The picture of ``slurm-power top`` as lines of a given width: the words and the order of the dashboard."""

import math
from dataclasses import dataclass, replace
from datetime import datetime

from rich.cells import set_cell_size
from rich.text import Text

from slurm_power.cli.commands.connection import Answer, printable
from slurm_power.cli.commands.quantities import battery_text, duration_text, percent_text, watts_text
from slurm_power.cli.commands.screen import NARROW_COLUMNS
from slurm_power.cli.commands.site.alerts import alert_lines
from slurm_power.cli.commands.site.fan_text import ASCII, LEAST_WIDTH, UNICODE, fan_lines
from slurm_power.cli.commands.site.forecast import fan_chart
from slurm_power.cli.commands.site.status import event_text
from slurm_power.cli.commands.site.top_view import View

SORTS = ("watts", "gpus", "user", "job")
_COLUMNS = (("JOB", 9), ("USER", 10), ("NAME", 16), ("STATE", 9), ("GPUS", 5), ("POWER", 9), ("CAP", 7))
_NARROW = ("JOB", "USER", "POWER", "CAP")
_BAR_WIDTH, _NARROW_BAR_WIDTH = 16, 6
_PLOT_WIDTH = 120
# Lines above and below the rows of the chart itself.
_PLOT_FRAME = 3
_COLOURS = {"good": "", "questionable": "yellow", "invalid": "red"}
_NEARLY_FULL_RATIO = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the keys have chosen. ``typing``: the filter is being typed."""

    sort: str = SORTS[0]
    descending: bool = True
    first_job: int = 0
    filter: str = ""
    typing: bool = False

    def with_sort(self, step: int) -> "Wishes":
        """The next or the last column to sort by."""
        sort = SORTS[(SORTS.index(self.sort) + step) % len(SORTS)]
        return replace(self, sort=sort, descending=sort in ("watts", "gpus"), first_job=0)


def picture_lines(
    view: View, wishes: Wishes, *, width: int, height: int | None, only_ascii: bool
) -> list[Text]:
    """At most ``height`` lines, all there are where it is None; none is wider than ``width``."""
    answer: Answer | None = printable(view.answer)
    if answer is None:
        lines = [Text(f"nothing is known yet: {view.problem}", style="bold red")]
    else:
        lines = _body(view, answer, wishes, width, height, only_ascii=only_ascii)
    if height is not None:
        lines = [*lines[: height - 1], *[Text("")] * (height - 1 - len(lines)), _keys(wishes)][:height]
    for line in lines:
        line.no_wrap, line.overflow = True, "crop" if only_ascii else "ellipsis"
        line.end = "\n"
    return lines


def _body(
    view: View, answer: Answer, wishes: Wishes, width: int, height: int | None, *, only_ascii: bool
) -> list[Text]:
    head = [*_headline(view, answer), _about(answer)]
    alerts = alert_lines(answer.get("alerts", []), effects=False)
    circuits = _circuits(answer, narrow=width < NARROW_COLUMNS, only_ascii=only_ascii)
    storage = _storage(answer)
    events = _events(answer)
    ledger = [_entry(entry) for entry in reversed(printable(list(view.entries)))]
    sources = _sources(answer)
    jobs = _jobs(answer, wishes, narrow=width < NARROW_COLUMNS)
    if height is None:
        plot = _plot(view, width, 8, only_ascii=only_ascii)
        parts = [head, alerts, plot, circuits, storage, events, jobs, ledger[:10], sources]
        return [line for part in parts for line in part]
    room = height - 1 - len(head)
    # The most important first; what is left goes to the jobs, at least four lines of them.
    alerts, room = _cut(alerts, min(4, room), room)
    least_jobs = min(len(jobs), 4)
    plot_rows = 3 if height < 32 else 6 if height < 44 else 10
    plot = _plot(view, width, plot_rows, only_ascii=only_ascii) if height >= 16 else []
    plot, room = ([], room) if len(plot) > room - least_jobs - 4 else (plot, room - len(plot))
    circuits, room = _cut(circuits, max(4, height // 5), room - least_jobs)
    storage, room = _cut(storage, max(1, height // 12), room)
    events, room = _cut(events, max(1, height // 12), room)
    ledger, room = _cut(ledger, max(2, height // 8), room)
    sources, room = _cut(sources, max(1, height // 12), room)
    room += least_jobs
    title, rows = jobs[:1], jobs[1:]
    shown = rows[min(wishes.first_job, max(0, len(rows) - 1)) :][: max(0, room - 1)]
    return [*head, *alerts, *plot, *circuits, *storage, *events, *title, *shown, *ledger, *sources]


def job_count(answer: Answer | None, wishes: Wishes) -> int:
    """How many jobs pass the filter."""
    return 0 if answer is None else len(_chosen(printable(answer), wishes))


def _cut(lines: list[Text], most: int, room: int) -> tuple[list[Text], int]:
    """The first lines, and the room that is left; what is cut off is counted in the last of them."""
    most = max(0, min(most, room))
    if len(lines) > most:
        left_off = len(lines) - most + 1
        lines = (
            [*lines[: most - 1], Text(f"  ... and {left_off} more", style="dim")]
            if most > 1
            else lines[:most]
        )
    return lines, room - len(lines)


def _headline(view: View, answer: Answer) -> list[Text]:
    standing = answer.get("standing") or {}
    headline = standing.get("headline") or "nothing is known of limits"
    style = "bold green" if standing.get("safe") else "bold red"
    if view.problem:
        old = duration_text(view.age_seconds)
        return [Text(view.problem, style="bold red"), Text(f"{old} ago: {headline}", style="dim")]
    lines = [Text(headline, style=style)]
    risks = standing.get("risks") or []
    if risks and risks[0].get("reason"):
        lines.append(Text(f"  {risks[0]['reason']}", style="red"))
    return lines


def _about(answer: Answer) -> Text:
    mode = "controls" if answer["mode"] == "control" else "only watches"
    if answer.get("paused_until"):
        mode += f" until {_clock(answer['paused_until'])}"
    text = f"{answer['site']}: powerctld {mode}, up {duration_text(answer['uptime_seconds'])}"
    counts = answer.get("job_counts")
    if counts:
        text += "".join(
            f", {counts[key]} {key}" for key in ("running", "pending", "capped", "held", "paused")
        )
    return Text(f"{text}, {_clock(answer['at'])}")


def _plot(view: View, width: int, height: int, *, only_ascii: bool) -> list[Text]:
    """The grid connection's last minutes and the next hour."""
    if view.forecast is None or width < LEAST_WIDTH:
        return []
    chart = fan_chart(printable(view.forecast), "near")
    if chart.empty:
        return []
    signs = ASCII if only_ascii else UNICODE
    return fan_lines(chart, width=min(width, _PLOT_WIDTH), height=height, zone=None, signs=signs)


def _circuits(answer: Answer, *, narrow: bool, only_ascii: bool) -> list[Text]:
    """The fullest first; one that nobody measures may be full."""

    def used(row: Answer) -> float:
        watts, limit_watts = row["watts"], row["limit_watts"]
        if watts is None:
            return math.inf if row["quality"] is not None else -1.0
        return watts / limit_watts if limit_watts else 0.0

    rows = sorted(answer["circuits"], key=used, reverse=True)
    names = min(20, max((len(row["name"]) for row in rows), default=0))
    lines = []
    for row in rows:
        share = used(row)
        known = row["watts"] is not None and row["limit_watts"]
        style = "red" if share > 1.0 else "yellow" if share > _NEARLY_FULL_RATIO else "green"
        line = Text(set_cell_size(row["name"], names) + " ")
        size = _NARROW_BAR_WIDTH if narrow else _BAR_WIDTH
        bar = _bar(share if known else 0.0, size, only_ascii=only_ascii)
        line.append(bar, style=style if known else "dim")
        room = 7 if narrow else 9
        line.append(f" {watts_text(row['watts']):>{room}} of {watts_text(row['limit_watts']):>{room}}")
        line.append(f" {percent_text(share if known else None):>5}", style=style if known else "dim")
        quality = row["quality"]
        if quality is None:
            line.append("  not metered", style="dim")
        elif quality != "good":
            line.append(f"  {quality}: {row['reason']}", style=_COLOURS.get(quality, "red"))
        lines.append(line)
    if answer.get("circuits_left_off"):
        lines.append(Text(f"  ... and {answer['circuits_left_off']} more", style="dim"))
    return lines


def _bar(ratio: float, size: int, *, only_ascii: bool) -> str:
    full, empty = ("#", ".") if only_ascii else ("█", "░")
    filled = min(size, max(0, round(ratio * size)))
    return full * filled + empty * (size - filled)


def _storage(answer: Answer) -> list[Text]:
    lines = []
    for ess in answer["ess"]:
        doing = battery_text(ess["discharge_watts"])
        charge, health = percent_text(ess["soc_ratio"]), percent_text(ess["soh_ratio"])
        text = f"{ess['name']} {doing}, charge {charge}, health {health}"
        following = ess.get("next") or {}
        if following.get("does") and following["does"] != "nothing":
            soon = following.get("in_seconds")
            when = f" in {duration_text(soon)}" if soon else ""
            text += f"; next: {following['does']}"
            text += f" {watts_text(following['watts'])}" if following.get("watts") is not None else ""
            text += f"{when} ({following['reason']})" if following.get("reason") else when
        remarks = [*ess["alarms"], *([] if ess["quality"] == "good" else [ess["quality"]])]
        line = Text(text)
        if remarks:
            line.append(f"  {', '.join(remarks)}", style="yellow")
        lines.append(line)
    return lines


def _events(answer: Answer) -> list[Text]:
    lines = [Text(event_text(event), style="yellow") for event in answer["events"]]
    for start in answer.get("starts") or ():
        if not start.get("massive"):
            continue
        step = max(start["step_watts"].values(), default=0.0)
        lead = start.get("lead_seconds")
        when = "soon" if lead is None else f"in {duration_text(lead)}"
        who = f"job {start['job_id']} of {start['user']}" if start["job_id"] else "a job"
        lines.append(Text(f"massive start {when}: {who} adds {watts_text(step)}", style="magenta"))
    return lines


def _chosen(answer: Answer, wishes: Wishes) -> list[Answer]:
    word = wishes.filter.casefold()
    keys = ("job_id", "user", "name", "account", "state", "workload", "tier")
    rows = [
        row
        for row in answer["jobs"]
        if not word or any(word in str(row.get(key) or "").casefold() for key in keys)
    ]

    def order(row: Answer) -> tuple[float, str]:
        match wishes.sort:
            case "watts":
                return row["gpu_watts"] or 0.0, row["job_id"]
            case "gpus":
                return row["gpu_count"], row["job_id"]
            case "user":
                return 0.0, row["user"]
            case _:
                digits = row["job_id"].partition("_")[0]
                return float(digits) if digits.isdecimal() else 0.0, row["job_id"]

    return sorted(rows, key=order, reverse=wishes.descending)


def _jobs(answer: Answer, wishes: Wishes, *, narrow: bool) -> list[Text]:
    columns = [(name, size) for name, size in _COLUMNS if not narrow or name in _NARROW]
    marks = {"watts": "POWER", "gpus": "GPUS", "user": "USER", "job": "JOB"}
    head = Text()
    for name, width in columns:
        cell = f"{name:>{width}}" if name in ("GPUS", "POWER", "CAP") else f"{name:<{width}}"
        head.append(cell, style="bold reverse" if marks[wishes.sort] == name else "reverse")
        head.append(" ", style="reverse")
    head.append("WHY", style="reverse")
    rows = _chosen(answer, wishes)
    if not rows:
        return [
            head,
            Text("no job passes the filter" if wishes.filter else "no jobs to show", style="dim"),
        ]
    lines = [head]
    for row in rows:
        words = {"JOB": "job_id", "USER": "user", "NAME": "name", "STATE": "state"}
        numbers = {
            "GPUS": str(row["gpu_count"]),
            "POWER": watts_text(row["gpu_watts"]),
            "CAP": watts_text(row["cap_watts"]),
        }
        cells = [
            set_cell_size(str(row[words[name]]), size) if name in words else f"{numbers[name]:>{size}}"
            for name, size in columns
        ]
        lines.append(Text(f"{' '.join(cells)} {_why(row)}"))
    left_off = answer.get("jobs_left_off")
    if left_off:
        lines.append(Text(f"... and {left_off} more that draw less", style="dim"))
    return lines


def _why(job: Answer) -> str:
    if job["hold_ends_in_seconds"] is not None:
        return f"held: {job['hold_reason']}"
    if job.get("paused_seconds") is not None:
        return f"paused: {job['pause_reason']}"
    if job["cap_watts"] is not None:
        own = "asked for by its user" if job.get("cap_is_own") else job["cap_reason"]
        slower = job["slowdown_ratio"]
        return f"{percent_text(slower)} slower: {own}" if slower else str(own)
    return str(job["pending_reason"] or "")


def _entry(entry: Answer) -> Text:
    return Text(f"{_clock(entry['at'])} {entry['kind']} {entry['subject']}: {entry['reason']}", style="dim")


def _sources(answer: Answer) -> list[Text]:
    return [
        Text(
            f"{row['measures']} ({row['source']}): {row['reason'] or row['quality']}",
            style=_COLOURS[row["quality"]],
        )
        for row in answer["sources"]["bad"]
    ]


def _keys(wishes: Wishes) -> Text:
    if wishes.typing:
        return Text(f"filter: {wishes.filter}_   Enter takes it, Esc drops it", style="reverse")
    chosen = f" filter: {wishes.filter} " if wishes.filter else ""
    return Text(f"{chosen}q quit  left/right sort by {wishes.sort}  j/k scroll  f filter", style="dim")


def _clock(at: str) -> str:
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return at
