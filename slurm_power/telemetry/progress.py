"""What running jobs tell of themselves: rows of nodes into `JobProgress`, and those of all nodes into one."""

import logging
from collections.abc import Collection, Iterable, Mapping

from slurm_power.model.progress import JobProgress
from slurm_power.wire import Message

_MOST_BATCH = 1 << 30
_MOST_STEP = 1 << 53
_MOST_RATE = 1e12
_MOST_AGE_SECONDS = 366 * 86_400.0

log = logging.getLogger(__name__)


class ProgressReader:
    """Reads what jobs tell in the reports of all nodes. These are users' words: a wrong one costs no more.

    To refuse the whole report for it would let any user take a node out of our sight.
    """

    def __init__(self) -> None:
        self._wrong: set[str] = set()

    def of(self, node: str, message: Message) -> dict[str, JobProgress]:
        """The progress of each job in a node's report; nothing where that is not what the protocol says."""
        try:
            found = progress_of(message)
        except ValueError as error:
            if node not in self._wrong:
                log.warning("%s: %s; the progress of its jobs is left out", node, error)
            self._wrong.add(node)
            return {}
        self._wrong.discard(node)
        return found


def progress_of(message: Message) -> dict[str, JobProgress]:
    """The progress of each job in a node's telemetry; a node of before says none. Raises ValueError."""
    rows = message.get("progress") or {}
    if not isinstance(rows, dict):
        raise ValueError("progress: not an object")
    return {str(job_id): _progress(row) for job_id, row in rows.items()}


def _progress(row: object) -> JobProgress:
    if not isinstance(row, dict):
        raise ValueError("progress: not an object for each job")
    step = _count(row, "step", 0, _MOST_STEP)
    if step is None:
        raise ValueError("progress: step: missing")
    return JobProgress(
        step=step,
        samples_per_second=_amount(row, "samples_per_second", _MOST_RATE),
        age_seconds=_amount(row, "age_seconds", _MOST_AGE_SECONDS),
        global_batch=_count(row, "global_batch", 1, _MOST_BATCH),
        micro_batch=_count(row, "micro_batch", 1, _MOST_BATCH),
        max_micro_batch=_count(row, "max_micro_batch", 1, _MOST_BATCH),
        checkpoints=row.get("checkpoints") is True,
        checkpoint_step=_count(row, "checkpoint_step", 0, _MOST_STEP),
    )


def progress_together(words: Collection[JobProgress]) -> JobProgress:
    """A job on several nodes: rates added up, the step of the slowest, only what all of them can do.

    The age is that of the oldest word, since a part of the sum is that old.
    """
    saved = [word.checkpoint_step for word in words if word.checkpoint_step is not None]
    return JobProgress(
        step=min(word.step for word in words),
        samples_per_second=sum(word.samples_per_second for word in words),
        age_seconds=max(word.age_seconds for word in words),
        global_batch=_least(word.global_batch for word in words),
        micro_batch=_least(word.micro_batch for word in words),
        max_micro_batch=_least(word.max_micro_batch for word in words),
        checkpoints=all(word.checkpoints for word in words),
        checkpoint_step=max(saved, default=None),
    )


def _least(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if None in found else min(value for value in found if value is not None)


def _count(row: Mapping[str, object], key: str, least: int, most: int) -> int | None:
    value = row.get(key)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise ValueError(f"progress: {key}: not a whole number from {least} to {most}")
    return value


def _amount(row: Mapping[str, object], key: str, most: float) -> float:
    value = row.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value <= most:
        raise ValueError(f"progress: {key}: not a number from 0 to {most:g}")
    return float(value)
