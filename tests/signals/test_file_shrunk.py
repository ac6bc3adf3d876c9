"""Where a file of the supply stands against what it said before."""

import math

from slurm_power.forecast.supply import HeldValues
from slurm_power.signals.file_standing import shrunk


def test_a_lasting_limit_that_is_ended_in_its_file_is_no_step_backwards() -> None:
    before = HeldValues(seconds=(0.0,), values=(5e4,), end_seconds=math.inf)
    after = HeldValues(seconds=(0.0, 7200.0), values=(5e4, None), end_seconds=math.inf)
    assert shrunk(before, after, 3600.0) == []
    # What had an end and loses some of its time is one.
    assert (
        "went backwards"
        in shrunk(HeldValues(seconds=(0.0,), values=(0.1,), end_seconds=9000.0), after, 3600.0)[0]
    )
