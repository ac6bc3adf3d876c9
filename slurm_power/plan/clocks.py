"""What a clock lock does to decoding: draw and performance against the clock.

Decoding waits for memory, not for arithmetic, and draws far below the power limit: a cap changes nothing and
a clock lock does. ``power = static + dynamic x clock^e`` and ``performance = 1 / (1 - b + b / clock)``, with
the clock as a share of the unlocked one. The exponent e is the least-squares fit over the A100 cap sweep
published with the Emerald Phoenix demonstration (2025); the static share and the share b of the time that
follows the clock are consistent with -32 % energy per token on an H200 (arXiv 2605.11999). The plant of the
test bed computes by the same form (PHYSICS.md).
"""

import math

_STATIC_RATIO = 0.4
_CLOCK_EXPONENT = 1.36
_CLOCK_BOUND_RATIO = 0.12
# Where the fit ends; nothing is known of slower clocks.
LEAST_CLOCK_RATIO = 0.56
_CLOCK_RATIOS = (1.0, 0.9, 0.8, 0.7, 0.6, LEAST_CLOCK_RATIO)
# NVIDIA GPUs offer clocks in steps of 15 MHz; a lock in between is rounded by the driver.
_STEP_HERTZ = 15e6


def _power_ratio(clock_ratio: float) -> float:
    return _STATIC_RATIO + (1.0 - _STATIC_RATIO) * math.pow(clock_ratio, _CLOCK_EXPONENT)


def _performance_ratio(clock_ratio: float) -> float:
    return 1.0 / (1.0 - _CLOCK_BOUND_RATIO + _CLOCK_BOUND_RATIO / clock_ratio)


# As the curves of caps are: (share of the unlocked power, share of the unlocked performance).
LOCK_CURVE = tuple((_power_ratio(ratio), _performance_ratio(ratio)) for ratio in _CLOCK_RATIOS)


def lock_hertz_for(power_ratio: float, full_hertz: float) -> float:
    """The clock lock that brings the draw down to a share of the unlocked one, rounded down to a step."""
    dynamic = max(0.0, power_ratio - _STATIC_RATIO) / (1.0 - _STATIC_RATIO)
    ratio = min(1.0, max(LEAST_CLOCK_RATIO, math.pow(dynamic, 1.0 / _CLOCK_EXPONENT)))
    return max(_STEP_HERTZ, _STEP_HERTZ * ((ratio * full_hertz + 1.0) // _STEP_HERTZ))
