"""How the last forecasts did, and whether the blend or the best naive forecast should speak.

On one series in many no weighing of experts beats "as yesterday" or "as a week ago" for a while. Then that
is said instead, and the blend goes on being judged in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slurm_power.forecast.issues import Totals
from slurm_power.model.forecast import RecentScore

# So much worse than the best naive forecast the blend has to be: half of what may be due to chance over two
# weeks, measured on public series; it speaks again as soon as it is no worse.
WORSE_RATIO = 1.05
NO_WORSE_RATIO = 1.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks: a naive forecast's name, or "" for the blend, and why."""

    naive: str = ""
    reason: str = ""


def recent_score(totals: Totals, naive: Sequence[tuple[int, str]]) -> RecentScore | None:
    """Over all closed issues; ``naive``: which of the judged are naive. None before one is closed."""
    steps = float(totals.steps.sum())
    if steps <= 0.0:
        return None
    best = _best_naive(totals, naive)
    absolute, signed, inside = (float(total) for total in totals.said.sum(axis=0))
    return RecentScore(
        forecasts=len(totals.steps),
        mae_watts=absolute / steps,
        best_naive=best[1] if best else "",
        best_naive_mae_watts=best[0] / steps if best else 0.0,
        coverage_ratio=inside / steps,
        bias_watts=signed / steps,
    )


def next_speaker(
    now: Speaker, totals: Totals, naive: Sequence[tuple[int, str]], least_issues: int
) -> Speaker:
    """Who speaks from here on; below ``least_issues`` closed ones the blend does."""
    best = _best_naive(totals, naive)
    if best is None or len(totals.steps) < least_issues:
        return Speaker()
    error, name = best
    ours = float(totals.absolute[:, -1].sum())
    if ours <= (NO_WORSE_RATIO if now.naive else WORSE_RATIO) * error:
        return Speaker()
    worse = f"{ours / error - 1.0:.0%} worse" if error > 0.0 else "worse"
    return Speaker(name, f"the blend was {worse} than {name} over the last {len(totals.steps)} forecasts")


def _best_naive(totals: Totals, naive: Sequence[tuple[int, str]]) -> tuple[float, str] | None:
    """The smallest summed error, and whose, of those that spoke at each closed issue."""
    sums = [(float(totals.absolute[:, column].sum()), name) for column, name in naive]
    return min(((total, name) for total, name in sums if total == total), default=None)  # noqa: PLR0124  # NaN
