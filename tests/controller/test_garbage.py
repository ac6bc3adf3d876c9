"""Full collections come seldom and between cycles, and Python has its way again afterwards."""

import gc

from slurm_power.controller.garbage import Garbage


def test_a_full_collection_is_made_when_it_is_due_and_not_before() -> None:
    before = gc.get_threshold()
    garbage = Garbage()
    garbage.start(100.0)
    try:
        assert gc.get_threshold()[2] > 100_000
        full = gc.get_stats()[2]["collections"]
        garbage.after_cycle(101.0)
        assert gc.get_stats()[2]["collections"] == full
        garbage.after_cycle(701.0)
        garbage.after_cycle(702.0)
        assert gc.get_stats()[2]["collections"] == full + 1
    finally:
        garbage.stop()
    assert gc.get_threshold() == before
