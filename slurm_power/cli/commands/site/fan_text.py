"""A fan chart in characters: Braille dots for the lines, shade for the band; or plain ASCII."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import tzinfo

from rich.text import Text

from slurm_power.report.frame.axes import PowerAxis, power_axis, time_marks
from slurm_power.report.live.fan import FanChart

LEAST_WIDTH = 32
_MARK_EVERY_COLUMNS = 11
_PAST, _AHEAD, _BAND, _LIMIT, _FAINT, _START = "bold", "bold cyan", "blue", "red", "dim", "bold magenta"
# The eight dots of a Braille character by (row, column), as Unicode numbers them.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800

Span = tuple[float, float, float | None]


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters that a terminal can show; ``dots``: how many rows and columns of dots a cell has."""

    dots: tuple[int, int]
    band: str
    limit: str
    now: str
    start: str
    start_line: str
    frame: str
    tick: str
    corner: str
    mark: str
    past: str
    ahead: str


UNICODE = Signs((4, 2), "░", "╌", "│", "▼", "┊", "─", "┬", "└", "┤", "⠒", "⠒")
ASCII = Signs((1, 1), ":", "-", "|", "v", "!", "-", "+", "+", "|", "*", "o")


@dataclass(slots=True)
class _Canvas:
    """Cells of characters with a style each; a later sign replaces an earlier one."""

    width: int
    height: int
    cells: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)

    def put(self, row: int, column: int, sign: str, style: str, *, over: bool = True) -> None:
        if 0 <= row < self.height and 0 <= column < self.width and (over or (row, column) not in self.cells):
            self.cells[row, column] = sign, style

    def line(self, row: int) -> Text:
        text = Text(end="")
        for column in range(self.width):
            sign, style = self.cells.get((row, column), (" ", ""))
            text.append(sign, style)
        return text


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps seconds and watts to places of the canvas."""

    chart: FanChart
    axis: PowerAxis
    width: int
    height: int

    def column(self, seconds: float, per_cell: int = 1) -> int:
        share = (seconds - self.chart.start_seconds) / (self.chart.end_seconds - self.chart.start_seconds)
        return math.floor(share * self.width * per_cell)

    def row(self, watts: float, per_cell: int = 1) -> int:
        """Rows count from the top; what is above or below the axis lies on its edge."""
        share = (self.axis.high_watts - watts) / (self.axis.high_watts - self.axis.low_watts)
        rows = self.height * per_cell
        return min(max(math.floor(share * rows), 0), rows - 1)

    def extremes(self, spans: Iterable[Span], per_cell: int = 1) -> Iterator[tuple[int, float, float]]:
        """The lowest and highest watts of what falls into each column, columns in order."""
        found: dict[int, tuple[float, float]] = {}
        for start, end, watts in spans:
            if watts is None:
                continue
            first = self.column(start, per_cell)
            last = max(first, math.ceil(self.column_exact(end, per_cell)) - 1)
            for column in range(max(first, 0), min(last, self.width * per_cell - 1) + 1):
                low, high = found.get(column, (watts, watts))
                found[column] = min(low, watts), max(high, watts)
        for column in sorted(found):
            yield column, *found[column]

    def column_exact(self, seconds: float, per_cell: int) -> float:
        share = (seconds - self.chart.start_seconds) / (self.chart.end_seconds - self.chart.start_seconds)
        return round(share * self.width * per_cell, 6)


def fan_lines(chart: FanChart, *, width: int, height: int, zone: tzinfo | None, signs: Signs) -> list[Text]:
    """Draw a chart that is ``width`` columns wide, with ``height`` rows between its marks and its clock.

    ``zone`` None is the machine's own. The chart may not be empty.
    """
    axis = power_axis(*chart.range_watts(), most_marks=max(2, height // 3))
    label_width = max(len(axis.text(mark)) for mark in (*axis.marks_watts, axis.high_watts))
    label_width = max(label_width, len(axis.unit))
    canvas = _Canvas(width - label_width - 2, height)
    frame = _Frame(chart, axis, canvas.width, height)
    _band(canvas, frame, signs)
    _limit(canvas, frame, signs)
    _uprights(canvas, frame, signs)
    _curve(canvas, frame, chart.past_spans(), signs, (signs.past, _PAST))
    _curve(canvas, frame, chart.ahead_spans(chart.p50_watts), signs, (signs.ahead, _AHEAD))
    labels = {frame.row(mark): axis.text(mark) for mark in axis.marks_watts}
    lines = [Text(f"{axis.unit:>{label_width}}  ", end="") + _start_labels(frame, signs)]
    for row in range(height):
        edge = signs.mark if row in labels else signs.now
        head = Text(f"{labels.get(row, ''):>{label_width}} {edge}", style=_FAINT, end="")
        lines.append(head + canvas.line(row))
    lines += _clock(frame, signs, zone, label_width)
    for line in lines:
        line.rstrip()
    return lines


def legend(chart: FanChart, signs: Signs) -> Text:
    """What the signs mean, in one line."""
    text = Text("", end="")
    if chart.past_watts:
        text.append(signs.past, _PAST).append(
            f" drawn (left of {signs.now})   " if chart.p50_watts else " drawn"
        )
    if chart.p50_watts:
        text.append(signs.ahead, _AHEAD).append(" expected   ")
        text.append(signs.band, _BAND).append(" 80 % band   ")
    if chart.limit_in_sight:
        text.append(signs.limit, _LIMIT).append(" limit   ")
    if chart.starts:
        text.append(signs.start, _START).append(" massive start   ")
    text.rstrip()
    return text


def _band(canvas: _Canvas, frame: _Frame, signs: Signs) -> None:
    lows = {column: low for column, low, _ in frame.extremes(frame.chart.ahead_spans(frame.chart.p10_watts))}
    for column, _, high in frame.extremes(frame.chart.ahead_spans(frame.chart.p90_watts)):
        low_row = frame.row(lows.get(column, high))
        for row in range(frame.row(high), low_row + 1):
            canvas.put(row, column, signs.band, _BAND)


def _limit(canvas: _Canvas, frame: _Frame, signs: Signs) -> None:
    if not frame.chart.limit_in_sight:
        return
    for column, low, _ in frame.extremes(frame.chart.ahead_spans(frame.chart.limit_watts)):
        if low <= frame.axis.high_watts:
            canvas.put(frame.row(low), column, signs.limit, _LIMIT)


def _uprights(canvas: _Canvas, frame: _Frame, signs: Signs) -> None:
    """The present, and each start to come, as lines from top to bottom where nothing else is."""
    for mark in frame.chart.starts:
        for row in range(canvas.height):
            canvas.put(row, frame.column(mark.at_seconds), signs.start_line, _START)
    if frame.chart.past_watts and frame.chart.p50_watts:
        for row in range(canvas.height):
            canvas.put(row, frame.column(frame.chart.issued_seconds), signs.now, _FAINT, over=False)


def _curve(canvas: _Canvas, frame: _Frame, spans: Iterable[Span], signs: Signs, pen: tuple[str, str]) -> None:
    """Join the extremes of neighbouring columns of dots, so that a step stays one line."""
    rows_per_cell, columns_per_cell = signs.dots
    sign, style = pen
    dots: dict[tuple[int, int], int] = {}
    before: tuple[int, int, int] | None = None
    for column, low, high in frame.extremes(spans, columns_per_cell):
        top, bottom = frame.row(high, rows_per_cell), frame.row(low, rows_per_cell)
        reach = (top, bottom)
        if before is not None and before[0] == column - 1:
            reach = min(top, before[2] + 1), max(bottom, before[1] - 1)
        for dot in range(reach[0], reach[1] + 1):
            cell = dot // rows_per_cell, column // columns_per_cell
            dots[cell] = dots.get(cell, 0) | _DOTS[dot % rows_per_cell][column % columns_per_cell]
        before = column, top, bottom
    for (row, column), pattern in dots.items():
        canvas.put(row, column, chr(_BRAILLE + pattern) if rows_per_cell > 1 else sign, style)


def _start_labels(frame: _Frame, signs: Signs) -> Text:
    """The line above the chart: a mark over each start with its words, as far as there is room."""
    line = [" "] * frame.width
    for mark in sorted(frame.chart.starts, key=lambda mark: mark.at_seconds):
        column = min(max(frame.column(mark.at_seconds), 0), frame.width - 1)
        line[column] = signs.start
    for mark in sorted(frame.chart.starts, key=lambda mark: mark.at_seconds):
        column = min(max(frame.column(mark.at_seconds), 0), frame.width - 1)
        text = f" {mark.text} "
        for first in (column + 1, column - len(text)):
            free = line[max(first, 0) : first + len(text)]
            if first >= 0 and len(free) == len(text) and not "".join(free).strip():
                line[first : first + len(text)] = text
                break
    return Text("".join(line).rstrip(), style=_START, end="")


def _clock(frame: _Frame, signs: Signs, zone: tzinfo | None, label_width: int) -> list[Text]:
    """The axis below, and what the local clock shows at its marks."""
    chart = frame.chart
    most = max(2, frame.width // _MARK_EVERY_COLUMNS)
    ticks, words = [signs.frame] * frame.width, [" "] * (frame.width + 4)
    for seconds, text in time_marks(chart.start_seconds, chart.end_seconds, zone, most):
        column = frame.column(seconds)
        if column >= frame.width:
            continue
        ticks[column] = signs.tick
        first = max(0, column - len(text) // 2)
        if (
            first + len(text) <= frame.width
            and not "".join(words[max(0, first - 1) : first + len(text)]).strip()
        ):
            words[first : first + len(text)] = text
    indent = " " * (label_width + 1)
    return [
        Text(f"{indent}{signs.corner}{''.join(ticks)}", style=_FAINT, end=""),
        Text(f"{indent} {''.join(words).rstrip()}", style=_FAINT, end=""),
    ]
