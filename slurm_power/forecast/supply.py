"""What the supply allows and costs ahead, on a forecast's grid: limit, price, demand charge and carbon.

What nobody has said is None: a price is never made up, and a limit never becomes looser for want of news.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from statistics import median

from slurm_power.model.site import Site
from slurm_power.model.snapshot import LimitEvent
from slurm_power.model.tariff import Rates, Tariff

# (from, to, value) in Unix seconds; pieces follow one another without a gap.
Piece = tuple[float, float, float | None]

# Clocks are put forward and back at multiples of this in UTC, in every zone of today.
_CLOCK_CHANGE_SECONDS = 900.0
# A step ends just before the next one begins.
_AN_INSTANT_SECONDS = 0.001
_LONE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldValues:
    """Values that each hold from their moment until the next one's; the last one until ``end_seconds``.

    ``seconds`` (Unix time) rise. A value of None says that nothing is known from then on.
    """

    seconds: tuple[float, ...]
    values: tuple[float | None, ...]
    end_seconds: float = math.inf

    def pieces(self, start_seconds: float, end_seconds: float) -> Iterator[Piece]:
        """What holds between two moments, in order, without a gap."""
        at = start_seconds
        index = bisect_right(self.seconds, at)
        while at < end_seconds:
            following = self.seconds[index] if index < len(self.seconds) else math.inf
            value = self.values[index - 1] if index else None
            if index == len(self.seconds) and index:
                if at >= self.end_seconds:
                    value = None
                else:
                    following = self.end_seconds
            until = min(following, end_seconds)
            if until > at:
                yield at, until, value
            at = max(at, until)
            if index < len(self.seconds) and at >= self.seconds[index]:
                index += 1

    def value_at(self, moment_seconds: float) -> float | None:
        """What holds at a moment."""
        index = bisect_right(self.seconds, moment_seconds)
        return self.values[index - 1] if index and moment_seconds < self.end_seconds else None


def fresh(held: HeldValues) -> HeldValues:
    """The same, but no value outlasts twice the usual time between two of them; a lone one lasts an hour."""
    known = [at for at, value in zip(held.seconds, held.values, strict=True) if value is not None]
    longest = 2.0 * median(pair[1] - pair[0] for pair in pairwise(known)) if len(known) > 1 else _LONE_SECONDS
    steps: list[tuple[float, float | None]] = []
    nexts = (*held.seconds[1:], held.end_seconds)
    for at, until, value in zip(held.seconds, nexts, held.values, strict=True):
        steps.append((at, value))
        if value is not None and until - at > longest:
            steps.append((at + longest, None))
    return HeldValues(
        seconds=tuple(at for at, _ in steps),
        values=tuple(value for _, value in steps),
        end_seconds=held.end_seconds,
    )


def overlaid(first: HeldValues | None, second: HeldValues | None) -> HeldValues | None:
    """What ``first`` says, and what ``second`` says wherever the first knows nothing."""
    if first is None or second is None:
        return second if first is None else first
    ends = {each.end_seconds for each in (first, second) if math.isfinite(each.end_seconds)}
    moments = tuple(sorted({*first.seconds, *second.seconds, *ends}))
    values = (second.value_at(at) if (value := first.value_at(at)) is None else value for at in moments)
    return HeldValues(
        seconds=moments, values=tuple(values), end_seconds=max(first.end_seconds, second.end_seconds)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """All that is known of the grid connection's supply. ``zone`` is the site's, for the hours of the tariff.

    ``price_per_kwh`` comes before the tariff's price, which counts where it says nothing.
    """

    price_per_kwh: HeldValues | None = None
    carbon_g_per_kwh: HeldValues | None = None
    limit_watts: HeldValues | None = None
    tariff: Tariff | None = None
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyAhead:
    """The supply on a grid: step ``i`` is [start + i * step, start + (i + 1) * step).

    Limits are the lowest of each step, demand prices the highest, prices and carbon means over its time: None
    where any part of the step is unknown.
    """

    start_seconds: float
    step_seconds: float
    limit_watts: tuple[float, ...]
    price_per_kwh: tuple[float | None, ...]
    demand_price_per_kw: tuple[float | None, ...]
    carbon_g_per_kwh: tuple[float | None, ...]

    def as_message(self) -> dict[str, list[float] | list[float | None] | None]:
        """Give its columns as lists; None in place of a column of which nothing is known."""

        def known(column: tuple[float | None, ...]) -> list[float | None] | None:
            return list(column) if any(value is not None for value in column) else None

        return {
            "limit_watts": list(self.limit_watts),
            "price_per_kwh": known(self.price_per_kwh),
            "demand_price_per_kw": known(self.demand_price_per_kw),
            "carbon_g_per_kwh": known(self.carbon_g_per_kwh),
        }


def supply_ahead(
    supply: Supply,
    site: Site,
    circuit: str,
    *,
    start_seconds: float,
    step_seconds: float,
    steps: int,
    events: Iterable[LimitEvent] = (),
    now_seconds: float | None = None,
) -> SupplyAhead:
    """Put the supply of a circuit on the grid of a forecast.

    ``now_seconds`` is the moment that the events' seconds count from (by default the start of the grid). The
    supply's own limit holds at the grid connection, prices and carbon hold everywhere.
    """
    now = start_seconds if now_seconds is None else now_seconds
    at_root = site.circuits[circuit].parent is None
    limits = supply.limit_watts if at_root else None
    own_events = [event for event in events if event.circuit == circuit]
    edges = [start_seconds + index * step_seconds for index in range(steps + 1)]
    bounds = list(pairwise(edges))
    rates = [list(_tariff_pieces(supply, start, end)) for start, end in bounds]
    return SupplyAhead(
        start_seconds=start_seconds,
        step_seconds=step_seconds,
        limit_watts=tuple(
            min(
                [site.circuits[circuit].ceiling_watts]
                + [watts for _, _, watts in _held(limits, start, end) if watts is not None]
                + [
                    event.lowest_between(
                        start - now, end - now - _AN_INSTANT_SECONDS, site.circuits[circuit].ceiling_watts
                    )
                    for event in own_events
                ]
            )
            for start, end in bounds
        ),
        price_per_kwh=tuple(
            _mean(_with_tariff(_held(supply.price_per_kwh, start, end), pieces))
            for (start, end), pieces in zip(bounds, rates, strict=True)
        ),
        demand_price_per_kw=tuple(_highest_demand(pieces) for pieces in rates),
        carbon_g_per_kwh=tuple(_mean(_held(supply.carbon_g_per_kwh, start, end)) for start, end in bounds),
    )


def _held(values: HeldValues | None, start: float, end: float) -> list[Piece]:
    return [(start, end, None)] if values is None else list(values.pieces(start, end))


def _tariff_pieces(supply: Supply, start: float, end: float) -> Iterator[tuple[float, float, Rates | None]]:
    """What the tariff says between two moments, cut where a period or the local clock may change."""
    if supply.tariff is None:
        yield start, end, None
        return
    at = start
    while at < end:
        local = datetime.fromtimestamp(at, supply.zone)
        clock_change = (math.floor(at / _CLOCK_CHANGE_SECONDS) + 1) * _CLOCK_CHANGE_SECONDS
        until = min(end, clock_change, at + supply.tariff.seconds_to_next_edge(local))
        yield at, until, supply.tariff.rates(local)
        at = until


def _with_tariff(pieces: list[Piece], rates: list[tuple[float, float, Rates | None]]) -> Iterator[Piece]:
    """Fill the unknown pieces with the tariff's price."""
    for start, end, value in pieces:
        if value is not None:
            yield start, end, value
            continue
        for rate_start, rate_end, rate in rates:
            low, high = max(start, rate_start), min(end, rate_end)
            if low < high:
                yield low, high, None if rate is None else rate.price_per_kwh


def _mean(pieces: Iterable[Piece]) -> float | None:
    total = seconds = 0.0
    for start, end, value in pieces:
        if value is None:
            return None
        total += (end - start) * value
        seconds += end - start
    return total / seconds if seconds else None


def _highest_demand(pieces: list[tuple[float, float, Rates | None]]) -> float | None:
    """A peak anywhere in the step is paid for at the rate of its moment, so the highest counts."""
    found = [rate.demand_price_per_kw for _, _, rate in pieces if rate is not None]
    return max((price for price in found if price is not None), default=None)
