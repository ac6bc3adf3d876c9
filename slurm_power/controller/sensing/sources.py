"""Every source of the site in one list, and in the ledger when one goes bad and when it is good again."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from slurm_power.controller.sensing.repeats import Repeats
from slurm_power.model.reading import GpuReading, Quality
from slurm_power.model.snapshot import Snapshot
from slurm_power.telemetry import SiteTelemetry
from slurm_power.telemetry.circuits import SourceRow

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
# Slurm's list is read every few seconds; twice that without one is worth a word.
_LATE_LISTS = 2.0


def source_rows(
    telemetry: SiteTelemetry, snapshot: Snapshot, now_seconds: float, slurm_poll_seconds: float
) -> list[SourceRow]:
    """Meters, then nodes with their bad GPUs one by one, batteries, and the workload manager."""
    rows = telemetry.circuits.rows(now_seconds)
    for name in snapshot.site.nodes():
        rows += _node_rows(telemetry, snapshot, name, telemetry.coverage.of_node(name, now_seconds))
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


def _node_rows(
    telemetry: SiteTelemetry, snapshot: Snapshot, name: str, coverage_ratio: float | None
) -> list[SourceRow]:
    state = snapshot.nodes.get(name)
    if state is None:
        silent = SourceRow(
            source=f"powerd.{name}",
            measures=f"node {name}",
            watts=None,
            age_seconds=None,
            quality=Quality.INVALID,
            coverage_ratio=coverage_ratio,
            reason="its daemon is silent",
        )
        return [silent]
    bad = [gpu for gpu in state.gpus.values() if gpu.error]
    doubt = telemetry.circuits.node_reason(name) or telemetry.clock_skews.reason(name)
    reason = doubt or (f"{len(bad)} of {len(state.gpus)} GPUs do not answer" if bad else "")
    row = SourceRow(
        source=f"powerd.{name}",
        measures=f"node {name}, {len(state.gpus)} GPUs",
        watts=sum([gpu.power_watts for gpu in state.gpus.values() if not gpu.error]),
        age_seconds=state.age_seconds,
        quality=Quality.QUESTIONABLE if reason else Quality.GOOD,
        coverage_ratio=coverage_ratio,
        reason=reason,
    )
    return [row, *[_gpu_row(name, gpu, state.age_seconds) for gpu in bad]]


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


class SourceNotes:
    """Writes a line when a source is no longer good, when the reason changes, and when it is good again.

    What comes and goes for the same reason is counted instead.
    """

    def __init__(self, note: Callable[[str, str, str, str], None]) -> None:
        """``note`` takes actor, kind, subject and reason."""
        self._note = note
        self._bad: dict[str, tuple[Quality, str]] = {}
        self._repeats = Repeats()

    def look(self, rows: Iterable[SourceRow], now_seconds: float) -> None:
        """Compare with what was seen last; the first look tells only what is bad."""
        there = set()
        for row in rows:
            there.add(row.source)
            if row.quality is Quality.GOOD:
                if self._bad.pop(row.source, None) is not None:
                    self._tell(row.source, row.quality, f"{row.measures}: good again", now_seconds)
                continue
            words = row.quality, _NUMBER.sub("", row.reason)
            if self._bad.get(row.source) != words:
                self._bad[row.source] = words
                text = f"{row.measures}: {row.reason or row.quality.value}"
                self._tell(row.source, row.quality, text, now_seconds)
        for source in self._bad.keys() - there:
            del self._bad[source]
            self._tell(source, Quality.GOOD, "no longer read, or good again", now_seconds)
        self._repeats.flush(now_seconds)

    def _tell(self, source: str, quality: Quality, text: str, now_seconds: float) -> None:
        def write(more: str) -> None:
            self._note("controller", f"source {quality.value}", f"source:{source}", f"{text}{more}")

        # Ages and watts differ each time; the words are what has happened.
        self._repeats.tell(source, (quality, _NUMBER.sub("", text)), write, now_seconds)
