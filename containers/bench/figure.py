"""One row of a table of figures."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table. ``target`` is what it is held against, "" for none."""

    what: str
    value: str
    target: str = ""
