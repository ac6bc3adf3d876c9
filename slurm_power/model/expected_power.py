"""What a job draws per GPU, as it was seen and as it is expected: nouns for who learns and who plans."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerShape:
    """How a job drew power, per GPU.

    ``p95_watts``: what it stayed below for 95 % of its time. ``start_step_watts``: how far it rose at its
    start, from idle to the highest level it held. ``ramp_seconds``: how long it took to hold 90 % of its
    mean. ``swing_watts``: the highest less the lowest second of a typical minute.
    """

    mean_watts: float
    p95_watts: float
    start_step_watts: float
    ramp_seconds: float
    swing_watts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedPower:
    """What a job is expected to draw per GPU while it runs.

    ``p95_watts`` is for who has to be careful: 95 of 100 such jobs stay below it for 95 % of their time.
    ``known_from`` says whose jobs that rests on, ``jobs`` how many; ``own_seconds`` how long the job itself
    has been seen running, which then counts as well.
    """

    mean_watts: float
    p95_watts: float
    known_from: str
    jobs: int
    start_step_watts: float = 0.0
    ramp_seconds: float = 0.0
    swing_watts: float = 0.0
    own_seconds: float = 0.0
