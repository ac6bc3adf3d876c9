"""The blend beside statsforecast's models, from the same few origins: a peer takes seconds for each."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from slurm_power.forecast.backtest import Score, model_named, pick_origins, run, score
from slurm_power.forecast.experts import Seasons, Values
from slurm_power.forecast.peers import PEERS

OURS = "blend"
COMPARED = (OURS, "state_space", *PEERS)
# What the issue asks for: a twentieth of the time of the most accurate peer.
MOST_TIME_RATIO = 1.0 / 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRow:
    """One model on one series."""

    name: str
    model: str
    origins: int
    score: Score
    milliseconds: float


def compare(name: str, values: Values, seasons: Seasons, model: str, origins: int) -> PeerRow:
    """Forecast from a few origins, spread over the series as ever."""
    chosen = pick_origins(len(values), seasons, origins)
    found = list(run(values, seasons, chosen, model_named(model, seasons, time.monotonic), time.monotonic))
    if not found:
        raise ValueError(f"{name}: {model} had nothing to say")
    return PeerRow(
        name=name,
        model=model,
        origins=len(found),
        score=score(values, seasons, found),
        milliseconds=1000.0 * statistics.median(origin.seconds for origin in found),
    )


def print_rows(rows: Sequence[PeerRow]) -> None:
    """As a table, and the geometric means over the series."""
    if not rows:
        return
    print("\n| series, 24 h | origins | model | MASE | to day naive | to best naive | covers | ms |")
    print(f"|{'---|' * 8}")
    for row in sorted(rows, key=lambda row: (row.name, COMPARED.index(row.model))):
        figures = row.score
        ratios = (figures.mase, figures.to_day_naive, figures.to_best_naive)
        print(
            f"| {row.name} | {row.origins} | {row.model} |"
            + "".join(" - |" if ratio is None else f" {ratio:.3f} |" for ratio in ratios)
            + f" {figures.coverage_ratio:.2f} | {row.milliseconds:,.1f} |"
        )
    for model in COMPARED:
        if any(row.model == model for row in rows):
            means = f"{_accuracy(rows, model):.3f} | | {_milliseconds(rows, model):,.1f}"
            print(f"| all | | {model} | | | {means} |")


def figures_of(rows: Sequence[PeerRow]) -> list[tuple[str, float, float, float]]:
    """What is wanted beside peers: name, value, least and most."""
    peers = [model for model in PEERS if any(row.model == model for row in rows)]
    if not peers:
        return []
    best = min(peers, key=lambda model: _accuracy(rows, model))
    ours = _milliseconds(rows, OURS) / _milliseconds(rows, best)
    return [(f"24 h, time of a forecast / {best}'s, the most accurate peer", ours, 0.0, MOST_TIME_RATIO)]


def _accuracy(rows: Sequence[PeerRow], model: str) -> float:
    """Geometric mean over the series of MAE / best naive."""
    ratios = [row.score.to_best_naive or math.inf for row in rows if row.model == model]
    return statistics.geometric_mean(ratios)


def _milliseconds(rows: Sequence[PeerRow], model: str) -> float:
    return statistics.geometric_mean(max(row.milliseconds, 1e-3) for row in rows if row.model == model)
