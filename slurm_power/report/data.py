"""What a report says, as plain values: series, jobs, decisions, events, and the verdict over them."""

from dataclasses import dataclass
from datetime import datetime

from slurm_power.report.live.trace import ForecastTrace, TruePoint

Column = tuple[float | None, ...]

# What the levers need: a meter refresh, a cycle, and a battery's ramp, each about a second or two.
DEFAULT_SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Columns of one length; ``seconds`` count from the report's start. None is unknown.

    ``withheld_watts`` is what caps kept from being drawn, as seen at the circuit; discharge is positive.
    ``soc_ratio`` is the mean charge of all storage.
    """

    seconds: tuple[float, ...]
    import_watts: Column
    limit_watts: Column
    ess_discharge_watts: Column
    withheld_watts: Column
    soc_ratio: Column

    @property
    def unmitigated_watts(self) -> Column:
        """What would have been drawn without battery and caps: import + discharge + withheld."""
        rows = zip(self.import_watts, self.ess_discharge_watts, self.withheld_watts, strict=True)
        return tuple(
            None if watts is None else watts + (ess or 0.0) + (caps or 0.0) for watts, ess, caps in rows
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """One job's account. Watts count all its GPUs together, ``lowest_cap_watts`` one of them."""

    job_id: str
    user: str
    name: str
    state: str
    workload: str
    flex: str
    gpu_count: int
    energy_joules: float | None
    mean_watts: float | None
    peak_watts: float | None
    lowest_cap_watts: float | None = None
    slowdown_ratio: float = 0.0
    held_seconds: float = 0.0
    coverage_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One line of the ledger."""

    at: datetime
    actor: str
    kind: str
    subject: str
    reason: str
    saved_watts: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSpan:
    """A temporary lower limit, in seconds from the report's start."""

    circuit: str
    limit_watts: float
    start_seconds: float
    end_seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement. An excursion above the limit counts when it lasts longer than ``settle_seconds``.

    ``unfinished`` names jobs that have not ended well, ``unrestored`` what still stands changed.
    """

    limit_held: bool
    worst_excursion_watts: float
    longest_excursion_seconds: float
    unmeasured_seconds: float
    settle_seconds: float
    unfinished: tuple[str, ...] = ()
    unrestored: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether everything was as it should be."""
        return self.limit_held and not self.unfinished and not self.unrestored


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything a report shows."""

    title: str
    circuit: str
    started: datetime
    series: Series
    jobs: tuple[JobSummary, ...]
    decisions: tuple[Decision, ...]
    events: tuple[EventSpan, ...]
    verdict: Verdict
    forecast: ForecastTrace | None = None
    proof: tuple[str, ...] = ()

    @property
    def truth(self) -> tuple[TruePoint, ...]:
        """The load that forecasts speak of, by Unix time: what would have been drawn with nothing done."""
        began = self.started.timestamp()
        rows = zip(self.series.seconds, self.series.unmitigated_watts, strict=True)
        return tuple((began + seconds, watts) for seconds, watts in rows)

    @property
    def peak_watts(self) -> float | None:
        """The highest reading at the circuit."""
        return _peak(self.series.import_watts)

    @property
    def unmitigated_peak_watts(self) -> float | None:
        """The highest value without battery and caps."""
        return _peak(self.series.unmitigated_watts)

    @property
    def discharged_joules(self) -> float:
        """Energy the storage gave (charging does not count against it)."""
        return _integral(
            self.series.seconds, tuple(max(0.0, w or 0.0) for w in self.series.ess_discharge_watts)
        )

    @property
    def withheld_joules(self) -> float:
        """Energy that caps kept from being drawn, as far as it was only delayed included."""
        return _integral(self.series.seconds, self.series.withheld_watts)


def judge(
    series: Series,
    *,
    settle_seconds: float = DEFAULT_SETTLE_SECONDS,
    unfinished: tuple[str, ...] = (),
    unrestored: tuple[str, ...] = (),
) -> Verdict:
    """Judge a series of 1-s means against its limit.

    A row without a reading neither ends nor makes an excursion; a limit that was not measured for longer
    than ``settle_seconds`` on end has not been shown to be held.
    """
    worst_watts = longest = unmeasured_longest = 0.0
    above_since: float | None = None
    blind_since: float | None = None
    for index, (start, watts, limit) in enumerate(
        zip(series.seconds, series.import_watts, series.limit_watts, strict=True)
    ):
        end = series.seconds[index + 1] if index + 1 < len(series.seconds) else start + 1.0
        if watts is None:
            blind_since = start if blind_since is None else blind_since
            unmeasured_longest = max(unmeasured_longest, end - blind_since)
            continue
        blind_since = None
        if limit is None or watts <= limit:
            above_since = None
            continue
        above_since = start if above_since is None else above_since
        worst_watts = max(worst_watts, watts - limit)
        longest = max(longest, end - above_since)
    measured = any(watts is not None for watts in series.import_watts)
    return Verdict(
        limit_held=measured and longest <= settle_seconds and unmeasured_longest <= settle_seconds,
        worst_excursion_watts=worst_watts,
        longest_excursion_seconds=longest,
        unmeasured_seconds=unmeasured_longest,
        settle_seconds=settle_seconds,
        unfinished=unfinished,
        unrestored=unrestored,
    )


def _peak(column: Column) -> float | None:
    return max((value for value in column if value is not None), default=None)


def _integral(seconds: tuple[float, ...], watts: Column) -> float:
    """Joules of a step function: each value holds until the next row."""
    steps = zip(seconds, seconds[1:], watts, strict=False)
    return sum((end - start) * (value or 0.0) for start, end, value in steps)
