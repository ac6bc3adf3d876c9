"""A report as one HTML file that needs nothing else, for the screen, light and dark, and for paper."""

import math
from collections.abc import Mapping
from datetime import datetime
from html import escape

from slurm_power.report.frame.document_parts import (
    Block,
    Check,
    Column,
    Document,
    Figure,
    Paragraph,
    Section,
    Table,
    Tile,
    Value,
    readable,
)
from slurm_power.report.frame.style import STYLE

_DASH = "\N{EN DASH}"
_LONGEST_WORD = 20
# Nothing is ever fetched or run, whatever got into a page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_MORE_STYLE = """
.labels { display: flex; flex-wrap: wrap; gap: 0.1rem 1.4rem; margin: 0.1rem 0 1.2rem; }
.labels div { display: flex; gap: 0.4rem; }
.labels dt { color: var(--soft); }
.labels dd { margin: 0; }
h3 { font-size: 0.92rem; margin: 1rem 0 0.3rem; }
section > p:last-child, section > figure:last-child { margin-bottom: 0; }
figcaption, .note { font-size: 0.85rem; color: var(--soft); margin: 0.3rem 0 0; }
"""


def render_html(document: Document) -> str:
    """A report as HTML: no script, no font, no picture from anywhere. All words are escaped."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{_text(document.title)}</title><style>{STYLE}{_MORE_STYLE}</style></head><body><main>",
            f"<h1>{_text(document.title)}</h1>",
            f'<p class="when">{_text(document.subtitle)}</p>' if document.subtitle else "",
            _labels(document.labels),
            _checks(document.checks),
            _tiles(document.tiles),
            *(_section(section) for section in document.sections),
            proof_section(document.proof),
            "</main></body></html>",
            "",
        ]
    )


def cell_text(value: Value, column: Column) -> str:
    """What people see of a value: digits in groups, yes or no, times with their zone, a dash for unknown."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S %Z}".strip()
    if value is None or not math.isfinite(value):
        return _DASH
    if column.kind != "number":
        return str(value)
    digits = column.digits if column.digits is not None else 2 * isinstance(value, float)
    text = f"{value:,.{digits}f}"
    # Nobody wants to read of minus nothing.
    return text.removeprefix("-") if not text.strip("-0.") else text


def _text(text: str) -> str:
    return escape(readable(text))


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    rows = (f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in labels.items())
    return f'<dl class="labels">{"".join(rows)}</dl>'


def _checks(checks: tuple[Check, ...]) -> str:
    if not checks:
        return ""
    items = []
    for check in checks:
        detail = f"<span>{_text(check.detail)}</span>" if check.detail else ""
        mark = "good" if check.good else "bad"
        items.append(f'<li class="{mark}"><strong>{_text(check.words)}</strong>{detail}</li>')
    return f'<ul class="verdict">{"".join(items)}</ul>'


def _tiles(tiles: tuple[Tile, ...]) -> str:
    if not tiles:
        return ""
    cells = (
        f"<div><dt>{_text(tile.name)}</dt>"
        f"<dd>{_text(tile.value)}<small>{_text(tile.remark)}</small></dd></div>"
        for tile in tiles
    )
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def _section(section: Section) -> str:
    body = "\n".join(_block(block, section.title) for block in section.blocks)
    return f"<section><h2>{_text(section.title)}</h2>{body}</section>"


def _block(block: Block, above: str) -> str:
    match block:
        case Table():
            return _table(block, above)
        case Figure():
            title = _heading(block.title, above)
            words = f"<figcaption>{_text(block.text)}</figcaption>" if block.text else ""
            return f"{title}<figure>{block.svg}{words}</figure>"
        case Paragraph():
            return f"<p>{_text(block.text)}</p>"


def _heading(title: str, above: str) -> str:
    return f"<h3>{_text(title)}</h3>" if title and title != above else ""


def _table(table: Table, above: str) -> str:
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    title = _heading(table.title, above)
    if not table.rows:
        return f"{title}<p>None.</p>{note}"
    head = "".join(
        f'<th scope="col"{_kind(column, "")}>{_text(column.title)}</th>' for column in table.columns
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f"<td{_kind(column, text)}>{escape(text)}</td>"
            for column, text in (
                (column, cell_text(value, column)) for value, column in zip(row, table.columns, strict=True)
            )
        )
        + "</tr>"
        for row in table.rows
    )
    cells = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f'{title}<div class="wide">{cells}</div>{note}'


def _kind(column: Column, text: str) -> str:
    """The class of a cell: digits stay together, a word that no column has room for breaks anywhere."""
    long = max(map(len, text.split()), default=0) > _LONGEST_WORD
    names = [name for name, there in (("n", column.kind == "number"), ("long", long)) if there]
    return f' class="{" ".join(names)}"' if names else ""


def proof_section(lines: tuple[str, ...]) -> str:
    """The lines of a proof as a section; empty for none."""
    if not lines:
        return ""
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f'<section><h2>Proof</h2><ul class="proof">{items}</ul></section>'
