"""What lies between two levels of the circuit tree: a learned loss, and how far a meter is from it.

A circuit shows more than the sum of what reports below it: losses, fans, hosts without a meter of their own.
The excess is learned as ``offset + ratio x sum`` from smoothed pairs, by least squares with exponentially
fading weights (Ljung, System Identification, 2nd ed., ch. 11).
"""

import math
from dataclasses import asdict, dataclass, field

# Meters refresh at other moments than what they are compared with: both are smoothed over this long.
SMOOTHING_SECONDS = 6.0
# Old pairs count half after this long: cooling and hosts change with the days.
HALF_LIFE_SECONDS = 6 * 3600.0
# Nothing useful is known before so many seconds of good pairs.
LEAST_LEARNED_SECONDS = 30.0
# A circuit draws at least what is below it, and never this much more for each watt.
LOWEST_RATIO, HIGHEST_RATIO = 1.0, 1.8
# As strong as this many seconds of pairs with this spread: until the load moves, the ratio is the prior one.
PRIOR_SECONDS = 60.0
PRIOR_SPREAD_WATTS = 1000.0
# How far a ratio that nothing has been learned about may be off: hosts follow their GPUs by about so much.
RATIO_DOUBT = 0.35
# A residual counts as disagreement from here on: so many learned spreads, and at least this much.
DISAGREEMENT_SPREADS = 6.0
LEAST_DISAGREEMENT_RATIO = 0.10
LEAST_DISAGREEMENT_WATTS = 200.0
# Pairs teach half as much when one side is so far from its own mean, and less the further it is.
REST_RATIO = 0.02
LEAST_REST_WATTS = 100.0
# A disagreement that does not end within this time is a new normal, such as a rack that was added.
RELEARN_SECONDS = 1800.0


_PRIOR = PRIOR_SECONDS * PRIOR_SPREAD_WATTS**2


@dataclass(slots=True)
class Smoothed:
    """An exponential mean over time; the first value counts at once."""

    value: float | None = None
    at_seconds: float = 0.0

    def take(self, value: float, now_seconds: float) -> float:
        """Add a value that held until now; returns the mean."""
        if self.value is None:
            self.value = value
        else:
            share = 1.0 - math.exp(-max(0.0, now_seconds - self.at_seconds) / SMOOTHING_SECONDS)
            self.value += share * (value - self.value)
        self.at_seconds = now_seconds
        return self.value


