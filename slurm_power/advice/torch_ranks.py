"""Agreement over torch.distributed: a tiny all-reduce on the CPU, in a gloo group of its own.

It is begun at one step and read at the next, so that nobody waits for it, and short steps share one.
"""

import atexit
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slurm_power.advice.ranks import Flags, RanksError

if TYPE_CHECKING:
    from torch import Tensor

monotonic = time.monotonic  # noqa: TID251 - this package stands apart and has no slurm_power.clock

# An agreement about every so often, since each costs some 0.1 ms of a core; but never many steps apart, for
# steps that are short now may take long soon.
INTERVAL_SECONDS = 0.1
MOST_STEPS_BETWEEN = 32
# How long one rank may be about something else, such as writing a checkpoint, before the others give up.
PATIENCE_SECONDS = 1800.0
_TOGETHER, _APART = "together", "apart"
_MOST_MICRO = 1 << 31
_rounds = 0


def torch_ranks(phase: str, within_seconds: float) -> "TorchRanks | None":
    """The ranks of torch.distributed; None if it is not in use, or has one rank.

    Waits ``within_seconds`` for all of them to come here in the same ``phase`` of their loops; raises
    RanksError if one does not.
    """
    import torch.distributed as dist  # noqa: PLC0415 - only called where torch is loaded already

    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() < 2:
        return None
    if not dist.is_gloo_available():
        raise RanksError("this torch has no gloo")
    _meet(dist, phase, within_seconds)
    try:
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=PATIENCE_SECONDS))
    except (RuntimeError, ValueError) as error:
        raise RanksError(str(error)) from None
    return TorchRanks(group)


def _meet(dist: Any, phase: str, within_seconds: float) -> None:
    """Wait for all ranks at the store, or leave without any of them; raises RanksError.

    Making a group waits for all ranks, for half an hour if need be: where only some of them use Advice it
    must not even be begun. The first to write decides for all: the last that comes, or who has waited too
    long.
    """
    global _rounds  # noqa: PLW0603 - each Advice of a process meets anew, in all ranks by the same number
    _rounds += 1
    get_store = getattr(dist.distributed_c10d, "_get_default_store", None)
    if get_store is None:
        raise RanksError("this torch does not show its store")
    name = f"slurm_power.advice/{_rounds}/{phase}"
    try:
        store = get_store()
        decision = ""
        if store.add(f"{name}/here", 1) >= dist.get_world_size():
            decision = _decide(store, name, _TOGETHER)
        deadline_seconds = monotonic() + within_seconds
        while not decision:
            if store.check([f"{name}/decision"]):
                decision = _decide(store, name, "")
            elif monotonic() > deadline_seconds:
                decision = _decide(store, name, _APART)
            else:
                time.sleep(0.005)
    except RuntimeError as error:
        raise RanksError(str(error)) from None
    if decision != _TOGETHER:
        raise RanksError(f"not all {dist.get_world_size()} ranks use Advice (waited {within_seconds:g} s)")


def _decide(store: Any, name: str, wanted: str) -> str:
    answer: bytes = store.compare_set(f"{name}/decision", "", wanted) if wanted else b""
    return (answer or store.get(f"{name}/decision")).decode()


def _end_torch_distributed() -> None:
    import torch.distributed as dist  # noqa: PLC0415 - torch is loaded already

    if dist.is_initialized():
        dist.destroy_process_group()


class TorchRanks:
    """All ranks of torch.distributed, by ``group``, which is theirs alone."""

    def __init__(self, group: Any) -> None:
        import torch.distributed as dist  # noqa: PLC0415 - torch is loaded already

        self._group = group
        self.size: int = dist.get_world_size()
        self._pending: tuple[Tensor, Any] | None = None
        self._steps = 0
        self._due_at_step = 1
        self._begun = (0, monotonic())

    def agree(self, flags: Flags) -> Flags | None:
        """Read the agreement that was begun at the step before, and begin another if one is due."""
        self._steps += 1
        agreed = None if self._pending is None else self._finish()
        if self._steps >= self._due_at_step:
            self._begin(flags)
        return agreed

    def agree_now(self, flags: Flags) -> Flags:
        """Wait for all ranks; what had been begun is left aside, in all of them alike."""
        if self._pending is not None:
            self._finish()
        self._begin(flags)
        agreed = self._finish()
        # What came before was no step: it says nothing about how long one takes.
        self._begun, self._due_at_step = (self._steps, monotonic()), self._steps + 1
        return agreed

    def close(self) -> None:
        """Let what was begun come to its end: all ranks have begun it."""
        import torch.distributed as dist  # noqa: PLC0415 - torch is loaded already

        pending, self._pending = self._pending, None
        with suppress(RuntimeError, ValueError, AssertionError):  # the loop has ended torch.distributed
            if pending is not None:
                pending[1].wait(timedelta(seconds=5))
            dist.destroy_process_group(self._group)

    def leave(self) -> None:
        """The process is about to end: torch's threads must have ended then, or it aborts."""
        # Not at once: the loop may have a clean-up of its own on the way out, which would fail.
        atexit.register(_end_torch_distributed)

    def _begin(self, flags: Flags) -> None:
        import torch  # noqa: PLC0415 - torch is loaded already
        import torch.distributed as dist  # noqa: PLC0415 - as above

        steps, since_seconds = self._begun
        now_seconds = monotonic()
        per_step = (now_seconds - since_seconds) / max(1, self._steps - steps)
        self._begun = (self._steps, now_seconds)
        micro = 0 if flags.micro_batch is None else _MOST_MICRO - flags.micro_batch
        # The longest step of all ranks goes with it, so that all of them know when the next one is due.
        values = [int(flags.stop), int(flags.pause), micro, int(min(per_step, 3600.0) * 1e6)]
        tensor = torch.tensor(values, dtype=torch.int64)
        try:
            work = dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        except RuntimeError as error:
            raise RanksError(str(error)) from None
        self._pending = (tensor, work)
        self._due_at_step = self._steps + MOST_STEPS_BETWEEN

    def _finish(self) -> Flags:
        assert self._pending is not None
        tensor, work = self._pending
        self._pending = None
        try:
            work.wait()
        except RuntimeError as error:
            raise RanksError(str(error)) from None
        stop, pause, micro, microseconds = tensor.tolist()
        between = min(MOST_STEPS_BETWEEN, int(INTERVAL_SECONDS * 1e6 / max(1, microseconds)))
        self._due_at_step = self._steps + max(0, between - 1)
        return Flags(stop=bool(stop), pause=bool(pause), micro_batch=_MOST_MICRO - micro if micro else None)
