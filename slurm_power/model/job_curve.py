"""What a single job was seen to do with its power: its own curve, learned from what it tells of itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A draw per GPU, what the job did per second at it, and how often that was seen."""

    gpu_watts: float
    samples_per_second: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPoint:
    """A micro-batch, with the draw per GPU and the samples per second that were seen with it."""

    micro_batch: int
    gpu_watts: float
    samples_per_second: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCurve:
    """One job's power and throughput. ``points`` rise in watts, and never fall in throughput.

    They are of its largest micro-batch, under whatever cap; empty where too little was seen to tell.
    ``batches`` are without a cap, the smallest micro-batch first.
    """

    points: tuple[CurvePoint, ...] = ()
    batches: tuple[BatchPoint, ...] = ()

    @property
    def known(self) -> bool:
        """Whether it says what a cap costs."""
        return len(self.points) >= 2

    def batch(self, micro_batch: int) -> BatchPoint | None:
        """What was seen with a micro-batch, None where it was not."""
        return next((point for point in self.batches if point.micro_batch == micro_batch), None)
