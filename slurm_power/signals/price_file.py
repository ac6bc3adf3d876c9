"""A file of energy prices, hourly or finer, into the price of each step of a series."""

from datetime import UTC, datetime, tzinfo
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.supply import HeldValues
from slurm_power.signals.held_file import SupplyFileError, read_headings, read_held_values, with_choice

_FACTORS = {"mwh": 1e-3, "kwh": 1.0}
# The heading of the open benchmark sets of day-ahead prices (epftoolbox), in money per MWh.
_KNOWN_HEADINGS = {"real price": 1e-3}
_LONE_ROW_SECONDS = 3600.0
_HOUR_SECONDS = 3600.0
_MOST_NAMED = 5

Column = NDArray[np.float64]


def read_prices(file: Path, times_seconds: Column, step_seconds: float, *, zone: tzinfo = UTC) -> Column:
    """Price per kWh of each step [t, t + step), shape of ``times_seconds`` (Unix time): its mean over time.

    A price holds until the next row, at most for the usual spacing of the rows. The column is the one whose
    heading says $/MWh or $/kWh in some way, else FILE#COLUMN chooses. Times without a zone are in ``zone``.
    Raises SupplyFileError, also where steps are without a price.
    """
    file, chosen = with_choice(file)
    column, factor = _column(file, read_headings(file), chosen)
    held = read_held_values(file, column=column, factor=factor, zone=zone, negative=True, lasting=False)
    starts, values, ends = _pieces(held)
    prices, covered = _means(starts, values, ends, times_seconds, step_seconds)
    missing = times_seconds[~covered]
    if missing.size:
        first, last = (
            _day(float(seconds)) for seconds in (times_seconds[0], times_seconds[-1] + step_seconds - 1.0)
        )
        spans = f"{file} has prices from {_day(starts[0])} to {_day(ends[-1] - 1.0)}"
        if not covered.any():
            raise SupplyFileError([f"{spans}, the series is of {first} to {last}: other times"])
        hours = sorted({float(seconds // _HOUR_SECONDS) * _HOUR_SECONDS for seconds in missing.tolist()})
        named = ", ".join(
            f"{datetime.fromtimestamp(hour, UTC):%Y-%m-%d %H:%M}" for hour in hours[:_MOST_NAMED]
        )
        more = f" and {len(hours) - _MOST_NAMED} more" if len(hours) > _MOST_NAMED else ""
        raise SupplyFileError(
            [f"{spans}, the series is of {first} to {last}: no price in the hours (UTC) {named}{more}"]
        )
    return prices


def _column(file: Path, headings: list[str], chosen: str | None) -> tuple[str, float]:
    if chosen is not None:
        if chosen not in headings[1:]:
            raise SupplyFileError(
                [f"{file}: there is no column {chosen!r}; it has {', '.join(headings[1:])}"]
            )
        factor = _factor(chosen)
        if factor is None:
            raise SupplyFileError([f"{file}: the heading {chosen!r} has to say MWh or kWh"])
        return chosen, factor
    found = [(heading, factor) for heading in headings[1:] if (factor := _factor(heading)) is not None]
    if len(found) == 1:
        return found[0]
    names = ", ".join(heading for heading, _ in found) or ", ".join(headings[1:]) or "no second column"
    asked = "several columns are prices; write FILE#COLUMN" if found else "no heading says MWh or kWh"
    raise SupplyFileError([f"{file}: {asked}: {names}"])


def _factor(heading: str) -> float | None:
    """From the heading's unit to money per kWh."""
    word = heading.casefold()
    if word in _KNOWN_HEADINGS:
        return _KNOWN_HEADINGS[word]
    return next((factor for unit, factor in _FACTORS.items() if unit in word), None)


def _pieces(held: HeldValues) -> tuple[Column, Column, Column]:
    """Where each price begins, what it is (NaN: unknown) and until when it holds."""
    starts = np.array(held.seconds, dtype=np.float64)
    values = np.array([np.nan if value is None else value for value in held.values], dtype=np.float64)
    gaps = np.diff(starts)
    spacing = float(np.median(gaps)) if gaps.size else _LONE_ROW_SECONDS
    ends = starts + np.minimum(np.append(gaps, spacing), spacing)
    return starts, values, ends


def _means(
    starts: Column, values: Column, ends: Column, times_seconds: Column, step_seconds: float
) -> tuple[Column, NDArray[np.bool_]]:
    """The mean over each step, and which steps are known throughout."""
    known = np.where(np.isnan(values), 0.0, ends - starts)
    money = np.where(np.isnan(values), 0.0, values)
    known_before = np.concatenate(([0.0], np.cumsum(known)))
    paid_before = np.concatenate(([0.0], np.cumsum(known * money)))

    def until(moments: Column) -> tuple[Column, Column]:
        piece = np.searchsorted(starts, moments, side="right") - 1
        inside = np.maximum(piece, 0)
        held = np.where(piece < 0, 0.0, np.minimum(moments - starts[inside], known[inside]))
        return known_before[inside] + held, paid_before[inside] + held * money[inside]

    known_from, paid_from = until(times_seconds)
    known_to, paid_to = until(times_seconds + step_seconds)
    covered = known_to - known_from > step_seconds * (1.0 - 1e-9)
    return (paid_to - paid_from) / step_seconds, covered


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
