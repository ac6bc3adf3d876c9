"""Fakes that implement the ports, and fail in every way their originals do."""

from containers.faults.gpus import IDLE_CLOCK_HERTZ, OWN_CLOCK_HERTZ, FakeGpu, FakeGpus, KilledError

__all__ = ["IDLE_CLOCK_HERTZ", "OWN_CLOCK_HERTZ", "FakeGpu", "FakeGpus", "KilledError"]
