"""A month's plots: the load with and without us against the limit, and where the money went."""

import numpy as np
from matplotlib.figure import Figure as Plot

from slurm_power.model.money import money_unit
from slurm_power.plan.billing import Bill
from slurm_power.report.frame.axes import time_marks
from slurm_power.report.frame.drawing import BATTERY, IMPORT, LIMIT, WITHOUT, style, svg
from slurm_power.report.month.month import MonthAccount
from slurm_power.report.month.month_columns import Values

_MOST_POINTS = 1500
_MOST_MARKS = 10
_PART_COLOURS = {"energy": IMPORT, "demand": LIMIT, "fixed": WITHOUT}


def load_plot(account: MonthAccount) -> str:
    """Draw import, load with nothing done, and limit in kW over the local time of the month, as SVG."""
    columns = account.columns
    with style("month"):
        plot = Plot(figsize=(9.2, 3.5), facecolor="none")
        axes = plot.add_subplot()
        group = max(1, -(-columns.steps // _MOST_POINTS))
        times = columns.times[::group]
        natural = np.where(columns.known, account.natural_watts, np.nan)
        drawn, without = (_highest(column, group) / 1000.0 for column in (columns.import_watts, natural))
        shaved = np.maximum(without, drawn)
        axes.fill_between(
            times, drawn, shaved, step="post", color=BATTERY, alpha=0.45, lw=0, label="taken off by us"
        )
        axes.step(
            times, without, where="post", color=WITHOUT, lw=0.9, ls=(0, (4, 2)), label="with nothing done"
        )
        axes.step(times, drawn, where="post", color=IMPORT, lw=1.1, label=f"drawn at {columns.circuit}")
        axes.step(
            times,
            _highest(columns.limit_watts, group) / 1000.0,
            where="post",
            color=LIMIT,
            lw=1.3,
            label="limit",
        )
        for since, until in columns.gaps():
            axes.axvspan(since, until, color=WITHOUT, alpha=0.18, lw=0)
        marks = time_marks(columns.start_seconds, columns.end_seconds, account.zone, _MOST_MARKS)
        axes.set_xticks([at for at, _ in marks], [text for _, text in marks])
        axes.set_ylim(bottom=0.0)
        axes.margins(x=0.0)
        axes.set_ylabel("kW")
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, handlelength=1.6, fontsize=9)
        return svg(plot, "month", "Load of the month", load_words(account))


def load_words(account: MonthAccount) -> str:
    """What the plot of the load shows, in words."""
    peak, at = account.peak(account.import_watts)
    without, without_at = account.peak(account.natural_watts)
    words = (
        f"Highest quarter of an hour: {peak / 1000:.1f} kW on {at:%Y-%m-%d %H:%M}; with nothing done"
        f" {without / 1000:.1f} kW on {without_at:%Y-%m-%d %H:%M}."
    )
    if account.columns.gaps():
        words += " Grey: no meter data."
    return words


def bill_plot(account: MonthAccount) -> str:
    """Draw both bills as bars by part, as SVG; empty without a bill."""
    if account.bill is None or account.bill_without is None:
        return ""
    rows = [("without us", account.bill_without), ("as it was", account.bill)]
    with style("bill"):
        plot = Plot(figsize=(9.2, 1.5), facecolor="none")
        axes = plot.add_subplot()
        for place, (_, each) in enumerate(rows):
            left = 0.0
            for part, colour in _PART_COLOURS.items():
                amount = _part(each, part)
                axes.barh(
                    place,
                    amount,
                    left=left,
                    color=colour,
                    alpha=0.75,
                    height=0.6,
                    label=part if place else "",
                )
                left += max(0.0, amount)
            axes.annotate(f" {each.total:,.2f}", (left, place), va="center", fontsize=9)
        axes.set_yticks([0, 1], [name for name, _ in rows])
        axes.margins(x=0.12)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]) if _negative(account) else 0.0)
        axes.set_xlabel(money_unit(account.terms.currency))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, handlelength=1.2, fontsize=9)
        return svg(plot, "bill", "The bill with and without us", bill_words(account))


def bill_words(account: MonthAccount) -> str:
    """Both bills in words."""
    if account.bill is None or account.bill_without is None:
        return ""
    parts = ", ".join(
        f"{part} {_part(account.bill, part):,.2f} (without us {_part(account.bill_without, part):,.2f})"
        for part in _PART_COLOURS
    )
    return f"By part: {parts}."


def _negative(account: MonthAccount) -> bool:
    bills = (account.bill, account.bill_without)
    return any(_part(each, part) < 0.0 for each in bills if each is not None for part in _PART_COLOURS)


def _part(each: Bill, part: str) -> float:
    return {"energy": each.energy, "demand": each.demand, "fixed": each.fixed}[part]


def _highest(column: Values, group: int) -> Values:
    """The highest of each group; NaN where none is known."""
    padded = np.full(-(-len(column) // group) * group, np.nan)
    padded[: len(column)] = column
    table = np.where(np.isnan(padded), -np.inf, padded).reshape(-1, group)
    found = table.max(axis=1)
    return np.where(np.isneginf(found), np.nan, found)
