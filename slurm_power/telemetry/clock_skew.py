"""How far the clocks of nodes are from the controller's, as their reports tell.

Readings are dated by their arrival, so that a wrong clock spoils none of them; but what a node writes down
itself does not fit then, and MUNGE refuses it beyond a few minutes.
"""

import math
from collections import deque

# A report takes time to arrive, which looks like a clock that is late: of so many the fastest tells.
_REPORTS = 10
SKEW_SECONDS = 5.0


class ClockSkews:
    """All nodes; wall times are in seconds since the epoch."""

    def __init__(self) -> None:
        self._skews: dict[str, deque[float]] = {}

    def take(self, node: str, sent_at_seconds: object, received_at_seconds: float) -> None:
        """A report has come; one that does not say when it was sent, as older nodes', tells nothing."""
        if isinstance(sent_at_seconds, int | float) and math.isfinite(sent_at_seconds):
            skew_seconds = float(sent_at_seconds) - received_at_seconds
            self._skews.setdefault(node, deque(maxlen=_REPORTS)).append(skew_seconds)

    def reason(self, node: str) -> str:
        """What is wrong with a node's clock; empty where nothing is."""
        skews = self._skews.get(node)
        if not skews or abs(skew_seconds := max(skews)) <= SKEW_SECONDS:
            return ""
        side = "ahead of" if skew_seconds > 0 else "behind"
        return f"its clock is {abs(skew_seconds):.0f} s {side} the controller's"
