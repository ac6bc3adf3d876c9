"""What the meters said in a span of time, as columns of equal steps; gaps stay gaps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

import numpy as np
from numpy.typing import NDArray

from slurm_power.model.series import Point, Resolution
from slurm_power.plan.local_calendar import LocalCalendar
from slurm_power.ports import SeriesReader

Values = NDArray[np.float64]

QUARTER_SECONDS = 900.0
# Of a step with less of its time measured nothing is said.
LEAST_STEP_COVERAGE = 0.5
# So many points of each series are held at once, however long the span.
_PAGE_STEPS = 3000
_LOOK_SECONDS = 3600.0
_LOOK_EACH_SECONDS = 6.0 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Battery:
    """One battery's columns, shape (n,), NaN where unknown; discharge is positive."""

    discharge_watts: Values
    soc_ratio: Values
    soh_ratio: Values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MonthColumns:
    """Steps of one circuit from ``start_seconds`` on, shape (n,); NaN where nothing is known.

    Watts are means over the step. ``highest_watts`` is the highest tick, ``coverage_ratio`` the measured
    share of each step. ``load_watts`` is the load without us as it was reckoned each second: import, what
    batteries gave, and what caps withheld.
    """

    circuit: str
    start_seconds: float
    step_seconds: float
    import_watts: Values
    highest_watts: Values
    coverage_ratio: Values
    limit_watts: Values
    highest_limit_watts: Values
    load_watts: Values
    withheld_watts: Values
    batteries: Mapping[str, Battery]

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.import_watts)

    @property
    def times(self) -> Values:
        """Unix time of the begin of each step."""
        return self.start_seconds + self.step_seconds * np.arange(self.steps, dtype=np.float64)

    @property
    def end_seconds(self) -> float:
        """Where the last step ends."""
        return self.start_seconds + self.step_seconds * self.steps

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which steps were metered."""
        return ~np.isnan(self.import_watts)

    @property
    def coverage(self) -> float:
        """The measured share of the whole span."""
        return float(self.coverage_ratio.mean()) if self.steps else 0.0

    @property
    def discharge_watts(self) -> Values:
        """All batteries together; one that is not known counts as resting."""
        total = np.zeros(self.steps)
        for battery in self.batteries.values():
            total += np.nan_to_num(battery.discharge_watts)
        return total

    def calendar(self, zone: tzinfo) -> LocalCalendar:
        """The local clock of the steps."""
        return LocalCalendar.from_epoch(self.times, zone)

    def gaps(self) -> list[tuple[float, float]]:
        """Spans without meter data, as (from, to) in Unix seconds."""
        edges = np.flatnonzero(np.diff(np.concatenate(([False], ~self.known, [False])).astype(np.int8)))
        times = self.start_seconds + self.step_seconds * edges
        return list(zip(times[::2].tolist(), times[1::2].tolist(), strict=True))


def month_bounds(label: str, zone: tzinfo) -> tuple[float, float]:
    """Unix time of begin and end of a calendar month such as 2026-11; raises ValueError."""
    try:
        # Of the local clock on purpose: a month begins at its midnight.
        first = datetime.strptime(label, "%Y-%m").replace(tzinfo=zone)
    except ValueError:
        raise ValueError(f"{label!r} is no month; write 2026-11") from None
    months = first.year * 12 + first.month
    end = datetime(months // 12, months % 12 + 1, 1, tzinfo=zone)
    return first.timestamp(), end.timestamp()


def month_before(label: str, back: int = 1) -> str:
    """The label of the month before, or further ``back``."""
    year, month = (int(part) for part in label.split("-"))
    months = year * 12 + month - 1 - back
    return f"{months // 12:04}-{months % 12 + 1:02}"


def circuits_of(names: Sequence[str]) -> list[str]:
    """The circuits that there are series of."""
    return [
        name.removeprefix("circuit.").removesuffix(".watts")
        for name in names
        if name.startswith("circuit.") and name.endswith(".watts")
    ]


def largest_circuit(recorded: SeriesReader, start_seconds: float, end_seconds: float) -> str | None:
    """The circuit that drew most, by the last hour that tells: the grid connection. None if none does.

    A site may have thousands of circuits, so only single hours of all are looked at, the latest first.
    """
    names = {f"circuit.{circuit}.watts": circuit for circuit in circuits_of(recorded.names())}
    at = end_seconds - _LOOK_SECONDS
    while names and at > start_seconds - _LOOK_EACH_SECONDS:
        since = max(at, start_seconds)
        found = _columns(recorded, list(names), since, since + _LOOK_SECONDS, QUARTER_SECONDS)
        means = {
            name: mean[~np.isnan(mean)].mean()
            for name, (mean, _, _) in found.items()
            if not np.isnan(mean).all()
        }
        if means:
            return names[max(means, key=lambda name: float(means[name]))]
        at -= _LOOK_EACH_SECONDS
    return None


def read_columns(
    recorded: SeriesReader,
    circuit: str,
    start_seconds: float,
    end_seconds: float,
    *,
    step_seconds: float = QUARTER_SECONDS,
    ess_names: Sequence[str] | None = None,
) -> MonthColumns:
    """Read a span in steps of a quarter of an hour, or of a minute; memory does not grow with what is stored.

    ``ess_names`` are the batteries behind the circuit; None: all. Raises StoreError.
    """
    there = set(recorded.names())
    if ess_names is None:
        ess_names = sorted(
            name.removeprefix("ess.").removesuffix(".discharge_watts")
            for name in there
            if name.startswith("ess.") and name.endswith(".discharge_watts")
        )
    grid = f"circuit.{circuit}."
    wanted = [f"{grid}watts", f"{grid}limit_watts", f"{grid}load_watts", "caps.withheld_watts"]
    kinds = ("discharge_watts", "soc_ratio", "soh_ratio")
    wanted += [f"ess.{name}.{kind}" for name in ess_names for kind in kinds]
    found = _columns(
        recorded, [name for name in wanted if name in there], start_seconds, end_seconds, step_seconds
    )
    steps = round((end_seconds - start_seconds) / step_seconds)
    unknown = (np.full(steps, np.nan), np.full(steps, np.nan), np.zeros(steps))

    def column(name: str) -> tuple[Values, Values, Values]:
        return found.get(name, unknown)

    imported, highest, coverage = column(f"{grid}watts")
    limit, highest_limit, _ = column(f"{grid}limit_watts")
    return MonthColumns(
        circuit=circuit,
        start_seconds=start_seconds,
        step_seconds=step_seconds,
        import_watts=imported,
        highest_watts=highest,
        coverage_ratio=coverage,
        limit_watts=limit,
        highest_limit_watts=highest_limit,
        load_watts=column(f"{grid}load_watts")[0],
        withheld_watts=column("caps.withheld_watts")[0],
        batteries={
            name: Battery(**{kind: column(f"ess.{name}.{kind}")[0] for kind in kinds}) for name in ess_names
        },
    )


def _columns(
    recorded: SeriesReader,
    names: Sequence[str],
    start_seconds: float,
    end_seconds: float,
    step_seconds: float,
) -> dict[str, tuple[Values, Values, Values]]:
    """(mean, highest, coverage) of each series; NaN where less than half of a step was measured."""
    steps = max(0, round((end_seconds - start_seconds) / step_seconds))
    resolution = Resolution.QUARTER_HOUR if step_seconds >= QUARTER_SECONDS else Resolution.MINUTE
    found = {name: (np.full(steps, np.nan), np.full(steps, np.nan), np.zeros(steps)) for name in names}
    for since, until in _pages(start_seconds, end_seconds, step_seconds):
        pages = recorded.read(
            names, datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC), resolution
        )
        for name, points in pages.items():
            _place(points, start_seconds, step_seconds, found[name])
    return found


def _pages(start_seconds: float, end_seconds: float, step_seconds: float) -> Iterator[tuple[float, float]]:
    at = start_seconds
    while at < end_seconds:
        until = min(at + _PAGE_STEPS * step_seconds, end_seconds)
        yield at, until
        at = until


def _place(
    points: Sequence[Point], start_seconds: float, step_seconds: float, columns: tuple[Values, Values, Values]
) -> None:
    mean, highest, coverage = columns
    for point in points:
        step = int((point.at_seconds - start_seconds) // step_seconds)
        if not 0 <= step < len(mean):
            continue
        # What is measured counts as measured, also where it is too little to speak for its step.
        coverage[step] = max(coverage[step], point.coverage_ratio)
        if point.mean is not None and point.coverage_ratio >= LEAST_STEP_COVERAGE:
            mean[step] = point.mean
            highest[step] = point.mean if point.most is None else point.most


def filled(columns: MonthColumns, zone: tzinfo) -> Values:
    """The import with gaps filled: by the mean of the same time of day, else of all. NaN if nothing is known.

    A bill needs some figure for each step, and the utility's own meter has gone on counting.
    """
    watts, known = columns.import_watts, columns.known
    if known.all() or not known.any():
        return watts.copy()
    slot = (columns.calendar(zone).minute // 15).astype(np.int64)
    counts = np.bincount(slot[known], minlength=96)
    sums = np.bincount(slot[known], weights=watts[known], minlength=96)
    typical = np.where(counts > 0, sums / np.maximum(counts, 1), watts[known].mean())
    return np.where(known, watts, typical[slot])
