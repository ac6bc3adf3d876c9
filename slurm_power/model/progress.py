"""What a running job tells of itself: how fast it works and which knobs it follows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """The latest word of a job, all its ranks together.

    ``samples_per_second`` is the mean since the word before. ``global_batch`` is kept whatever the
    micro-batch is; ``micro_batch`` is what one rank takes at a time, ``max_micro_batch`` the most it may.
    ``checkpoints``: it can save itself and end when asked. ``checkpoint_step`` is the last that it has saved.
    """

    step: int
    samples_per_second: float
    age_seconds: float
    global_batch: int | None = None
    micro_batch: int | None = None
    max_micro_batch: int | None = None
    checkpoints: bool = False
    checkpoint_step: int | None = None
