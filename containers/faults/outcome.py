"""What came of one trial."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``problems``: what was leaked or lost, empty when all is well.

    ``safe_seconds`` is the time from the last mended fault, or the loss of the controller, to a safe state.
    """

    kind: str
    seed: int
    problems: tuple[str, ...]
    safe_seconds: float
    log: tuple[str, ...] = ()
    lost_rows: int = 0
