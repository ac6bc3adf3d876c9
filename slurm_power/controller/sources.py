"""Every source of the site in one list, and in the ledger when one goes bad and when it is good again."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from slurm_power.model.reading import GpuReading, Quality
from slurm_power.model.snapshot import Snapshot
from slurm_power.telemetry import SiteTelemetry
from slurm_power.telemetry.circuits import SourceRow

# What is better counts when it has lasted so long, twice as long after each time that it did not.
_GOOD_SECONDS = 10.0
_MOST_GOOD_SECONDS = 600.0
_FORGIVEN_SECONDS = 3600.0
_RANK = {Quality.GOOD: 0, Quality.QUESTIONABLE: 1, Quality.INVALID: 2}
# Slurm's list is read every few seconds; twice that without one is worth a word.
_LATE_LISTS = 2.0


def source_rows(
    telemetry: SiteTelemetry, snapshot: Snapshot, now_seconds: float, slurm_poll_seconds: float
) -> list[SourceRow]:
    """Meters, then nodes with their bad GPUs one by one, batteries, and the workload manager."""
    rows = telemetry.circuits.rows(now_seconds)
    for name in snapshot.site.nodes():
        first, *others = _node_rows(telemetry, snapshot, name)
        covered = telemetry.coverage.of_node(name, now_seconds)
        rows += [replace(first, coverage_ratio=covered), *others]
    for name, ess in snapshot.ess.items():
        reason = ", ".join(ess.alarms) or ("" if ess.remote else "operated locally")
        reason = telemetry.unproven.get(name, reason)
        rows.append(
            SourceRow(
                source=name,
                measures=f"battery on {snapshot.site.ess[name].circuit}",
                watts=ess.discharge_watts,
                age_seconds=ess.age_seconds,
                quality=ess.quality if ess.trusted else Quality.QUESTIONABLE,
                coverage_ratio=telemetry.coverage.of_ess(name, now_seconds),
                reason=reason or ("" if ess.quality is Quality.GOOD else "late or silent"),
            )
        )
    rows.append(_scheduler_row(snapshot, slurm_poll_seconds))
    return rows


def _node_rows(telemetry: SiteTelemetry, snapshot: Snapshot, name: str) -> list[SourceRow]:
    state = snapshot.nodes.get(name)
    if state is None:
        return [_node_row(name, None, None, Quality.INVALID, "its daemon is silent")]
    bad = [gpu for gpu in state.gpus.values() if gpu.error]
    doubt = telemetry.circuits.node_reason(name) or telemetry.clock_skews.reason(name)
    watts = sum(gpu.power_watts for gpu in state.gpus.values() if not gpu.error)
    reason = doubt or (f"{len(bad)} of {len(state.gpus)} GPUs do not answer" if bad else "")
    quality = Quality.QUESTIONABLE if reason else Quality.GOOD
    row = _node_row(f"{name}, {len(state.gpus)} GPUs", watts, state.age_seconds, quality, reason)
    return [row, *(_gpu_row(name, gpu, state.age_seconds) for gpu in bad)]


def _node_row(
    what: str, watts: float | None, age_seconds: float | None, quality: Quality, reason: str
) -> SourceRow:
    return SourceRow(
        source=f"powerd.{what.split(',', 1)[0]}",
        measures=f"node {what}",
        watts=watts,
        age_seconds=age_seconds,
        quality=quality,
        reason=reason,
    )


def _gpu_row(node: str, gpu: GpuReading, age_seconds: float) -> SourceRow:
    """A GPU that does not answer: unknown, whatever it said last."""
    return SourceRow(
        source=gpu.uuid,
        measures=f"GPU {gpu.slot} of {node}",
        watts=None,
        age_seconds=age_seconds,
        quality=Quality.INVALID,
        reason=gpu.error,
    )


def _scheduler_row(snapshot: Snapshot, poll_seconds: float) -> SourceRow:
    age_seconds = snapshot.jobs_age_seconds
    late = age_seconds is None or age_seconds > _LATE_LISTS * poll_seconds + 5.0
    reason = "" if not late else "never answered" if age_seconds is None else "no list of jobs"
    return SourceRow(
        source="slurmctld",
        measures=f"{len(snapshot.jobs)} jobs",
        watts=None,
        age_seconds=age_seconds,
        quality=Quality.INVALID if late else Quality.GOOD,
        reason=reason,
    )


def row_message(row: SourceRow) -> dict[str, Any]:
    """A row as JSON has it; what is unknown is null."""
    plain = {**asdict(row), "quality": row.quality.value}
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in plain.items()
    }


@dataclass(slots=True)
class _Bad:
    """What was last written of a source that is not good; ``better`` is what it has been since then."""

    written: Quality
    better: Quality | None = None
    better_since_seconds: float = 0.0
    lapses: int = 0


@dataclass(slots=True)
class _Past:
    """How often a source has recovered lately, for how long it is watched before the next recovery."""

    recoveries: int
    at_seconds: float


class SourceNotes:
    """Writes a line when a source is no longer good, and one when it is again and has stayed so for a while.

    What is worse is written at once, what is better only when it lasts, the longer the more often it did not:
    a source that comes and goes fills no ledger.
    """

    def __init__(self, note: Callable[[str, str, str, str], None]) -> None:
        """``note`` takes actor, kind, subject and reason."""
        self._note = note
        self._bad: dict[str, _Bad] = {}
        self._past: dict[str, _Past] = {}

    def look(self, rows: Iterable[SourceRow], now_seconds: float) -> None:
        """Compare with what was written last; the first look tells only what is bad."""
        there = set()
        for row in rows:
            there.add(row.source)
            known = self._bad.get(row.source)
            if known is None:
                if row.quality is not Quality.GOOD:
                    self._bad[row.source] = _Bad(row.quality)
                    self._write(row, "")
            elif _RANK[row.quality] > _RANK[known.written]:
                known.written, known.better = row.quality, None
                self._write(row, "")
            elif row.quality is known.written:
                known.lapses += known.better is not None
                known.better = None
            else:
                self._improved(row, known, now_seconds)
        for source in self._bad.keys() - there:
            del self._bad[source]
            self._note("controller", "source good", f"source:{source}", "no longer read, or good again")

    def _improved(self, row: SourceRow, known: _Bad, now_seconds: float) -> None:
        if known.better is not row.quality:
            known.better, known.better_since_seconds = row.quality, now_seconds
        past = self._past.get(row.source)
        if past is not None and now_seconds - past.at_seconds > _FORGIVEN_SECONDS:
            past = None
        recoveries = 0 if past is None else past.recoveries
        patience_seconds = min(_GOOD_SECONDS * 2.0**recoveries, _MOST_GOOD_SECONDS)
        if now_seconds - known.better_since_seconds < patience_seconds:
            return
        lapses = f"; it came and went {known.lapses} times meanwhile" if known.lapses else ""
        self._past[row.source] = _Past(recoveries + 1, now_seconds)
        if row.quality is Quality.GOOD:
            del self._bad[row.source]
        else:
            self._bad[row.source] = _Bad(row.quality)
        self._write(row, lapses)

    def _write(self, row: SourceRow, more: str) -> None:
        subject = f"source:{row.source}"
        if row.quality is Quality.GOOD:
            self._note("controller", "source good", subject, f"{row.measures}: good again{more}")
            return
        text = f"{row.measures}: {row.reason or row.quality.value}{more}"
        self._note("controller", f"source {row.quality.value}", subject, text)
