"""Advice: what a training loop calls once per step, at its boundary, to be paused, slowed or ended there."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from types import FrameType, TracebackType
from typing import Any, Literal, NoReturn, Self

from slurm_power.advice.ranks import Flags, Ranks, RanksError
from slurm_power.advice.report import ProgressLine, rank_of_environment
from slurm_power.advice.words import NOTHING_SAID, AdviceFile, Words

monotonic = time.monotonic  # noqa: TID251 - this package stands apart and has no slurm_power.clock

# The step has been left with everything saved: start the job again. The batch script does that.
REQUEUE_EXIT_STATUS = 85
TELL_SECONDS = 5.0
PAUSE_LOOK_SECONDS = 0.2
BEFORE, FIRST_STEP = "before", "first step"

log = logging.getLogger("slurm_power.advice")


class Advice:
    """The knobs of one rank of one training run; use it as a context around the loop.

    ``global_batch`` is the samples of one optimizer step over all ``world_size`` ranks, ``max_micro`` the
    most that one rank may take at a time: `micro` * `accumulation` * ``world_size`` is always
    ``global_batch``. Without ``global_batch`` there is no micro-batch to advise. ``checkpoints`` False is for
    a loop that cannot save itself: it is never asked to. ``stop_signal`` None leaves all signals alone.
    ``ranks`` is how several ranks agree, by default over torch.distributed where that is in use; ``"alone"``
    for ranks that are independent of each other. They wait ``meet_seconds`` for each other at the beginning;
    where one does not come, none is advised. ``file`` is looked at every ``look_seconds`` at most. Raises
    ValueError for numbers that do not fit together.
    """

    def __init__(
        self,
        *,
        global_batch: int | None = None,
        max_micro: int | None = None,
        world_size: int = 1,
        checkpoints: bool = True,
        stop_signal: int | None = signal.SIGUSR2,
        ranks: Ranks | Literal["alone"] | None = None,
        file: str | os.PathLike[str] | None = None,
        look_seconds: float = 1.0,
        meet_seconds: float = 60.0,
    ) -> None:
        problems = _problems(global_batch, max_micro, world_size)
        if problems:
            raise ValueError("; ".join(problems))
        self._global_batch, self._world_size = global_batch, world_size
        self._share = None if global_batch is None else global_batch // world_size
        self._max_micro = None if self._share is None else min(max_micro or self._share, self._share)
        self._checkpoints = checkpoints
        self._signal = stop_signal
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None
        self._handles = False
        self._ranks: Ranks | None = None if isinstance(ranks, str) else ranks
        self._looks_for_ranks = ranks is None
        self._alone = ranks == "alone"
        path = os.fspath(file) if file is not None else os.environ.get("SLURM_POWER_ADVICE_FILE")
        self._file = AdviceFile(path or None)
        self._line = ProgressLine(
            os.environ.get("SLURM_POWER_SOCKET") or None,
            os.environ.get("SLURM_JOB_ID") or None,
            rank_of_environment(),
        )
        self._look_seconds = look_seconds
        self._meet_seconds = meet_seconds
        self._pid = os.getpid()
        self._words: Words = NOTHING_SAID
        self._asked = self._signalled = self._stopping = False
        self._micro = self._max_micro
        self._steps = self._samples = 0
        self._first_step = 0
        self._checkpoint_step: int | None = None
        self._look_at_seconds = self._tell_at_seconds = 0.0
        self._since_seconds = monotonic()
        self.paused_seconds = 0.0

    @property
    def micro(self) -> int:
        """Samples to take at a time now; it changes only in `step`."""
        if self._micro is None:
            raise ValueError("global_batch: missing; without it there is no micro-batch")
        return self._micro

    @property
    def accumulation(self) -> int:
        """How many micro-batches make up this rank's share of the global batch."""
        micro = self.micro
        assert self._share is not None
        return self._share // micro

    @property
    def stopping(self) -> bool:
        """Whether this run is to be saved and left."""
        return self._stopping

    @property
    def reason(self) -> str:
        """Why something is asked now, in words for the log; empty if nothing is."""
        return self._words.reason or ("stop signal" if self._signalled else "")

    def __enter__(self) -> Self:
        self._pid = os.getpid()
        self._since_seconds = monotonic()
        if self._signal is not None:
            self._handle_signal(self._signal)
        self._look(monotonic())
        # Advice that came before the start counts for the first step, but never for one rank alone.
        self._find_ranks(BEFORE)
        if self._ranks is not None:
            self._together(lambda ranks: self._set_micro(ranks.agree_now(self._flags()).micro_batch))
        elif self._alone:
            self._set_micro(self._words.micro_batch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handles and self._signal is not None:
            self._handles = False
            # A handler that somebody has set after us is not ours to remove.
            if signal.getsignal(self._signal) == self._on_signal:
                signal.signal(self._signal, signal.SIG_DFL if self._previous is None else self._previous)
        if self._ranks is not None and (kind is None or kind is SystemExit):
            self._ranks.close()
        self._line.close()

    def step(self, samples: int | None = None) -> bool:
        """Say that a step is done, at its boundary; True: save and leave. Waits here while the job is paused.

        ``samples`` are those of this rank, by default its share of the global batch. Never raises.
        """
        self._steps += 1
        self._samples += (self._share or 1) if samples is None else samples
        now_seconds = monotonic()
        if now_seconds >= self._look_at_seconds:
            self._look(now_seconds)
        if self._looks_for_ranks:
            self._find_ranks(FIRST_STEP)
        if self._ranks is not None:
            self._together(self._step_together)
        elif self._asked and self._alone:
            asked = self._flags()
            self._follow(asked)
            if asked.pause and not asked.stop:
                self._pause_alone()
        return self._stopping

    def start_at(self, step: int) -> None:
        """Say at which step this run goes on; only for what is reported."""
        self._first_step = step

    def saved(self, step: int) -> None:
        """Say that a whole checkpoint of this step is on the disk."""
        self._checkpoint_step = step
        if os.getpid() == self._pid:
            self._tell(monotonic())

    def requeue(self) -> NoReturn:
        """Leave with status 85, once all ranks have come here: the batch script queues the job again."""
        if self._ranks is not None:
            # Where one rank's end ends the step, none may go while another still writes its checkpoint.
            self._ranks.leave()
            self._together(lambda ranks: ranks.agree_now(Flags(stop=True)))
        raise SystemExit(REQUEUE_EXIT_STATUS)

    def _handle_signal(self, number: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            log.warning("not in the main thread: no handler for signal %d", number)
            return
        self._previous = signal.getsignal(number)
        signal.signal(number, self._on_signal)
        self._handles = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Only set a flag: saving within a handler would meet the step half done."""
        if os.getpid() == self._pid:
            self._signalled = self._asked = True
        if callable(self._previous):
            self._previous(number, frame)

    def _look(self, now_seconds: float) -> None:
        """See what is asked now, and tell how far we are if that is due."""
        if os.getpid() != self._pid:  # a forked worker: it has nothing to follow and nothing to tell
            self._look_at_seconds = float("inf")
            self._ranks, self._looks_for_ranks, self._alone = None, False, False
            return
        self._look_at_seconds = now_seconds + self._look_seconds
        self._words = self._file.look()
        words = self._words
        self._asked = (
            self._signalled
            or words.action != "run"
            or (self._max_micro is not None and self._micro != self._fitting(words.micro_batch))
        )
        if now_seconds >= self._tell_at_seconds:
            self._tell(now_seconds)

    def _flags(self) -> Flags:
        """What this rank is asked."""
        action = self._words.action
        return Flags(
            stop=self._checkpoints and (self._signalled or self._stopping or action == "checkpoint"),
            pause=action == "pause",
            micro_batch=self._words.micro_batch,
        )

    def _follow(self, agreed: Flags) -> None:
        self._set_micro(agreed.micro_batch)
        if agreed.stop and not self._stopping:
            self._stopping = True
            log.info("asked to save and end: %s", self.reason or "by another rank")

    def _set_micro(self, limit: int | None) -> None:
        if self._max_micro is not None:
            self._micro = self._fitting(limit)

    def _fitting(self, limit: int | None) -> int:
        """The largest micro-batch within ``limit`` that divides the share of this rank."""
        assert self._share is not None and self._max_micro is not None
        most = self._max_micro if limit is None else min(limit, self._max_micro)
        return largest_divisor(self._share, most)

    def _pause_alone(self) -> None:
        begun_seconds = self._pause_begins()
        asked = self._flags()
        while asked.pause and not asked.stop:
            time.sleep(min(PAUSE_LOOK_SECONDS, self._look_seconds))
            self._look(monotonic())
            asked = self._flags()
        self._follow(asked)
        self._pause_ends(begun_seconds)

    def _step_together(self, ranks: Ranks) -> None:
        agreed = ranks.agree(self._flags())
        if agreed is None:
            return
        self._follow(agreed)
        if not agreed.pause or self._stopping:
            return
        begun_seconds = self._pause_begins()
        waits = True
        while waits:
            time.sleep(PAUSE_LOOK_SECONDS)
            now_seconds = monotonic()
            if now_seconds >= self._look_at_seconds:
                self._look(now_seconds)
            agreed = ranks.agree_now(self._flags())
            waits = agreed.pause and not agreed.stop
        self._follow(agreed)
        self._pause_ends(begun_seconds)

    def _pause_begins(self) -> float:
        log.info("paused: %s", self.reason or "by another rank")
        now_seconds = monotonic()
        self._tell(now_seconds)
        return now_seconds

    def _pause_ends(self, begun_seconds: float) -> None:
        now_seconds = monotonic()
        self.paused_seconds += now_seconds - begun_seconds
        self._samples, self._since_seconds = 0, now_seconds
        log.info("going on after %.1f s", now_seconds - begun_seconds)

    def _together(self, act: Callable[[Ranks], object]) -> None:
        """Do something with all ranks. Once that fails nothing is followed: one alone would hang the rest."""
        if self._ranks is None:
            return
        try:
            act(self._ranks)
        except RanksError as error:
            log.warning("the ranks do not agree any more, no advice is followed: %s", error)
            self._ranks = None

    def _find_ranks(self, phase: str) -> None:
        """Settle whether this rank is alone, and if not, with whom it agrees. Torch may begin after us."""
        if not self._looks_for_ranks:
            return
        many = rank_count_of_environment() > 1
        try:
            if "torch.distributed" in sys.modules:
                from slurm_power.advice.torch_ranks import torch_ranks  # noqa: PLC0415 - only where torch is

                found = torch_ranks(phase, self._meet_seconds)
                if found is not None and self._share is not None and found.size != self._world_size:
                    log.warning("world_size: %d, but there are %d ranks", self._world_size, found.size)
                self._ranks = found
        except RanksError as error:
            log.warning("no advice is followed: %s", error)
            self._looks_for_ranks = self._alone = False
            return
        self._looks_for_ranks = self._ranks is None and phase != FIRST_STEP
        self._alone = self._ranks is None and not many
        if self._ranks is None and many and phase == FIRST_STEP:
            log.warning(
                "several ranks, and no torch.distributed to agree over: no advice is followed (if they are "
                'independent of each other say ranks="alone")'
            )

    def _tell(self, now_seconds: float) -> None:
        """Report the rate since the word before; a word that is not taken is repeated with the next."""
        seconds = now_seconds - self._since_seconds
        if not self._line.is_open or self._steps == 0 or seconds <= 0.0:
            return
        self._tell_at_seconds = now_seconds + TELL_SECONDS
        told = self._line.tell(
            {
                "step": self._first_step + self._steps,
                "samples_per_second": self._samples / seconds,
                "global_batch": self._global_batch,
                "micro_batch": self._micro,
                "max_micro_batch": self._max_micro,
                "checkpoints": self._checkpoints,
                "checkpoint_step": self._checkpoint_step,
            }
        )
        if told:
            self._samples, self._since_seconds = 0, now_seconds


@lru_cache(maxsize=64)
def largest_divisor(whole: int, most: int) -> int:
    """The largest number up to ``most`` that divides ``whole``."""
    return next(number for number in range(most, 0, -1) if whole % number == 0)


def rank_count_of_environment() -> int:
    """How many ranks this process was started as one of, as far as its starter says."""
    counts = [1]
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        text = os.environ.get(name, "")
        if text.isascii() and text.isdigit():
            counts.append(int(text[:9]))
    return max(counts)


def _problems(global_batch: int | None, max_micro: int | None, world_size: int) -> list[str]:
    problems = []
    if world_size < 1:
        problems.append(f"world_size: {world_size} is below 1")
    if max_micro is not None and max_micro < 1:
        problems.append(f"max_micro: {max_micro} is below 1")
    if max_micro is not None and global_batch is None:
        problems.append("max_micro: says nothing without global_batch")
    if global_batch is not None and (global_batch < 1 or global_batch % max(1, world_size)):
        problems.append(f"global_batch: {global_batch} cannot be shared by {world_size} ranks")
    return problems
