"""What running jobs are asked, in a file for each of them, and what they tell of their progress.

A word to a job is leased: the file says itself until when it holds, and is removed then, at the job's end and
when the job starts again. Jobs only ever read the files; what they tell comes over the hook socket.
"""

import json
import logging
import os
import stat
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slurm_power import clock
from slurm_power.config.node_record import advice_directory
from slurm_power.node.jobs import NodeJobs
from slurm_power.node.pauses import JOB_ID
from slurm_power.node.requests import MAX_TEXT, MAX_TTL_SECONDS, job_id_of
from slurm_power.wire import Message, WireError

ACTIONS = ("run", "pause", "checkpoint")
MAX_FILE_BYTES = 64 * 1024
MAX_BATCH = 1 << 30
MAX_STEP = 1 << 53
MAX_RATE = 1e12
MAX_AGE_SECONDS = 86_400.0
MAX_RANKS = 4096
# A rank that is silent for so much longer than another no longer counts.
SILENT_RANK_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advised:
    """What one start of a job is asked, until a moment of this node's monotonic clock."""

    restart_count: int
    until_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWord:
    """The last word of one rank."""

    step: int
    samples_per_second: float
    at_seconds: float
    global_batch: int | None
    micro_batch: int | None
    max_micro_batch: int | None
    checkpoints: bool
    checkpoint_step: int | None


class AdviceDesk:
    """Words to the jobs of one node, and from them."""

    def __init__(self, socket: Path, jobs: NodeJobs) -> None:
        self._directory = advice_directory(socket)
        self._jobs = jobs
        self._advised: dict[str, Advised] = {}
        self._words: dict[str, tuple[int, dict[int, RankWord]]] = {}

    def load(self) -> None:
        """Take over the files of a powerd before us; those that are over, or of nobody, are removed."""
        try:
            files = list(self._directory.iterdir())
        except OSError as error:
            log.warning("no words to jobs: %s", error)
            return
        for file in files:
            with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                row = json.loads(_content(file))
                left_seconds = float(row["until_boottime"]) - clock.boottime()
                if file.suffix == ".json" and 0.0 < left_seconds <= MAX_TTL_SECONDS:
                    self._advised[file.stem] = Advised(
                        restart_count=int(row["restart_count"]),
                        until_seconds=clock.monotonic() + left_seconds,
                    )
                    continue
            self._remove(file)
        self.tidy()

    def order(self, message: Message) -> None:
        """Say a word to a job, in place of the one before; without ``ttl_seconds`` left it is taken back.

        Raises WireError.
        """
        job_id = job_id_of(message)
        if not JOB_ID.fullmatch(job_id):
            raise WireError("job_id: not a number")
        job = self._jobs.get(job_id)
        if job is None:
            raise WireError(f"job_id: no job {job_id} is here")
        ttl_seconds = _amount(message, "ttl_seconds", MAX_TTL_SECONDS)
        micro_batch = _count(message, "micro_batch", 1, MAX_BATCH)
        action, reason = message.get("action"), message.get("reason")
        if action is not None and action not in ACTIONS:
            raise WireError(f"action: not {', '.join(ACTIONS)}")
        start = _count(message, "restart_count", 0, MAX_BATCH)
        if start is not None and start != job.restart_count:
            raise WireError(f"restart_count: job {job_id} is in its start {job.restart_count}")
        if ttl_seconds == 0.0:
            self._forget(job_id)
            return
        text = reason if isinstance(reason, str) else ""
        row: Message = {
            "micro_batch": micro_batch,
            "action": action or "run",
            "reason": "".join(letter for letter in text[:MAX_TEXT] if letter.isprintable()),
            "until_boottime": round(clock.boottime() + ttl_seconds, 3),
            "restart_count": job.restart_count,
        }
        known = self._advised.get(job_id)
        self._advised[job_id] = Advised(
            restart_count=job.restart_count, until_seconds=clock.monotonic() + ttl_seconds
        )
        try:
            self._write(job_id, row)
        except OSError as error:
            log.warning("job %s cannot be told: %s", job_id, error)
            return
        if known is None:
            log.info("job %s is asked to %s, micro-batch %s: %s", job_id, row["action"], micro_batch, text)

    def progress(self, message: Message, uid: int, now_seconds: float) -> None:
        """Take the word of one rank of a job of ``uid``'s, or of root's; raises WireError."""
        job_id = job_id_of(message)
        job = self._jobs.get(job_id)
        if job is None or uid not in (0, job.uid):
            raise WireError(f"job_id: no job {job_id[:40]!r} of yours is here")
        rank, step = _count(message, "rank", 0, MAX_BATCH), _count(message, "step", 0, MAX_STEP)
        if step is None:
            raise WireError("step: missing")
        word = RankWord(
            step=step,
            samples_per_second=_amount(message, "samples_per_second", MAX_RATE),
            at_seconds=now_seconds,
            global_batch=_count(message, "global_batch", 1, MAX_BATCH),
            micro_batch=_count(message, "micro_batch", 1, MAX_BATCH),
            max_micro_batch=_count(message, "max_micro_batch", 1, MAX_BATCH),
            checkpoints=message.get("checkpoints") is True,
            checkpoint_step=_count(message, "checkpoint_step", 0, MAX_STEP),
        )
        start, ranks = self._words.get(job_id, (job.restart_count, {}))
        if start != job.restart_count:
            ranks = {}
        if len(ranks) >= MAX_RANKS and (rank or 0) not in ranks:
            raise WireError(f"rank: more than {MAX_RANKS} on one node")
        ranks[rank or 0] = word
        self._words[job_id] = (job.restart_count, ranks)

    def rows(self, now_seconds: float) -> Message:
        """The progress of each job, its ranks here together, as the controller gets it."""
        return {
            job_id: progress_row(ranks.values(), now_seconds) for job_id, (_, ranks) in self._words.items()
        }

    def tidy(self) -> None:
        """Forget whatever is of a job that has ended, or of an earlier start of one that runs again."""
        for job_id, advised in list(self._advised.items()):
            job = self._jobs.get(job_id)
            if job is None or job.restart_count != advised.restart_count:
                self._forget(job_id)
        for job_id, (start, _) in list(self._words.items()):
            job = self._jobs.get(job_id)
            if job is None or job.restart_count != start:
                del self._words[job_id]

    def expire(self, now_seconds: float) -> None:
        """Take back words whose time is over."""
        for job_id, advised in list(self._advised.items()):
            if now_seconds >= advised.until_seconds:
                self._forget(job_id)

    def next_deadline(self) -> float | None:
        """When `expire` has something to do next."""
        return min((advised.until_seconds for advised in self._advised.values()), default=None)

    def _write(self, job_id: str, row: Message) -> None:
        """Put a file in place at once and whole. It is lost with the node, so nothing waits for the disk."""
        unfinished = self._directory / f"{job_id}.new"
        unfinished.write_text(json.dumps(row) + "\n")
        unfinished.chmod(0o644)
        unfinished.replace(self._directory / f"{job_id}.json")

    def _forget(self, job_id: str) -> None:
        self._advised.pop(job_id, None)
        self._remove(self._directory / f"{job_id}.json")

    @staticmethod
    def _remove(file: Path) -> None:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: cannot be removed: %s", file, error)