@dataclass(slots=True, kw_only=True)
class Loss:
    """The learned relation of one circuit to the sum below it. Only ``to_json`` survives a restart.

    ``prior_ratio`` is the circuit's ``overhead_ratio``. ``residual_watts`` is measured less expected, both
    smoothed; None until both sides have spoken.
    """

    prior_ratio: float
    weight: float = 0.0
    sum_x: float = 0.0
    sum_y: float = 0.0
    sum_xx: float = 0.0
    sum_xy: float = 0.0
    spread_watts: float = 0.0
    learned_seconds: float = 0.0
    residual_watts: float | None = None
    disagrees_since_seconds: float | None = None
    _below: Smoothed = field(default_factory=Smoothed)
    _above: Smoothed = field(default_factory=Smoothed)
    _swing: Smoothed = field(default_factory=Smoothed)

    @property
    def known(self) -> bool:
        """Whether enough has been seen to judge by."""
        return self.learned_seconds >= LEAST_LEARNED_SECONDS

    @property
    def _mean_x(self) -> float:
        return self.sum_x / self.weight if self.weight else 0.0

    @property
    def _spread_xx(self) -> float:
        return max(0.0, self.sum_xx - self.weight * self._mean_x**2)

    @property
    def ratio(self) -> float:
        """Watts here for each watt more below, within what can be."""
        spread_xy = self.sum_xy - self._mean_x * self.sum_y
        found = (spread_xy + _PRIOR * self.prior_ratio) / (self._spread_xx + _PRIOR)
        return min(max(found, LOWEST_RATIO), HIGHEST_RATIO)

    def doubt_watts(self, below_watts: float) -> float:
        """How far ``expected_watts`` may be off for a load unlike those it has learned from."""
        unknown = math.sqrt(_PRIOR / (self._spread_xx + _PRIOR))
        return RATIO_DOUBT * unknown * abs(below_watts - self._mean_x)

    @property
    def offset_watts(self) -> float:
        """Watts here when nothing is drawn below."""
        if not self.weight:
            return 0.0
        return max(0.0, (self.sum_y - self.ratio * self.sum_x) / self.weight)

    def expected_watts(self, below_watts: float) -> float:
        """What the circuit should show for so much below it."""
        return self.offset_watts + self.ratio * below_watts

    def margin_watts(self) -> float:
        """How far a measurement may lie from what is expected, for a load at rest."""
        level = abs(self._above.value or 0.0)
        return max(
            DISAGREEMENT_SPREADS * self.spread_watts,
            LEAST_DISAGREEMENT_RATIO * level,
            LEAST_DISAGREEMENT_WATTS,
        ) + self.doubt_watts(self._below.value or 0.0)

    def compare(
        self,
        below_watts: float,
        measured_watts: float,
        now_seconds: float,
        *,
        learn: bool,
        vouched: bool = False,
    ) -> None:
        """Take a pair that was read now. It teaches only if ``learn``, and if it is no outlier.

        What has been apart for long becomes the new normal if the measurement is the higher of the two, or if
        somebody else has ``vouched`` for it: a meter that reads too little must never be believed for its
        patience.
        """
        pause_seconds = min(max(0.0, now_seconds - self._above.at_seconds), SMOOTHING_SECONDS)
        fresh = self._above.value is None
        below = self._below.take(below_watts, now_seconds)
        above = self._above.take(measured_watts, now_seconds)
        swing_watts = max(abs(below_watts - below), abs(measured_watts - above))
        swings_watts = self._swing.take(swing_watts, now_seconds)
        if fresh:
            return
        before_watts = self.residual_watts or 0.0
        self.residual_watts = above - self.expected_watts(below) if self.weight else None
        apart_watts = abs(self.residual_watts or 0.0) if self.known else 0.0
        # Means of a load that swings, of readings at other moments, are apart by as much as it swings.
        outlier = apart_watts > self.margin_watts() + swings_watts
        if not outlier:
            self.disagrees_since_seconds = None
        elif self.disagrees_since_seconds is None or before_watts * (self.residual_watts or 0.0) < 0.0:
            # A load that swings, with one side told later, is apart both ways in turn: nobody is wrong then.
            self.disagrees_since_seconds = now_seconds
        elif (
            learn
            and (vouched or (self.residual_watts or 0.0) > 0.0)
            and now_seconds - self.disagrees_since_seconds > RELEARN_SECONDS
        ):
            self.forget()
        if learn and apart_watts <= self.margin_watts():
            self._learn(below, above, pause_seconds, swing_watts)

    def _learn(self, below_watts: float, measured_watts: float, seconds: float, swing_watts: float) -> None:
        kept = 0.5 ** (seconds / HALF_LIFE_SECONDS)
        self.learned_seconds += seconds
        # After a step both sides come to rest at their own pace, and what lies between them means little.
        rest_watts = max(LEAST_REST_WATTS, REST_RATIO * abs(measured_watts))
        seconds /= 1.0 + (swing_watts / rest_watts) ** 2
        self.weight = kept * self.weight + seconds
        self.sum_x = kept * self.sum_x + seconds * below_watts
        self.sum_y = kept * self.sum_y + seconds * measured_watts
        self.sum_xx = kept * self.sum_xx + seconds * below_watts**2
        self.sum_xy = kept * self.sum_xy + seconds * below_watts * measured_watts
        residual = abs(measured_watts - self.expected_watts(below_watts))
        self.spread_watts += min(1.0, seconds / 60.0) * (residual - self.spread_watts)

    def forget(self) -> None:
        """Begin anew."""
        self.weight = self.sum_x = self.sum_y = self.sum_xx = self.sum_xy = 0.0
        self.spread_watts = self.learned_seconds = 0.0
        self.residual_watts = self.disagrees_since_seconds = None

    def disagrees(self, now_seconds: float, patience_seconds: float) -> bool:
        """Whether measured and expected have been apart for longer than ``patience_seconds``."""
        since = self.disagrees_since_seconds
        return since is not None and now_seconds - since >= patience_seconds

    def to_json(self) -> dict[str, float]:
        """What has been learned."""
        return {name: asdict(self)[name] for name in _KEPT}

    def take_json(self, stored: object) -> None:
        """Go on with what was learned before; anything that is not that is ignored."""
        if not isinstance(stored, dict):
            return
        numbers = {name: stored.get(name) for name in _KEPT}
        if all(isinstance(value, int | float) and math.isfinite(value) for value in numbers.values()):
            for name, value in numbers.items():
                setattr(self, name, value)


_KEPT = ("weight", "sum_x", "sum_y", "sum_xx", "sum_xy", "spread_watts", "learned_seconds")
