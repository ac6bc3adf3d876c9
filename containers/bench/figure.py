"""Rows of a table of figures, as Markdown and as JSON between two processes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row. ``target`` is what it is held against, "" for none; ``ratio`` is measured over target.

    A ratio at or below 1 meets the target.
    """

    what: str
    value: str
    target: str = ""
    ratio: float | None = None


def share(what: str, ratio: float, target_ratio: float) -> Figure:
    """A share of one core."""
    return Figure(
        what=what,
        value=f"{100.0 * ratio:.2g} % of a core",
        target=f"{100.0 * target_ratio:g} % of a core",
        ratio=ratio / target_ratio,
    )


def memory(what: str, pss_bytes: float, target_bytes: float) -> Figure:
    """Memory, shared pages divided among those that share them."""
    return Figure(
        what=what,
        value=f"{pss_bytes / 1e6:.1f} MB PSS",
        target=f"{target_bytes / 1e6:.0f} MB",
        ratio=pss_bytes / target_bytes,
    )


def markdown(figures: list[Figure]) -> str:
    """The table of docs/benchmarks.md."""
    rows = ["| what | measured | target | measured / target |", "|---|---|---|---|"]
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        rows.append(f"| {figure.what} | {figure.value} | {figure.target} | {ratio} |")
    return "\n".join(rows)