def _content(file: Path) -> bytes:
    """What is in a plain file of ours; raises OSError, also for what else whoever had the folder has left."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("no plain file")
        return os.read(descriptor, MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def progress_row(words: Collection[RankWord], now_seconds: float) -> Message:
    """Several ranks as one: rates added up, the step of the slowest, only what all of them can do.

    Whatever the ranks say, the sum stays within what the controller takes.
    """
    newest_seconds = max(word.at_seconds for word in words)
    heard = [word for word in words if newest_seconds - word.at_seconds < SILENT_RANK_SECONDS]
    saved = [word.checkpoint_step for word in heard if word.checkpoint_step is not None]
    return {
        "step": min(word.step for word in heard),
        "samples_per_second": min(MAX_RATE, sum(word.samples_per_second for word in heard)),
        "age_seconds": min(MAX_AGE_SECONDS, max(0.0, now_seconds - newest_seconds)),
        "global_batch": _least(word.global_batch for word in heard),
        "micro_batch": _least(word.micro_batch for word in heard),
        "max_micro_batch": _least(word.max_micro_batch for word in heard),
        "checkpoints": all(word.checkpoints for word in heard),
        "checkpoint_step": max(saved, default=None),
    }


def _least(values: Iterable[int | None]) -> int | None:
    """The smallest; None if any rank has none, since a knob that one rank lacks is no knob."""
    found = list(values)
    return None if None in found else min(value for value in found if value is not None)


def _count(row: Message, key: str, least: int, most: int) -> int | None:
    value = row.get(key)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise WireError(f"{key}: not a whole number from {least} to {most}")
    return value


def _amount(row: Message, key: str, most: float) -> float:
    value = row.get(key)
    if type(value) not in (int, float) or not 0.0 <= float(str(value)) <= most:
        raise WireError(f"{key}: not a number from 0 to {most:g}")
    return float(str(value))
