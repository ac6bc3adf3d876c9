"""What every report is made of, as values, and as JSON and CSV."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Value = str | int | float | bool | datetime | None
# Spreadsheets take a cell that begins so for a formula; the last four are the wide forms of the first.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure that everybody looks for first; ``value`` is text with its unit."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table; ``digits`` are those after the point that people see, files have them all."""

    heading: str
    unit: str = ""
    digits: int | None = None
    kind: Literal["text", "number", "time"] = "text"

    @property
    def title(self) -> str:
        """The heading with its unit."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


def number_column(heading: str, unit: str = "", *, digits: int | None = None) -> Column:
    """A column of figures, set to the right."""
    return Column(heading=heading, unit=unit, digits=digits, kind="number")


def kilo(amount: float | None) -> float | None:
    """Watts as kilowatts, grams as kilograms; None stays unknown."""
    return None if amount is None else amount / 1000.0


def percent(ratio: float | None) -> float | None:
    """A ratio as people read it; None stays unknown."""
    return None if ratio is None else 100.0 * ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of raw values, one for each column; ``name`` is that of its CSV file: ``[a-z0-9-]+``."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A plot as inline SVG made by ``report.drawing`` (it goes into the page as it is), and what it shows."""

    title: str
    svg: str
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Some sentences."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that is as it should be, in the words ``yes``, or is not, in the words ``no``."""

    good: bool
    yes: str
    no: str
    detail: str = ""

    @property
    def words(self) -> str:
        """What is the case."""
        return self.yes if self.good else self.no


Block = Table | Figure | Paragraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a report under one heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A report. ``labels`` say what it is about, in order: site, span, circuit, when it was made.

    ``proof`` are the lines that let a reader check that the ledger behind it is whole.
    """

    title: str
    subtitle: str = ""
    checks: tuple[Check, ...] = ()
    tiles: tuple[Tile, ...] = ()
    sections: tuple[Section, ...] = ()
    proof: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, Table]:
        """All tables by name, in order."""
        blocks = (block for section in self.sections for block in section.blocks)
        return {block.name: block for block in blocks if isinstance(block, Table)}


def document_json(document: Document) -> dict[str, object]:
    """A report for programs: JSON types only, times as ISO text, None for what is not known. No plots."""
    return {
        "title": document.title,
        "subtitle": document.subtitle,
        "labels": dict(document.labels),
        "checks": [
            {"good": check.good, "text": check.words, "detail": check.detail} for check in document.checks
        ],
        "tiles": [{"name": tile.name, "value": tile.value, "remark": tile.remark} for tile in document.tiles],
        "sections": [
            {"title": section.title, "blocks": [_block_json(block) for block in section.blocks]}
            for section in document.sections
        ],
        "proof": list(document.proof),
    }


def _block_json(block: Block) -> dict[str, object]:
    match block:
        case Table():
            return {
                "table": block.name,
                "title": block.title,
                "columns": [
                    {"heading": column.heading, "unit": column.unit, "kind": column.kind}
                    for column in block.columns
                ],
                "rows": [[_plain(value) for value in row] for row in block.rows],
                "note": block.note,
            }
        case Figure():
            return {"figure": block.title, "text": block.text}
        case Paragraph():
            return {"text": block.text}


def _plain(value: Value) -> str | int | float | bool | None:
    if isinstance(value, datetime):
        return value.isoformat()
    # JSON has no word for these.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_csv(table: Table) -> str:
    """A table as CSV (RFC 4180), all digits kept.

    A text that a spreadsheet would take for a formula gets an apostrophe in front; control characters
    that are no line ends become a mark.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_csv_cell(column.title) for column in table.columns])
    writer.writerows([_csv_cell(value) for value in row] for row in table.rows)
    return text.getvalue()


def _csv_cell(value: Value) -> str:
    match _plain(value):
        case None:
            return ""
        case bool() as flag:
            return "yes" if flag else "no"
        case int() | float() as number:
            return repr(number)
        case str() as words:
            shown = readable(words, keep="\t\r\n")
            return f"'{shown}" if shown.lstrip(" ").startswith(_FORMULA_STARTS) else shown


def readable(text: str, *, keep: str = "") -> str:
    """Somebody's text without what nobody sees: control characters, and marks that turn the direction."""
    return "".join(
        letter if letter.isprintable() or letter in keep else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
