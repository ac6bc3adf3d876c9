"""What of a page cannot be true, in a few words however long the page is."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import median

from slurm_power.bridge.grid_events import Price, printable

_MOST_EXAMPLE = 40
# A page that says so was made before it was read, but for the difference of two clocks.
_MOST_AHEAD = timedelta(minutes=5)
# Wh for kWh, kWh for MWh, g for kg, W for kW: whatever is mixed up is so by a thousand.
_THOUSAND = 1000.0
_ALIKE_FACTOR = 2.0
_FEWEST_VALUES = 3
_LEAST_SHARE = 0.25


class RowDoubtError(ValueError):
    """A row cannot be used. ``kind`` is the same for all rows of that fault, ``example`` is this one's."""

    def __init__(self, kind: str, example: object = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.example = printable(example, _MOST_EXAMPLE)


class RowDoubts:
    """Faults of rows by their kind: each is one sentence with a count and its first example."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, int]] = {}

    def add(self, error: RowDoubtError) -> None:
        """Count one row."""
        example, count = self._found.get(error.kind, (error.example, 0))
        self._found[error.kind] = (example, count + 1)

    def said(self) -> list[str]:
        """One sentence for each kind, as they came."""
        return [
            f"{example} {kind}".strip() + (f" ({count} such rows)" if count > 1 else "")
            for kind, (example, count) in self._found.items()
        ]


def reaches_less(ended_at: datetime | None, told: Sequence[Price], now: datetime) -> list[str]:
    """That a page reaches less far than it did; ``ended_at``: how far that was."""
    if ended_at is None or not told or ended_at <= now or told[-1].ends_at >= ended_at:
        return []
    ends, ended = moment_text(told[-1].ends_at), moment_text(ended_at)
    return [
        f"it went backwards: it ends at {ends}, before it ended at {ended}; what it said before stands there"
    ]


def made_before(made_at: datetime | None, known_at: datetime | None) -> str:
    """That a page is older than one that was read before, empty where it is not."""
    if made_at is None or known_at is None or made_at >= known_at:
        return ""
    return (
        f"it went backwards: made at {moment_text(made_at)}, before it was made at {moment_text(known_at)};"
        " what it said before stands"
    )


def made_ahead(made_at: datetime, now: datetime) -> str:
    """That a page claims to be from the future, empty where it does not."""
    if made_at - now <= _MOST_AHEAD:
        return ""
    return f"it says that it was made at {moment_text(made_at)}, which is not yet"


def usual_of(told: Sequence[Price]) -> float | None:
    """The magnitude that values have; None where they are too few to tell."""
    values = _magnitudes(told)
    return median(values) if len(values) >= _FEWEST_VALUES else None


def unit_doubts(usual: float | None, told: Sequence[Price]) -> list[str]:
    """That values are a thousand times the ``usual``, or those beside them: as if units were mixed up."""
    values = _magnitudes(told)
    usual = usual_of(told) if usual is None else usual
    if usual is None:
        return []
    for factor, words in ((_THOUSAND, "a thousand times"), (1.0 / _THOUSAND, "a thousandth of")):
        low, high = usual * factor / _ALIKE_FACTOR, usual * factor * _ALIKE_FACTOR
        odd = sum(low <= value <= high for value in values)
        if odd >= max(_FEWEST_VALUES, _LEAST_SHARE * len(values)):
            return [f"{odd} of its {len(values)} values are {words} what is usual there; is the unit right?"]
    return []


def moment_text(at: datetime) -> str:
    """A moment to the minute, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%MZ}"


def _magnitudes(prices: Sequence[Price]) -> list[float]:
    return [abs(one.value) for one in prices if one.value]
