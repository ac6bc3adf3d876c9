"""Advice for PyTorch Lightning: a callback that pauses, saves and ends the fit, and shares out the batch.

It follows pause and checkpoint always; a micro-batch only from one epoch to the next, and only where the
loaders are made anew then with `AdviceCallback.micro` samples (``reload_dataloaders_every_n_epochs=1``).
"""

# ruff: noqa: ARG002 - Lightning gives each of its hooks all of these

import importlib
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from slurm_power.advice.checkpoint import sync_folder
from slurm_power.advice.loop import Advice

log = logging.getLogger("slurm_power.advice")

# The same library under two names, whose classes are not the same: the one that the program uses.
_NAMES = ("pytorch_lightning", "lightning.pytorch")
_name = next((name for name in _NAMES if name in sys.modules), None)
try:
    _lightning: Any = importlib.import_module(_name or _NAMES[0])
except ModuleNotFoundError:
    _lightning = importlib.import_module(_NAMES[1])
_Callback: Any = _lightning.Callback


class AdviceCallback(_Callback):  # type: ignore[misc] # whichever Lightning there is, or none to check with
    """Follows advice during ``Trainer.fit``; ``checkpoint`` is the one file (or folder) it saves to.

    ``global_batch`` and ``max_micro`` as for `Advice`; without them only pause and checkpoint are followed.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        *,
        global_batch: int | None = None,
        max_micro: int | None = None,
        stop_signal: int | None = signal.SIGUSR2,
    ) -> None:
        super().__init__()
        self._checkpoint = Path(checkpoint)
        self._global_batch, self._max_micro = global_batch, max_micro
        self._stop_signal = stop_signal
        self._advice: Advice | None = None
        self._step = 0

    @property
    def advice(self) -> Advice:
        """What is followed; there from the beginning of the fit on."""
        if self._advice is None:
            raise RuntimeError("no fit has begun")
        return self._advice

    @property
    def micro(self) -> int:
        """The batch size for a loader that is made now."""
        return self.advice.micro

    @property
    def resume_path(self) -> str | None:
        """What to give to ``fit(ckpt_path=...)``: the checkpoint, or None for a first start."""
        return str(self._checkpoint) if self._checkpoint.exists() else None

    def leave_if_asked(self) -> None:
        """Call after the fit: ends the process with status 85 if the training was saved before its end."""
        advice, self._advice = self._advice, None
        if advice is not None and advice.stopping:
            try:
                advice.requeue()
            finally:
                advice.__exit__(SystemExit, None, None)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begin, before any loader is made."""
        if stage != "fit":
            return
        _own_the_requeue(trainer)
        world_size = int(trainer.world_size)
        reloads = bool(trainer.reload_dataloaders_every_n_epochs)
        if self._global_batch is not None and not reloads:
            log.warning(
                "the loaders are made once: advice on the micro-batch is not followed "
                "(reload_dataloaders_every_n_epochs=1 makes them anew)"
            )
        self._advice = Advice(
            global_batch=self._global_batch if reloads else None,
            max_micro=self._max_micro if reloads else None,
            world_size=world_size,
            stop_signal=self._stop_signal,
        )
        self._advice.__enter__()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note where the fit goes on."""
        self._step = int(trainer.global_step)
        self.advice.start_at(self._step)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Keep the global batch with the loader as it is now."""
        if self._global_batch is None:
            return
        size = getattr(trainer.train_dataloader, "batch_size", None)
        share = self._global_batch // int(trainer.world_size)
        if isinstance(size, int) and size > 0 and share % size == 0:
            trainer.accumulate_grad_batches = share // size

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After each optimizer step: pause here, or save and stop."""
        if trainer.global_step == self._step:
            return
        self._step = int(trainer.global_step)
        size = getattr(trainer.train_dataloader, "batch_size", None) or 1
        stopping = self.advice.stopping
        if self.advice.step(samples=int(size) * int(trainer.accumulate_grad_batches)) and not stopping:
            self._save(trainer)
            # A least number of steps or epochs would have Lightning go on.
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
            trainer.should_stop = True

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """End, unless `leave_if_asked` still has to."""
        if self._advice is not None and not self._advice.stopping:
            self._advice.__exit__(None, None, None)
            self._advice = None

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Let go of the signal; other ranks are not waited for."""
        advice, self._advice = self._advice, None
        if advice is not None:
            advice.__exit__(type(exception), exception, exception.__traceback__)

    def _save(self, trainer: Any) -> None:
        """Write beside the last checkpoint and put it in its place once it is whole."""
        unfinished = self._checkpoint.with_name(f".{self._checkpoint.name}.new")
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            put_in_place(unfinished, self._checkpoint)
        trainer.strategy.barrier()
        self.advice.saved(self._step)


def put_in_place(unfinished: Path, target: Path) -> None:
    """Let a whole checkpoint, a file or a folder, take the place of the one before."""
    if unfinished.is_dir():
        # A folder cannot replace another at once: for a moment both are there, the old one under this name.
        before = target.with_name(f".{target.name}.old")
        shutil.rmtree(before, ignore_errors=True)
        if target.exists():
            target.rename(before)
        unfinished.rename(target)
        shutil.rmtree(before, ignore_errors=True)
    else:
        descriptor = os.open(unfinished, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        unfinished.replace(target)
    sync_folder(target.parent)


def _own_the_requeue(trainer: Any) -> None:
    """Turn off Lightning's own requeue: a job that two queue again runs twice, or is cancelled by itself."""
    for environment in (
        getattr(trainer.strategy, "cluster_environment", None),
        getattr(getattr(trainer, "_accelerator_connector", None), "cluster_environment", None),
    ):
        if environment is not None and getattr(environment, "auto_requeue", False):
            environment.auto_requeue = False
            log.warning("Lightning's auto_requeue is off: the batch script queues this job again (status 85)")
