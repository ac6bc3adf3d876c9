"""Show the course of the demo while it plays: a live picture on a terminal, a line now and then elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from containers.demo.play import Course

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_SECONDS = 72
_NEWS_LINES = 6
_PLAIN_EVERY_SECONDS = 5


@contextmanager
def watcher(console: Console) -> Iterator[Callable[[Course], None]]:
    """Yield the function that shows a course."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda course: live.update(_picture(course))
    else:
        yield _Plain(console)


class _Plain:
    """For logs: news as they come, the power every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0
        self._next_seconds = 0.0

    def __call__(self, course: Course) -> None:
        for text in course.news[self._told :]:
            self._console.print(f"{_elapsed(course):5.0f} s  {text}", highlight=False)
        self._told = len(course.news)
        if course.history and _elapsed(course) >= self._next_seconds:
            self._next_seconds = _elapsed(course) + _PLAIN_EVERY_SECONDS
            self._console.print(f"{_elapsed(course):5.0f} s  {_power_line(course)}", highlight=False)


def _elapsed(course: Course) -> float:
    return course.history[-1]["unix_seconds"] - course.began_unix_seconds if course.history else 0.0


def _power_line(course: Course) -> str:
    last = course.history[-1]
    capped = [job for job in course.status["jobs"] if job["cap_watts"] is not None]
    held = [job for job in course.status["jobs"] if job["hold_ends_in_seconds"] is not None]
    parts = [
        f"grid {last['grid_import_watts'] / 1000:5.1f} of {course.limits[-1][1] / 1000:.1f} kW",
        f"battery {last['ess_discharge_watts'] / 1000:+5.1f} kW",
    ]
    parts += [f"{job['name']} capped at {job['cap_watts']:.0f} W" for job in capped]
    parts += [f"{job['name']} held" for job in held]
    return ", ".join(parts)


def _picture(course: Course) -> Panel:
    if not course.history:
        return Panel("waiting for the first second")
    last = course.history[-1]
    limit_watts = course.limits[-1][1]
    over = last["grid_import_watts"] > limit_watts
    head = Text.assemble(
        ("grid ", "bold"),
        (f"{last['grid_import_watts'] / 1000:5.1f} kW", "bold red" if over else "bold green"),
        f" of {limit_watts / 1000:.1f} kW   ",
        ("battery ", "bold"),
        f"{last['ess_discharge_watts'] / 1000:+5.1f} kW at "
        + ", ".join(f"{ess['soc_ratio']:.0%}" for ess in course.status["ess"]),
    )
    news = Text("\n".join(course.news[-_NEWS_LINES:]), style="dim")
    return Panel(
        Group(head, _curve(course), _jobs(course), news),
        title=f"slurm-power demo, second {_elapsed(course):.0f}",
    )


def _curve(course: Course) -> Text:
    """The last seconds of grid power as bars, red where the limit was passed."""
    rows = list(zip(course.history, course.limits, strict=True))[-_CURVE_SECONDS:]
    top = max(max(limit, row["grid_import_watts"]) for row, (_, limit) in rows)
    text = Text()
    for row, (_, limit) in rows:
        height = int(max(0.0, row["grid_import_watts"]) / top * (len(_BARS) - 1))
        text.append(_BARS[height], style="red" if row["grid_import_watts"] > limit else "cyan")
    return text


def _jobs(course: Course) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "name", "state", "flex", "GPU power", "cap per GPU", "why"):
        table.add_column(heading)
    for job in sorted(course.status["jobs"], key=lambda job: int(job["job_id"])):
        held = job["hold_ends_in_seconds"] is not None
        table.add_row(
            job["job_id"],
            job["name"],
            "held" if held else job["state"],
            job["flex"],
            "" if job["gpu_watts"] is None else f"{job['gpu_watts'] / 1000:.1f} kW",
            "" if job["cap_watts"] is None else f"{job['cap_watts']:.0f} W",
            job["hold_reason"] if held else job["cap_reason"],
        )
    return table
