"""Knobs on a running training job: micro-batch, pause, save and end. The standard library only.

Outside a job of slurm-power, without its daemon or with a broken advice file, everything here does nothing.
"""

from slurm_power.advice.checkpoint import atomic_file
from slurm_power.advice.loop import REQUEUE_EXIT_STATUS, Advice
from slurm_power.advice.words import Words

__all__ = ["REQUEUE_EXIT_STATUS", "Advice", "Words", "atomic_file"]
