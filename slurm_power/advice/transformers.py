"""Advice for the Trainer of Hugging Face: a callback that pauses, saves and ends the training.

The Trainer fixes its batch when it starts, so a micro-batch cannot be advised while it runs.
"""

# ruff: noqa: ARG002 - the Trainer gives each of its hooks all of these

import importlib
import os
import re
import signal
from pathlib import Path
from typing import Any

from slurm_power.advice.checkpoint import atomic_file
from slurm_power.advice.loop import Advice

_transformers: Any = importlib.import_module("transformers")
# Written into a checkpoint's folder once all of it is there: a writer that is killed leaves a folder, too.
WHOLE = "slurm-power-whole"
_FOLDER = re.compile(r"checkpoint-(\d+)")


class AdviceCallback(_transformers.TrainerCallback):  # type: ignore[misc] # transformers may not be there
    """Follows pause and checkpoint during ``Trainer.train``."""

    def __init__(self, *, stop_signal: int | None = signal.SIGUSR2) -> None:
        super().__init__()
        self._stop_signal = stop_signal
        self._advice: Advice | None = None

    @property
    def advice(self) -> Advice:
        """What is followed; there from the beginning of the training on."""
        if self._advice is None:
            raise RuntimeError("no training has begun")
        return self._advice

    def leave_if_asked(self) -> None:
        """Call after ``train``: ends the process with status 85 if it was saved before its end."""
        advice, self._advice = self._advice, None
        if advice is not None and advice.stopping:
            try:
                advice.requeue()
            finally:
                advice.__exit__(SystemExit, None, None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin."""
        self._advice = Advice(world_size=max(1, int(args.world_size)), stop_signal=self._stop_signal)
        self._advice.__enter__()
        self._advice.start_at(int(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each optimizer step: pause here, or have the Trainer save and stop."""
        samples = int(args.train_batch_size) * int(args.gradient_accumulation_steps)
        if self.advice.step(samples=samples):
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark a checkpoint as whole, now that all of it has been written."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            with atomic_file(folder / WHOLE):
                pass
        if self._advice is not None:
            self._advice.saved(int(state.global_step))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End, unless `leave_if_asked` still has to."""
        if self._advice is not None and not self._advice.stopping:
            self._advice.__exit__(None, None, None)
            self._advice = None


def last_checkpoint(output_dir: str | os.PathLike[str]) -> str | None:
    """What to give to ``train(resume_from_checkpoint=...)``: the newest whole checkpoint, if any."""
    try:
        entries = list(Path(output_dir).iterdir())
    except FileNotFoundError:
        return None
    found = [
        (int(match[1]), str(entry))
        for entry in entries
        if (match := _FOLDER.fullmatch(entry.name)) and (entry / WHOLE).is_file()
    ]
    return max(found)[1] if found else None
