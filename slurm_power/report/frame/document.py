"""What every report is made of, and its forms: HTML that prints well, JSON, and tables as CSV.

A report is a ``Document``: values only. ``render_html``, ``document_json`` and ``table_csv`` turn it into
text, and ``write_document`` into files that are there whole or not at all.
"""

from slurm_power.report.frame.document_files import out_problem, write_document
from slurm_power.report.frame.document_html import cell_text, render_html
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
    document_json,
    kilo,
    number_column,
    percent,
    readable,
    table_csv,
)

__all__ = [
    "Block",
    "Check",
    "Column",
    "Document",
    "Figure",
    "Paragraph",
    "Section",
    "Table",
    "Tile",
    "Value",
    "cell_text",
    "document_json",
    "kilo",
    "number_column",
    "out_problem",
    "percent",
    "readable",
    "render_html",
    "table_csv",
    "write_document",
]
